"""The dataset `cell_types`: fields of view with the outline and type of every cell."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants, shuffle
from tensorflow_datasets.core.utils import py_utils
from tensorflow_datasets.core.utils import version as tfds_version

from cellclass_tf import batch
from cellclass_tf.core.study import MIXED, Study
from cellclass_tf.datasets import examples, gaps, simulation
from cellclass_tf.datasets.contents import Contents, FieldFacts
from cellclass_tf.errors import InputError, one_line
from cellclass_tf.messages import logger
from cellclass_tf.splits.assignment import COMPOSED
from cellclass_tf.storage import atomic, digests, lock
from cellclass_tf.workflows import copy_paste, simulated_cultures
from cellclass_tf.workflows.simulated_cultures import SimulatedCultures

# Key and example.
Keyed = tuple[str, dict[str, Any]]


@dataclasses.dataclass
class CellTypesConfig(tfds.core.BuilderConfig):
    """A source of annotated fields.

    Attributes:
      cultures: parameters of simulated cultures; None for the images of a study.
    """

    cultures: SimulatedCultures | None = None


_SIMULATED = CellTypesConfig(
    name="simulated",
    description="Simulated HEK-like and N2a-like cultures with exact truth.",
    cultures=SimulatedCultures(images_per_type=24, mixed=8, size=512),
)
_SIMULATED_LARGE = CellTypesConfig(
    name="simulated_large",
    description="The same with 1,200 fields of 1104 x 1104 px per type, from 24 dishes each.",
    cultures=SimulatedCultures(images_per_type=1200, mixed=96, size=1104, dishes=24),
)
_STUDY = CellTypesConfig(name="study", description="The annotated images of a study.")

_SORTED_IN_MEMORY = 64 << 20


class Builder(tfds.core.GeneratorBasedBuilder):
    """Two-channel fluorescence fields with instance masks and cell types.

    In a version MAJOR.MINOR.0, MAJOR is the version of the examples' format, and MINOR counts
    the versions of a study's dataset. If the study has not changed, the newest version is
    loaded; otherwise a new version is prepared. Old versions are kept and can be loaded by
    their number.
    """

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar = {
        "1.0.0": "Merged image, label image, and box, type and area of each cell.",
        "2.0.0": "Composed fields and their sources; metadata with all contents. "
        "Simulated cultures with hazier nuclei and less camera noise. A study's fields "
        "with cells of unknown type (-1) are in the split `untyped`.",
    }
    # The configuration that `tfds build` makes by default; others are made by their names.
    BUILDER_CONFIGS: ClassVar = [_SIMULATED]

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike | None = None,
        config: str | CellTypesConfig | None = None,
        version: str | tfds.core.Version | None = None,
        study: str | None = None,
        allow_no_validation: bool = False,
        engine: batch.Engine = batch.IN_THIS_PROCESS,
    ) -> None:
        """Opens a version of the dataset, or plans a new one.

        Args:
          data_dir: TFDS's data directory, a path or a bucket.
          config: 'simulated', 'simulated_large', 'study' or a `CellTypesConfig`.
          version: version to open; None for the newest, or for a new one if the study has
            changed.
          study: folder of the study; None for the one that contains `data_dir`.
          allow_no_validation: whether to prepare the dataset even if no group can be held
            out for validation.
          engine: engine that makes the examples of a study. On Beam, workers write them to
            files, which this process then writes to the dataset; the bytes are the same.

        Raises:
          InputError: if there is neither a study nor a prepared dataset of one, or no
            dataset can be made of the study.
        """
        self._study_root = study or _study_beside(data_dir)
        self._given_data_dir = data_dir
        self._allow_no_validation = allow_no_validation
        # Whether to warn of images that are left out; `dataset` lists them itself.
        self.tells_failures = True
        self._beam = False
        self._engine = engine
        # Folder for examples that workers make.
        self._shared_folder: pathlib.Path | None = None
        super().__init__(data_dir=data_dir, config=config, version=version)
        # TFDS pickles a builder as these arguments.
        self._original_state |= {
            "study": study,
            "allow_no_validation": allow_no_validation,
        }

    @tfds.core.utils.classproperty
    @classmethod
    def builder_configs(cls) -> dict[str, CellTypesConfig]:
        """All configurations by name."""
        return {c.name: c for c in (_SIMULATED, _SIMULATED_LARGE, _STUDY)}

    @functools.cached_property
    def canonical_version(self) -> tfds.core.Version:
        """The version that is loaded if none is given."""
        editions = self.editions
        if self.builder_config.cultures or not (editions or self._study_root):
            return self.VERSION
        if not self._study_root:
            return editions[-1]
        newest = editions[-1] if editions else None
        if newest and newest.major == self.VERSION.major:
            if (
                _fingerprint(self._config_dir / str(newest))
                == self.contents.fingerprint
            ):
                return newest
            return tfds.core.Version(f"{newest.major}.{newest.minor + 1}.0")
        return self.VERSION

    @functools.cached_property
    def supported_versions(self) -> list[tfds.core.Version]:
        """The other versions in the data directory."""
        return [v for v in reversed(self.editions) if v != self.canonical_version]

    @property
    def release_notes(self) -> dict[str, str]:
        """The changes of each version, including those of the study."""
        notes = dict(self.RELEASE_NOTES)
        for version in self.editions:
            changes = _metadata(self._config_dir / str(version)).get("changes")
            if changes:
                notes[str(version)] = "; ".join(changes)
        return notes

    @functools.cached_property
    def checked(self) -> examples.Checked:
        """The checked images of the study, of which a new version would be made."""
        return examples.check_study(self._study())

    @property
    def contents(self) -> Contents:
        """The contents of a new version of a study's dataset."""
        return self.checked.contents

    @functools.cached_property
    def previous(self) -> Contents | None:
        """The contents of the newest other version; None if unknown."""
        earlier = [v for v in self.editions if v != self.version]
        if not earlier:
            return None
        try:
            return Contents.from_json(_metadata(self._config_dir / str(earlier[-1])))
        except (KeyError, TypeError):
            return None

    def download_and_prepare(
        self,
        *,
        download_config: tfds.download.DownloadConfig | None = None,
        **options: Any,
    ) -> None:
        """Prepares the dataset, on Apache Beam if `download_config` has Beam options.

        Raises:
          InputError: if the data directory is not writable, no dataset can be made of the
            study, or another process is writing to it.
        """
        held: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if not self.is_prepared():
            check_writable(self._data_dir_root)
            if self._study_root and not self.builder_config.cultures:
                held = lock.one_writer(pathlib.Path(self._study_root), "tfds.load")
        config = download_config or tfds.download.DownloadConfig()
        self._beam = bool(config.beam_options or config.beam_runner)
        # By default, TFDS holds a gigabyte of examples in memory before it sorts on disk.
        sorted_on_disk = py_utils.temporary_assignment(
            shuffle, "MAX_MEM_BUFFER_SIZE", _SORTED_IN_MEMORY
        )
        with held, sorted_on_disk, self._sharing():
            super().download_and_prepare(download_config=config, **options)

    @contextlib.contextmanager
    def _sharing(self) -> Iterator[None]:
        """Creates a folder in the study, where workers on other machines can write."""
        if self._engine.name == "local" or not self._study_root or self.is_prepared():
            yield
            return
        parent = pathlib.Path(self._study_root) / ".journal"
        atomic.remove_leftovers(parent)
        with atomic.temporary_folder(parent) as self._shared_folder:
            yield

    def _info(self) -> tfds.core.DatasetInfo:
        names = self._cell_types()
        cell = {
            "box": tfds.features.BBoxFeature(doc="Fractions of height and width."),
            "type": tfds.features.ClassLabel(
                names=names, doc="Type of the cell; -1 if unknown."
            ),
            "area_px": tfds.features.Scalar(
                np.int64, doc="Number of pixels of the cell."
            ),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(None, None, 3),
                        encoding_format="png",
                        doc="Red 0, green cytoplasm, blue nuclei.",
                    ),
                    "labels": tfds.features.Image(
                        shape=(None, None, 1),
                        dtype=np.uint16,
                        encoding_format="png",
                        doc="0 is background; k is the k-th entry of cells.",
                    ),
                    "cells": tfds.features.Sequence(
                        cell, doc="Cells 1 to N of the label image."
                    ),
                    "image_name": tfds.features.Text(doc="TYPE/NAME.png."),
                    "culture": tfds.features.ClassLabel(
                        names=[*names, MIXED], doc="Type of a pure culture, or mixed."
                    ),
                    "group": tfds.features.Text(doc="Dish, well or slide."),
                    "sources": tfds.features.Sequence(
                        tfds.features.Text(),
                        doc="Images that a composed field was made of.",
                    ),
                    "pixel_size_um": tfds.features.Scalar(
                        np.float32, doc="Pixel size in µm; 0 if unknown."
                    ),
                }
            ),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Any]:
        del dl_manager
        if self.builder_config.cultures:
            return self._simulated_splits(self.builder_config.cultures)
        return self._study_splits()

    def _generate_examples(self, function: Callable, pieces: list) -> Any:
        """Returns the keys and examples that `function` makes of each piece."""
        if self._beam:
            import apache_beam as beam

            # Without reshuffling, one worker would make all examples.
            return beam.Create(pieces) | beam.Reshuffle() | beam.FlatMap(function)
        return (pair for piece in pieces for pair in function(piece))

    def _simulated_splits(self, cultures: SimulatedCultures) -> dict[str, Any]:
        self.info.metadata["cultures"] = dataclasses.asdict(cultures)
        self.info.metadata["fingerprint"] = digests.fingerprint(
            str(self.VERSION), dataclasses.asdict(cultures)
        )
        function = functools.partial(simulated_cultures.examples_of_unit, cultures)
        return {
            split: self._generate_examples(function, units)
            for split, units in cultures.units().items()
        }

    def _study_splits(self) -> dict[str, Any]:
        study, contents = self._study(), self.contents
        gaps.refuse_gaps(study, contents, allow_no_validation=self._allow_no_validation)
        self.info.metadata.update(contents.to_json())
        if self.previous:
            self.info.metadata["changes"] = contents.changes_since(self.previous)
        rows = self.checked.rows
        if self.tells_failures:
            _tell_failures(study, self.checked.outcome)
        _record_splits(study, self.checked)
        pieces = collections.defaultdict(list)
        for row in rows:
            facts = contents.fields[row.image]
            pieces[facts.split].append((row, facts))
        function = functools.partial(_examples_of_row, study)
        work: dict[str, tuple[Callable, list]]
        work = {split: (function, pieces[split]) for split in sorted(pieces)}
        couples = copy_paste.pairs(
            [row for row, facts in pieces["validation"] if sum(facts.cells.values())]
        )
        if couples:
            sources = {
                row.image: contents.fields[row.image]
                for pair in couples
                for row in pair
            }
            function = functools.partial(_examples_of_couple, study, sources)
            work[COMPOSED] = function, couples
        if self._shared_folder is not None:
            return self._made_on_engine(work, self._shared_folder)
        return {
            split: self._generate_examples(*of_split)
            for split, of_split in work.items()
        }

    def _made_on_engine(
        self, work: Mapping[str, tuple[Callable, list]], folder: pathlib.Path
    ) -> dict[str, Iterator[Keyed]]:
        """Makes the examples of all splits on the engine, and reads them from files.

        TFDS's own writer for Beam does not work on every runner: Dask's loses what the
        writer emits at the end of a bundle. A map over pieces works on all runners.
        """
        jobs: list[batch.Job] = []
        files: dict[str, list[pathlib.Path]] = {}
        for split, (function, pieces) in work.items():
            files[split] = [folder / f"{split}-{i}" for i in range(len(pieces))]
            jobs += [
                batch.Job(f"{split} {i}", (function, piece, path), "", (path,))
                for i, (piece, path) in enumerate(
                    zip(pieces, files[split], strict=True)
                )
            ]
        outcome = batch.run(
            _write_examples, jobs, description="examples", engine=self._engine
        )
        for name, reason in outcome.failures.items():
            raise InputError(f"The examples of {name} could not be made: {reason}")
        return {split: _read_examples(paths) for split, paths in files.items()}

    def _cell_types(self) -> list[str]:
        if self.builder_config.cultures:
            return list(simulation.CELL_TYPES)
        if self._study_root:
            return list(self._study().cell_types)
        if self.editions:
            newest = self._config_dir / str(self.version)
            prepared = tfds.builder_from_directory(newest)
            return list(prepared.info.features["cells"]["type"].names)
        raise InputError(
            "cell_types/study is the dataset of a study: expected data_dir=STUDY/tfds, or "
            "a folder with a prepared dataset; got "
            f"{self._given_data_dir or 'no data_dir'}. Run `cellclass dataset`, or use "
            "cell_types/simulated."
        )

    def _study(self) -> Study:
        if self._study_root is None:
            raise ValueError("The dataset was opened without its study.")
        return Study.open(self._study_root)

    @property
    def _config_dir(self) -> tfds.core.Path:
        root = self._given_data_dir or constants.DATA_DIR
        return tfds.core.Path(root) / self.name / self.builder_config.name

    @functools.cached_property
    def editions(self) -> list[tfds.core.Version]:
        """The versions of this configuration in the data directory, oldest first."""
        if not self._config_dir.exists():
            return []
        return sorted(tfds_version.list_all_versions(self._config_dir))


