"""TFDS examples of `cell_types`: read, and decoded when they are needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.type_names import UNKNOWN
from cellclass_tf.maskrcnn.config import DataConfig


def fields_of(
    data: DataConfig, input_context=None, split: str | None = None
) -> tf.data.Dataset:
    """Reads the fields of a split, as PNGs, or decoded and kept in memory.

    Args:
      data: names the dataset.
      input_context: of one of several input pipelines; None for the only one.
      split: of the dataset; None for that of `data`.

    Raises:
      ValueError: if the data directory is not set.
    """
    import tensorflow_datasets as tfds

    if not data.tfds_name or not data.tfds_data_dir:
        raise ValueError(
            "Expected tfds_name and tfds_data_dir of the data; got "
            f"{data.tfds_name!r}, {data.tfds_data_dir!r}. Without the directory the "
            "working directory would be read."
        )
    skip = tfds.decode.SkipDecoding()
    fields = tfds.load(
        data.tfds_name,
        split=split or data.tfds_split,
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


def decode(example):
    """The image, (H, W, 3) uint8, and the labels, (H, W) uint16, of an example.

    They are its PNGs, or what was decoded of them before.
    """
    image, labels = example["image"], example["labels"]
    if image.dtype == tf.string:
        image = tf.io.decode_png(image, channels=3)
        labels = tf.io.decode_png(labels, channels=1, dtype=tf.uint16)
    return image, labels[..., 0]


def cells_of(example, type_names: Sequence[str]) -> Cells:
    """The annotated cells of an example, read eagerly."""
    labels = decode(example)[1].numpy().astype(np.int32)
    names = (UNKNOWN, *type_names)
    types = [names[i + 1] for i in example["cells"]["type"]]
    return Cells.from_labels(labels, tuple(type_names), types)


def fingerprint(names):
    """Numbers that stand for image names where no text can go, int64."""
    return tf.strings.to_hash_bucket_fast(names, (1 << 63) - 1)


def _of_use(example):
    used = ("image", "labels", "pixel_size_um", "image_name", "group")
    kept = {key: example[key] for key in used}
    return kept | {"cells": {k: example["cells"][k] for k in ("type", "area_px")}}


def _with_pixels(example):
    image, labels = decode(example)
    return example | {"image": image, "labels": labels[..., tf.newaxis]}
