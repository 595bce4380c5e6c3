"""The label-image input path: TFDS examples to Model Garden's tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cellclass_tf.core.cells import Cells
from cellclass_tf.maskrcnn.config import CellMaskRCNNTask, DataConfig
from cellclass_tf.maskrcnn.input import augmentation
from cellclass_tf.maskrcnn.input.anchor_labels import SeededAnchorLabeler
from cellclass_tf.maskrcnn.model_garden import anchor, box_ops, preprocess_ops


def build_dataset(
    task: CellMaskRCNNTask, data: DataConfig, input_context=None
) -> tf.data.Dataset:
    """Builds endless batches of random crops for training.

    Fields are held as files of PNGs until they are cropped; decoded only where all of
    them fit into memory (`data.cache`). The same seed gives the same batches.

    Returns:
      A dataset of (images, labels); images (B, S, S, 3) float32, normalised; labels
      as Model Garden's Mask R-CNN task takes them, and `fields`, (B, 2) int64: the
      `fingerprint` of a crop's image, and of the one whose cells may have come in.

    Raises:
      ValueError: if the data directory is not set.
    """
    fields = fields_of(data, input_context)
    fields = fields.shuffle(data.shuffle_buffer_size, seed=data.seed).repeat()
    fields = tf.data.Dataset.zip(_pairs(fields), tf.data.Dataset.counter())
    parse = Parser(task, data).parse_for_training
    dataset = fields.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    batch = batch_size(data, input_context)
    dataset = dataset.batch(batch, drop_remainder=data.drop_remainder)
    # Of a dataset that may end, several workers would not know the size of a batch.
    dataset = dataset.apply(
        tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    )
    return dataset.prefetch(tf.data.AUTOTUNE)


def batch_size(data: DataConfig, input_context=None) -> int:
    """Examples of one batch of one replica."""
    if input_context:
        return input_context.get_per_replica_batch_size(data.global_batch_size)
    return data.global_batch_size


def normalise(image: tf.Tensor, *, grayscale: bool = False) -> tf.Tensor:
    """Turns uint8 grey values, or the same as float, into the network's input.

    Args:
      image: (..., 3): 0, cytoplasm, nuclei.
      grayscale: let the network see the cytoplasm alone, three times.
    """
    if grayscale:
        image = tf.repeat(image[..., 1:2], 3, axis=-1)
    return preprocess_ops.normalize_image(tf.cast(image, tf.float32) / 255.0)


class _Targets(NamedTuple):
    """Cells of a crop: N boxes and outer boxes (N, 4), classes from 1 on (N,), masks.

    The masks, (N, m, m) float32, fill the outer boxes, so that a box which is a little
    small does not cut the cell's outline.
    """

    boxes: tf.Tensor
    outer_boxes: tf.Tensor
    classes: tf.Tensor
    masks: tf.Tensor


class Parser:
    """Makes the network's input and targets of a field's image and label image."""

    def __init__(self, task: CellMaskRCNNTask, data: DataConfig):
        self._task, self._data, self._model = task, data, task.model
        self._size = task.model.input_size[0]

    def parse_for_training(self, pair, number):
        """Takes a random crop of a field; see `augmentation`.

        Args:
          pair: two examples of `cell_types`; into some crops of the first, cells of
            the second are moved.
          number: the crop's number, which with the seed makes its random numbers.

        Returns:
          The image, (S, S, 3) float32, normalised, and Model Garden's labels.
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
        targets = self._targets(cells, labels)
        labels = self._training_labels(targets, seed)
        image = normalise(image, grayscale=self._task.grayscale)
        return image, labels | {"fields": fingerprint(names)}

    def _crop(self, example, seed):
        parser = self._data.parser
        image, labels = decode(example)
        image, labels = augmentation.random_crop(
            image,
            labels,
            size=self._width_in(example),
            scale_range=(parser.aug_scale_min, parser.aug_scale_max),
            seed=seed,
        )
        image, labels = augmentation.random_turn(image, labels, seed=seed)
        cells = {key: example["cells"][key] for key in ("type", "area_px")}
        return image, labels, cells

    def _width_in(self, example):
        """Pixels of a field that the network's input is wide, at the same µm."""
        return self._size / scale_of(self._task, example)

    def _composed(self, image, labels, cells, other, seed):
        # The same seed gives the same scale.
        other_image, other_labels, other_cells = self._crop(other, seed)
        other_image, other_labels, other_cells = _as_wide(
            other_image, other_labels, other_cells, tf.shape(labels)[0]
        )
        image, moved = augmentation.copy_paste(
            image,
            labels,
            other_image,
            other_labels,
            most_overlap=0.2,
            diameter_px=self._task.cell_diameter_px,
        )
        first = tf.shape(cells["type"])[0]
        labels = tf.where(moved > 0, moved + first, labels)
        both = {k: tf.concat([cells[k], other_cells[k]], axis=0) for k in cells}
        return image, labels, both

    def _resize(self, image):
        image = tf.cast(image, tf.float32)
        image = tf.cond(
            tf.equal(tf.shape(image)[0], self._size),
            lambda: image,
            lambda: tf.image.resize(image, [self._size] * 2, antialias=True),
        )
        return tf.ensure_shape(image, [self._size, self._size, 3])

    def _targets(self, cells, labels):
        """Cuts the cells out of a crop's label image, one at a time.

        Returns:
          Boxes in the network's pixels.
        """
        ids, boxes = visible_cells(
            labels, cells["area_px"], self._data.min_visible_share
        )
        classes = tf.cast(tf.gather(cells["type"], ids - 1), tf.int32) + 1
        shape = tf.cast(tf.shape(labels), tf.float32)
        outer = box_ops.compute_outer_boxes(boxes, shape, self._model.outer_boxes_scale)
        masks = masks_in_boxes(labels, ids, outer, self._data.parser.mask_crop_size)
        zoom = self._size / shape[0]
        return _Targets(boxes * zoom, outer * zoom, classes, masks)

    def _training_labels(self, targets: _Targets, seed):
        parser = self._data.parser
        labeler = SeededAnchorLabeler(
            parser.rpn_match_threshold,
            parser.rpn_unmatched_threshold,
            parser.rpn_batch_size_per_im,
            parser.rpn_fg_fraction,
        )
        anchors, room = self._anchors(), parser.max_num_instances
        score_targets, box_targets = labeler.label_anchors(
            anchors, targets.boxes, targets.classes, seed=seed
        )
        return {
            "anchor_boxes": anchors,
            "image_info": image_info(self._size),
            "rpn_score_targets": score_targets,
            "rpn_box_targets": box_targets,
            "gt_boxes": _pad(targets.boxes, room),
            "gt_outer_boxes": _pad(targets.outer_boxes, room),
            "gt_classes": _pad(targets.classes, room),
            "gt_masks": _pad(targets.masks, room),
        }

    def _anchors(self):
        return build_anchors(self._model, self._size)


