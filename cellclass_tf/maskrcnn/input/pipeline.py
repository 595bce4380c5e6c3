"""The input pipeline of training: endless batches of random crops of fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from cellclass_tf.maskrcnn.config import CellMaskRCNNTask, DataConfig
from cellclass_tf.maskrcnn.input import (
    augmentation,
    crops,
    network_input,
    reading,
    targets,
)


def build_dataset(
    task: CellMaskRCNNTask,
    data: DataConfig,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Builds endless batches of random crops for training.

    Fields stay encoded as PNGs until they are cropped, unless all decoded fields fit into
    memory (`data.cache`). The same seed gives the same batches.

    Args:
      task: parameters of the network's input and targets.
      data: parameters of the crops; says which dataset is read.
      input_context: TensorFlow's description of one of several input pipelines; None if
        there is only one.

    Returns:
      A dataset of (images, labels): normalised images (B, S, S, 3) float32; and the labels
      for Model Garden's Mask R-CNN task, plus `fields` (B, 2) int64, the
      `reading.fingerprint` of the crop's field and of the field whose cells may be pasted.

    Raises:
      ValueError: if the data directory is not set.
    """
    fields = _endless(data, input_context)
    if data.untyped_split and data.untyped_share:
        untyped = data.replace(tfds_split=data.untyped_split)
        untyped = _endless(untyped, input_context)
        share = data.untyped_share
        fields = tf.data.Dataset.sample_from_datasets(
            [fields, untyped], [1 - share, share], seed=data.seed
        )
    fields = tf.data.Dataset.zip(_pairs(fields), tf.data.Dataset.counter())
    parse = Parser(task, data).parse_for_training
    dataset = fields.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    batch = batch_size(data, input_context)
    dataset = dataset.batch(batch, drop_remainder=data.drop_remainder)
    # Several workers need to know that the dataset does not end, for a static batch size.
    dataset = dataset.apply(
        tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    )
    return dataset.prefetch(tf.data.AUTOTUNE)


def _endless(
    data: DataConfig, input_context: tf.distribute.InputContext | None
) -> tf.data.Dataset:
    fields = reading.fields_of(data, input_context)
    return fields.shuffle(data.shuffle_buffer_size, seed=data.seed).repeat()


def batch_size(
    data: DataConfig, input_context: tf.distribute.InputContext | None = None
) -> int:
    """Returns the number of examples in a batch of one replica."""
    if input_context:
        return input_context.get_per_replica_batch_size(data.global_batch_size)
    return data.global_batch_size


class Parser:
    """Makes the network's input and targets from a field's image and label image."""

    def __init__(self, task: CellMaskRCNNTask, data: DataConfig) -> None:
        self._task, self._data = task, data
        self._size = task.model.input_size[0]

    def parse_for_training(
        self, pair: Sequence[Mapping[str, Any]], number: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, Any]]:
        """Takes a random crop of a field and augments it.

        Args:
          pair: two examples of `cell_types`; cells of the second are pasted into some
            crops of the first.
          number: number of the crop, which together with the seed determines its random
            numbers.

        Returns:
          The normalised image, (S, S, 3) float32, and the labels for Model Garden.
        """
        seed = tf.stack([tf.cast(self._data.seed, tf.int64), number])
        image, labels, cells = self._crop(pair[0], seed)
        names = tf.stack([field["image_name"] for field in pair])
        if self._data.composed_share:
            chance = tf.random.stateless_uniform([], seed + 4)
            image, labels, cells = tf.cond(
                chance < self._data.composed_share,
                lambda: self._composed(image, labels, cells, pair[1], seed),
                lambda: (image, labels, cells),
            )
        image = augmentation.random_blur(
            self._resize(image), most_px=self._data.blur, seed=seed
        )
        image = augmentation.random_intensity(
            image,
            gain=self._data.gain,
            gamma=self._data.gamma,
            noise=self._data.noise,
            seed=seed,
        )
        found = targets.cut_targets(self._task, self._data, labels, cells)
        labels = targets.training_labels(self._task, self._data, found, seed)
        image = network_input.normalise(image, grayscale=self._task.grayscale)
        return image, labels | {"fields": reading.fingerprint(names)}

    def _crop(
        self, example: Mapping[str, Any], seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        parser = self._data.parser
        image, labels = reading.decode(example)
        image, labels = crops.random_crop(
            image,
            labels,
            size=self._width_in(example),
            scale_range=(parser.aug_scale_min, parser.aug_scale_max),
            seed=seed,
        )
        image, labels = crops.random_turn(image, labels, seed=seed)
        cells = {key: example["cells"][key] for key in ("type", "area_px")}
        return image, labels, cells

    def _width_in(self, example: Mapping[str, Any]) -> tf.Tensor:
        """Returns the width of the network's input in pixels of a field."""
        return self._size / crops.scale_of(self._task, example)

    def _composed(
        self,
        image: tf.Tensor,
        labels: tf.Tensor,
        cells: Mapping[str, tf.Tensor],
        other: Mapping[str, Any],
        seed: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        # The same seed gives both crops the same scale.
        other_image, other_labels, other_cells = self._crop(other, seed)
        other_image, other_labels, other_cells = crops.resize_crop(
            other_image, other_labels, other_cells, tf.shape(labels)[0]
        )
        image, moved = augmentation.copy_paste(
            image,
            labels,
            other_image,
            other_labels,
            most_overlap=augmentation.MOST_OVERLAP,
            diameter_px=self._task.cell_diameter_px,
        )
        first = tf.shape(cells["type"])[0]
        labels = tf.where(moved > 0, moved + first, labels)
        both = {k: tf.concat([cells[k], other_cells[k]], axis=0) for k in cells}
        return image, labels, both

    def _resize(self, image: tf.Tensor) -> tf.Tensor:
        image = tf.cast(image, tf.float32)
        image = tf.cond(
            tf.equal(tf.shape(image)[0], self._size),
            lambda: image,
            lambda: tf.image.resize(image, [self._size] * 2, antialias=True),
        )
        return tf.ensure_shape(image, [self._size, self._size, 3])


def _pairs(fields: tf.data.Dataset) -> tf.data.Dataset:
    """Pairs each field with the one after it."""

    def pair(window: Any) -> tf.data.Dataset:
        both = tf.data.Dataset.zip(window)
        return tf.data.Dataset.zip(both.take(1), both.skip(1))

    return fields.window(2, shift=1, drop_remainder=True).flat_map(pair)