def _examples_of_row(study: Study, piece: tuple) -> Iterator[Keyed]:
    yield examples.keyed_example_of_row(study, *piece)


def _write_examples(task: tuple[Callable, Any, pathlib.Path]) -> None:
    function, piece, path = task
    atomic.write_bytes(path, pickle.dumps(list(function(piece))))


def _read_examples(paths: list[pathlib.Path]) -> Iterator[Keyed]:
    """Yields the keys and examples in files that this run wrote; removes the files."""
    for path in paths:
        yield from pickle.loads(path.read_bytes())
        path.unlink()


def _examples_of_couple(
    study: Study, fields: dict[str, FieldFacts], couple: tuple
) -> Iterator[Keyed]:
    yield from copy_paste.composed_examples(study, [couple], fields)


def _tell_failures(study: Study, outcome: batch.Outcome) -> None:
    """Warns of images that are left out, since TFDS returns no outcome."""
    for name, reason in sorted(outcome.failures.items()):
        logger.warning(
            "%s: %s is left out of the dataset: %s", study.root, name, one_line(reason)
        )


def _record_splits(study: Study, checked: examples.Checked) -> None:
    try:
        checked.record(study)
    except OSError as error:
        raise InputError(
            f"{study.manifest_path}: the splits of the new version cannot be recorded "
            f"({error}). Without them, the next version could move images to other splits. "
            "Correct the permissions, or prepare a copy of the study."
        ) from error


def _study_beside(data_dir: str | os.PathLike | None) -> str | None:
    """Returns the study that contains a data directory; None if there is none."""
    if data_dir and Study.exists(pathlib.Path(data_dir).parent):
        return str(pathlib.Path(data_dir).parent)
    return None


def _metadata(folder: tfds.core.Path) -> dict[str, Any]:
    path = folder / constants.METADATA_FILENAME
    return json.loads(path.read_text()) if path.exists() else {}


def _fingerprint(folder: tfds.core.Path) -> str:
    return _metadata(folder).get("fingerprint", "")


def check_writable(data_dir: str) -> None:
    """Creates a folder if necessary; raises InputError if it is not writable."""
    folder = tfds.core.Path(data_dir)
    probe = folder / f"{atomic.PART_PREFIX}probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except (OSError, tf.errors.OpError) as error:
        raise InputError(
            f"{data_dir}: the dataset cannot be written to this folder ({error}). Correct the "
            "permissions, or choose another folder with --data_dir."
        ) from error