def scale_of(task: CellMaskRCNNTask, field):
    """Pixels of the network's input per pixel of a field, () float32."""
    if not task.pixel_size_um:
        return tf.constant(task.scale)
    known = tf.cast(field["pixel_size_um"], tf.float32)
    return task.scale * tf.where(known > 0, known / task.pixel_size_um, 1.0)


def image_info(size: int):
    """What Model Garden tells of an image that was not resized, (4, 2) float32."""
    size = float(size)
    return tf.constant([[size, size], [size, size], [1.0, 1.0], [0.0, 0.0]])


def fingerprint(names):
    """Numbers that stand for image names where no text can go, int64."""
    return tf.strings.to_hash_bucket_fast(names, (1 << 63) - 1)


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
    types = [type_names[i] for i in example["cells"]["type"]]
    return Cells.from_labels(labels, tuple(type_names), types)


def build_anchors(model, size: int):
    """The anchors by level, (h, w, 4 * anchors) float32, for a (size, size) input."""
    generator = anchor.build_anchor_generator(
        min_level=model.min_level,
        max_level=model.max_level,
        num_scales=model.anchor.num_scales,
        aspect_ratios=model.anchor.aspect_ratios,
        anchor_size=model.anchor.anchor_size,
    )
    return generator(image_size=(size, size))


