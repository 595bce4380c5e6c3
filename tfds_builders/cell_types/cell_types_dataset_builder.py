"""The dataset `cell_types`: fields of view with every cell outlined and named."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

import cellclass_tf as cc
from cellclass_tf.datasets import examples, simulation
from cellclass_tf.study import MIXED


@dataclasses.dataclass
class CellTypesConfig(tfds.core.BuilderConfig):
    """A source of annotated fields.

    Attributes:
      study: folder of the study; '' for the one that holds `data_dir` as its tfds/.
      simulation: arguments of `cellclass_tf.simulate`, for a simulated source.
    """

    study: str = ""
    simulation: dict[str, int] | None = None


class Builder(tfds.core.GeneratorBasedBuilder):
    """Two-channel fluorescence fields with instance masks and cell types."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {
        "1.0.0": "Merged image, label image, and box, type, area by cell."
    }
    BUILDER_CONFIGS: ClassVar = [
        CellTypesConfig(
            name="simulated",
            description="Simulated HEK-like and N2a-like cultures with exact truth.",
            simulation={"images_per_type": 24, "mixed": 8, "size": 512, "seed": 0},
        ),
        CellTypesConfig(name="study", description="The annotated images of a study."),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        names = self._cell_types()
        cell = {
            "box": tfds.features.BBoxFeature(doc="Shares of height and width."),
            "type": tfds.features.ClassLabel(names=names),
            "area_px": tfds.features.Scalar(np.int64, doc="Pixels of the cell."),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(None, None, 3),
                        doc="Red 0, green cytoplasm, blue nuclei.",
                    ),
                    "labels": tfds.features.Image(
                        shape=(None, None, 1),
                        dtype=np.uint16,
                        encoding_format="png",
                        doc="0 background; k is the k-th entry of cells.",
                    ),
                    "cells": tfds.features.Sequence(cell),
                    "image_name": tfds.features.Text(),
                    "culture": tfds.features.ClassLabel(names=[*names, MIXED]),
                    "group": tfds.features.Text(doc="Dish, well or slide."),
                    "pixel_size_um": tfds.features.Scalar(
                        np.float32, doc="0: unknown."
                    ),
                }
            ),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        study = self._study()
        rows, _ = examples.rows_of_dataset(study)
        self.info.metadata["fingerprint"] = examples.fingerprint_of_dataset(study, rows)
        present = sorted({row.split for row in rows})
        return {
            split: self._generate_examples(study, [r for r in rows if r.split == split])
            for split in present
        }

    def _generate_examples(self, study, rows):
        for row in rows:
            yield row.image, examples.example_of_row(study, row)

    def _cell_types(self) -> list[str]:
        if self.builder_config.simulation:
            return list(simulation.CELL_TYPES)
        return list(self._study().cell_types)

    def _study(self) -> cc.Study:
        config = self.builder_config
        if config.simulation:
            return self._simulated_study()
        return cc.Study.open(config.study or pathlib.Path(self._data_dir_root).parent)

    def _simulated_study(self) -> cc.Study:
        # The folder lives as long as the builder, whose generators read from it.
        self._folder = tempfile.TemporaryDirectory(prefix="cell_types_")
        root = pathlib.Path(self._folder.name) / "study"
        outcomes = [
            cc.simulate(root, **self.builder_config.simulation),
            cc.convert(root / "raw", root, group=simulation.GROUP_PATTERN),
            cc.import_masks(root, root / "truth"),
        ]
        failures = {k: v for o in outcomes for k, v in o.failures.items()}
        if failures:
            raise RuntimeError(f"The simulated study could not be made: {failures}")
        return cc.Study.open(root)
