"""Reads and decodes TFDS examples of `cell_types`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.type_names import UNKNOWN
from cellclass_tf.maskrcnn.config import DataConfig


def fields_of(
    data: DataConfig, input_context: tf.distribute.InputContext | None = None
) -> tf.data.Dataset:
    """Reads the fields of a split, as PNGs, or decoded and cached in memory.

    Args:
      data: says which dataset and split are read.
      input_context: TensorFlow's description of one of several input pipelines; None if
        there is only one.

    Raises:
      ValueError: if the data directory is not set.
    """
    import tensorflow_datasets as tfds

    if not data.tfds_name or not data.tfds_data_dir:
        raise ValueError(
            "Expected tfds_name and tfds_data_dir of the data; got "
            f"{data.tfds_name!r}, {data.tfds_data_dir!r}. Without the data directory, "
            "TFDS would read the working directory."
        )
    skip = tfds.decode.SkipDecoding()
    fields = tfds.load(
        data.tfds_name,
        split=data.tfds_split,
        data_dir=data.tfds_data_dir,
        shuffle_files=data.is_training,
        decoders={"image": skip, "labels": skip},
        read_config=tfds.ReadConfig(shuffle_seed=data.seed, try_autocache=False),
    )
    if input_context and input_context.num_input_pipelines > 1:
        fields = fields.shard(
            input_context.num_input_pipelines, input_context.input_pipeline_id
        )
    fields = fields.map(_of_use)
    if data.cache:
        fields = fields.map(_with_pixels, tf.data.AUTOTUNE).cache()
    return fields


@dataclasses.dataclass(frozen=True)
class Field:
    """A decoded field.

    Attributes:
      image: (H, W, 3) uint8 merged image.
      cells: annotated cells.
      pixel_size_um: pixel size of the image; 0 if unknown.
      group: acquisition group; the name of the image if it has none.
      name: name of the image.
      split: split of the dataset.
    """

    image: np.ndarray
    cells: Cells
    pixel_size_um: float
    group: str = ""
    name: str = ""
    split: str = ""


def decoded_fields(
    data: DataConfig, split: str, type_names: Sequence[str]
) -> Iterator[Field]:
    """Returns the fields of a split one at a time, always in the same order.

    Args:
      data: says which dataset is read.
      split: split of the dataset.
      type_names: names of the cell types, in class order.
    """
    read = data.replace(tfds_split=split, is_training=False, cache=False)
    return (
        dataclasses.replace(field_of(example, type_names), split=split)
        for example in fields_of(read)
    )


def field_of(example: Mapping[str, Any], type_names: Sequence[str]) -> Field:
    """Decodes an example to NumPy arrays."""
    image, labels = (values.numpy() for values in decode(example))
    names = (UNKNOWN, *type_names)
    types = [names[i + 1] for i in example["cells"]["type"]]
    cells = Cells.from_labels(labels.astype(np.int32), tuple(type_names), types)
    name, group = (example[k].numpy().decode() for k in ("image_name", "group"))
    return Field(image, cells, float(example["pixel_size_um"]), group or name, name)


def decode(example: Mapping[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the image, (H, W, 3) uint8, and the labels, (H, W) uint16, of an example.

    PNGs are decoded; pixels that were decoded before are returned as they are.
    """
    image, labels = example["image"], example["labels"]
    if image.dtype == tf.string:
        image = tf.io.decode_png(image, channels=3)
        labels = tf.io.decode_png(labels, channels=1, dtype=tf.uint16)
    return image, labels[..., 0]


def fingerprint(names: tf.Tensor) -> tf.Tensor:
    """Returns int64 hashes of image names, for places where strings are not possible."""
    return tf.strings.to_hash_bucket_fast(names, (1 << 63) - 1)


def _of_use(example: Mapping[str, Any]) -> dict[str, Any]:
    used = ("image", "labels", "pixel_size_um", "image_name", "group")
    kept = {key: example[key] for key in used}
    return kept | {"cells": {k: example["cells"][k] for k in ("type", "area_px")}}


def _with_pixels(example: dict[str, Any]) -> dict[str, Any]:
    image, labels = decode(example)
    return example | {"image": image, "labels": labels[..., tf.newaxis]}
