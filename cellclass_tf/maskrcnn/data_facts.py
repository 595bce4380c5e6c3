"""Sets the parameters of an experiment that depend on the dataset."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from official.core import config_definitions as cfg

from cellclass_tf.core import model_metadata
from cellclass_tf.core.type_names import UNKNOWN
from cellclass_tf.errors import InputError, command
from cellclass_tf.labels.sizes import diameters_of
from cellclass_tf.maskrcnn.config import (
    LEAST_DETECTIONS,
    LEAST_PROPOSALS,
    CellMaskRCNNTask,
)
from cellclass_tf.splits.assignment import UNTYPED

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """Properties of a dataset that determine parameters.

    Attributes:
      type_names: names of the cell types, in class order.
      cell_diameter_px: median diameter of the training cells (of a disc of the same area),
        in pixels of `pixel_size_um` if that is known.
      cells_by_type: number of training cells of each type, in class order.
      most_cells: the largest number of cells in one field.
      densest: the largest number of cells per pixel of a field.
      pixel_size_um: median of the fields' pixel sizes; 0 if any is unknown.
      decoded_bytes: size of all training fields in memory.
      fields: number of training fields.
      validation_fields: number of validation fields.
      untyped_fields: number of fields with cells of unknown type.
      fingerprint: fingerprint of the dataset.
      labelled_images: `model_metadata.short_sha256` of the images with known types in the
        splits that a model is trained or calibrated on.
    """

    type_names: tuple[str, ...]
    cell_diameter_px: float
    cells_by_type: tuple[int, ...]
    most_cells: int
    densest: float
    pixel_size_um: float
    decoded_bytes: int
    fields: int
    validation_fields: int
    untyped_fields: int
    fingerprint: str
    labelled_images: tuple[str, ...] = ()


def apply_facts(
    params: cfg.ExperimentConfig, facts: DataFacts, cache_bytes: int = 2 << 30
) -> None:
    """Sets types, scale, anchors, maximum numbers of cells, and caching in `params`."""
    task, model = params.task, params.task.model
    task.type_names = list(facts.type_names)
    task.cell_diameter_px = round(facts.cell_diameter_px, 2)
    task.pixel_size_um = round(facts.pixel_size_um, 6)
    task.scale = round(task.model_diameter_px / facts.cell_diameter_px, 4)
    task.fingerprint = facts.fingerprint
    task.labelled_images = list(facts.labelled_images)
    model.num_classes = len(facts.type_names) + 1
    task.train_data.untyped_split = UNTYPED if facts.untyped_fields else ""
    if task.balance_types:
        task.losses.class_weights = class_weights(facts.cells_by_type)
    # On three levels, anchors are as wide as half a median cell, one, and two.
    model.anchor.anchor_size = round(
        task.model_diameter_px / 2 ** (model.min_level + 0.5), 3
    )
    # A composed crop can contain the cells of two crops.
    crop = 2 * _room(facts, model.input_size[0] / task.scale * _largest_crop(task))
    # A mixed field may be denser than the pure cultures: allow for twice as many cells as
    # fit into a tile side by side.
    packed = 2 * (task.export_size_px / task.model_diameter_px) ** 2
    tile = max(_room(facts, task.export_size_px / task.scale), math.ceil(packed))
    for data in (task.train_data, task.validation_data):
        data.parser.max_num_instances = crop
        data.cache = facts.decoded_bytes <= cache_bytes
        # The shuffle buffer may contain decoded fields, too.
        fields = facts.fields * cache_bytes // max(facts.decoded_bytes, 1)
        data.shuffle_buffer_size = max(2, min(facts.fields, fields, 1000))
    model.detection_generator.max_num_detections = max(tile, LEAST_DETECTIONS)
    # Several proposals per cell remain after suppression. With more proposals there are
    # more false positives in fields unlike the training fields.
    model.roi_generator.test_num_proposals = max(2 * tile, LEAST_PROPOSALS)
    model.roi_generator.test_pre_nms_top_k = 2 * model.roi_generator.test_num_proposals


def class_weights(cells_by_type: Sequence[int]) -> list[float]:
    """Returns the loss weights of the background (1) and of the types.

    Weights are inversely proportional to the number of cells, so that every type has the
    same total weight, and they average 1 over all cells. They are limited to the range 0.25
    to 4.
    """
    cells, types = sum(cells_by_type), len(cells_by_type)
    weights = (cells / (types * max(n, 1)) for n in cells_by_type)
    return [1.0, *(round(min(max(weight, 0.25), 4.0), 3) for weight in weights)]


def _largest_crop(task: CellMaskRCNNTask) -> float:
    return 1 / task.train_data.parser.aug_scale_min


def _room(facts: DataFacts, width_px: float) -> int:
    """Returns the maximum number of cells in a square of a field, plus half as many."""
    most = min(facts.most_cells, math.ceil(facts.densest * width_px**2 * 1.5) + 10)
    return int(math.ceil(most * 1.5 / 8) * 8)


def facts_of_dataset(name: str, data_dir: str | None) -> DataFacts:
    """Reads a prepared `cell_types` dataset once, without decoding its images.

    Raises:
      InputError: if it has no training split or no cells, or a record is broken.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    skip = {"image": tfds.decode.SkipDecoding(), "labels": tfds.decode.SkipDecoding()}
    if "train" not in builder.info.splits:
        raise InputError(
            f"{name} in {data_dir} has no split 'train' (it has "
            f"{sorted(builder.info.splits)}). Run `cellclass dataset` on a study with "
            "annotated pure cultures."
        )
    diameters, counts, densities, sizes, decoded = [], [], [], [], 0
    names = _type_names(builder)
    by_type = np.zeros(len(names), np.int64)
    for split in ("train", "validation", UNTYPED):
        if split not in builder.info.splits:
            continue
        for example in _records(builder, split, skip):
            height, width = _png_size(example["image"])
            areas = example["cells"]["area_px"]
            counts.append(len(areas))
            densities.append(len(areas) / (height * width))
            if split == "train":
                types = example["cells"]["type"]
                by_type += np.bincount(types, minlength=len(names))
                diameters.append(diameters_of(areas))
                sizes.append(float(example["pixel_size_um"]))
            if split != "validation":
                decoded += height * width * 5
    # If some are unknown, no pixel size is valid for all fields.
    pixel_size_um = float(np.median(sizes)) if all(sizes) else 0.0
    if pixel_size_um:
        zooms = np.array(sizes) / pixel_size_um
        diameters = [d * zoom for d, zoom in zip(diameters, zooms, strict=True)]
    diameters = np.concatenate(diameters)
    if not diameters.size:
        raise InputError(
            f"{name} in {data_dir}: the training split has no cells. Annotate images of "
            "pure cultures, then run `cellclass dataset`."
        )
    splits = builder.info.splits
    return DataFacts(
        type_names=names,
        cell_diameter_px=float(np.median(diameters)),
        cells_by_type=tuple(by_type.tolist()),
        most_cells=max(counts),
        densest=max(densities),
        pixel_size_um=pixel_size_um,
        decoded_bytes=decoded,
        fields=splits["train"].num_examples,
        validation_fields=_count(splits, "validation"),
        untyped_fields=_count(splits, UNTYPED),
        fingerprint=(builder.info.metadata or {}).get("fingerprint", ""),
        labelled_images=_labelled_images(builder.info.metadata or {}),
    )