def visible_cells(labels, areas_px, min_visible_share: float):
    """Finds the cells of which a crop shows enough, and their boxes.

    Args:
      labels: (H, W) int32 label image of the crop.
      areas_px: (N,) areas of cell 1..N in the whole field; the crop's area counts in
        the same pixels.
      min_visible_share: cells of which less is seen are left out.

    Returns:
      ids (M,) int32, boxes (M, 4) float32 [top, left, bottom, right) in pixels.
    """
    count = tf.shape(areas_px)[0] + 1
    flat = tf.reshape(labels, [-1])
    seen = tf.math.bincount(flat, minlength=count, maxlength=count)
    whole = tf.concat([[1.0], tf.cast(areas_px, tf.float32)], axis=0)
    enough = tf.cast(seen, tf.float32) >= min_visible_share * whole
    # Background is number 0; and what is not seen at all has no box.
    enough &= (seen > 0) & (tf.range(count) > 0)
    rows, columns = tf.meshgrid(
        tf.range(tf.shape(labels)[0]), tf.range(tf.shape(labels)[1]), indexing="ij"
    )
    rows, columns = tf.reshape(rows, [-1]), tf.reshape(columns, [-1])
    edges = [
        tf.math.unsorted_segment_min(rows, flat, count),
        tf.math.unsorted_segment_min(columns, flat, count),
        tf.math.unsorted_segment_max(rows, flat, count) + 1,
        tf.math.unsorted_segment_max(columns, flat, count) + 1,
    ]
    ids = tf.cast(tf.where(enough)[:, 0], tf.int32)
    return ids, tf.cast(tf.gather(tf.stack(edges, axis=-1), ids), tf.float32)


def masks_in_boxes(labels, ids, boxes_yxyx, size: int):
    """Cuts each cell's mask out of the label image; never a stack of whole fields.

    Args:
      labels: (H, W) int32 label image.
      ids: (N,) int32 labels.
      boxes_yxyx: (N, 4) float32 boxes in pixels.
      size: the masks' width m.

    Returns:
      (N, m, m) float32 of 0 and 1, sampled at the middles of m x m squares of the box.
    """
    shape = tf.cast(tf.shape(labels), tf.float32)
    # crop_and_resize puts its samples on the box's edges and counts from pixel middles.
    top_left, bottom_right = boxes_yxyx[:, :2], boxes_yxyx[:, 2:]
    half = (bottom_right - top_left) / (2 * size)
    first, last = top_left + half - 0.5, bottom_right - half - 0.5
    samples = tf.image.crop_and_resize(
        tf.cast(labels, tf.float32)[tf.newaxis, ..., tf.newaxis],
        tf.concat([first, last], axis=1) / tf.tile(shape - 1, [2]),
        tf.zeros_like(ids),
        [size, size],
        method="nearest",
    )
    same = tf.equal(samples[..., 0], tf.cast(ids, tf.float32)[:, None, None])
    return tf.cast(same, tf.float32)


def fields_of(data: DataConfig, input_context=None) -> tf.data.Dataset:
    """Reads the fields of a split, as PNGs, or decoded and kept in memory.

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


def _of_use(example):
    used = ("image", "labels", "pixel_size_um", "image_name")
    kept = {key: example[key] for key in used}
    return kept | {"cells": {k: example["cells"][k] for k in ("type", "area_px")}}


def _with_pixels(example):
    image, labels = decode(example)
    return example | {"image": image, "labels": labels[..., tf.newaxis]}


def _as_wide(image, labels, cells, width):
    """Resizes a crop of another pixel size, and the areas of its cells."""
    own = tf.shape(labels)[0]
    share = tf.cast(width, tf.float64) / tf.cast(own, tf.float64)

    def resized():
        areas = tf.cast(cells["area_px"], tf.float64) * share**2
        smooth = tf.image.resize(image, [width, width], antialias=True)
        nearest = tf.image.resize(labels[..., tf.newaxis], [width, width], "nearest")
        return (
            tf.cast(tf.round(smooth), tf.uint8),
            nearest[..., 0],
            cells | {"area_px": tf.cast(areas, tf.int64)},
        )

    return tf.cond(tf.equal(own, width), lambda: (image, labels, cells), resized)


def _pairs(fields: tf.data.Dataset) -> tf.data.Dataset:
    """Pairs each field with the one after it."""

    def pair(window):
        both = tf.data.Dataset.zip(window)
        return tf.data.Dataset.zip(both.take(1), both.skip(1))

    return fields.window(2, shift=1, drop_remainder=True).flat_map(pair)


def _pad(values, room: int):
    return preprocess_ops.clip_or_pad_to_fixed_size(values, room, -1)