def _labelled_images(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the images with known types that a model is trained or calibrated on."""
    fields = metadata.get("fields", {}).values()
    # Composed fields are made of validation fields.
    found = {
        model_metadata.short_sha256(field["image_sha256"])
        for field in fields
        if field["split"] in ("train", "validation", UNTYPED)
        and any(n for name, n in field["cells"].items() if name != UNKNOWN)
    }
    return tuple(sorted(found))


def _count(splits: Mapping[str, Any], name: str) -> int:
    return splits[name].num_examples if name in splits else 0


def _records(
    builder: tfds.core.DatasetBuilder, split: str, decoders: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    try:
        yield from tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders))
    except tf.errors.OpError as error:
        check = command("check", dataset=builder.data_path)
        raise InputError(
            f"{builder.data_path}: a record of the split {split} cannot be read "
            f"({type(error).__name__}). `{check}` says which; delete "
            "the folder and run `cellclass dataset` again."
        ) from error


def _type_names(builder: tfds.core.DatasetBuilder) -> tuple[str, ...]:
    """Returns the type names at the time of preparation; the study may have changed."""
    import tensorflow_datasets as tfds

    prepared = tfds.builder_from_directory(builder.data_path)
    return tuple(prepared.info.features["cells"]["type"].names)


def _png_size(png: bytes) -> tuple[int, int]:
    return int.from_bytes(png[20:24], "big"), int.from_bytes(png[16:20], "big")
