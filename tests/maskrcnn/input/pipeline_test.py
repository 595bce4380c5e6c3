"""Tests of cellclass_tf.maskrcnn.input.pipeline."""

import numpy as np
import pytest
import tensorflow as tf
from official.vision.dataloaders import maskrcnn_input

from cellclass_tf.maskrcnn import config, data_facts
from cellclass_tf.maskrcnn.input import pipeline, reading, targets
from tests.maskrcnn.facts import facts

NUMBER = tf.constant(5, tf.int64)


def parser(most_cells=20):
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(params, facts(most_cells))
    return pipeline.Parser(params.task, params.task.train_data)


def field(rows, columns, size=128, pixel_size_um=0.5):
    """A field with a grid of 5 x 5 px cells, types in turn."""
    labels = np.zeros((size, size, 1), np.uint16)
    for i in range(rows * columns):
        top, left = 6 * (i // columns), 6 * (i % columns)
        labels[top : top + 5, left : left + 5] = i + 1
    count = rows * columns
    return {
        "image": np.full((size, size, 3), 60, np.uint8),
        "labels": labels,
        "cells": {
            "type": np.arange(count, dtype=np.int64) % 2,
            "area_px": np.full(count, 25, np.int64),
            "box": np.zeros((count, 4), np.float32),
        },
        "pixel_size_um": np.float32(pixel_size_um),
        "image_name": "HEK/a.png",
    }


def plain_parser(most_cells=20):
    """A parser that only rotates and mirrors crops."""
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(params, facts(most_cells))
    data = params.task.train_data
    data.composed_share = data.gain = data.gamma = data.noise = data.blur = 0.0
    data.parser.aug_scale_min = data.parser.aug_scale_max = 1.0
    return pipeline.Parser(params.task, data)


@pytest.mark.parametrize("grid", [(0, 0), (1, 1), (24, 25)])
def test_fields_of_no_one_and_six_hundred_cells_fit(grid):
    count = grid[0] * grid[1]
    crowd, example = parser(max(count, 20)), field(*grid, size=max(128, 6 * grid[1]))
    image, labels = crowd.parse_for_training((example, example), NUMBER)
    assert image.shape == (128, 128, 3)
    classes = labels["gt_classes"].numpy()
    real = classes > 0
    assert real.sum() <= count
    assert count == 0 or real.any()
    assert labels["gt_masks"].shape == (len(classes), 56, 56)
    assert np.isin(classes, [-1, 1, 2]).all()
    scores = np.concatenate(
        [s.numpy().ravel() for s in labels["rpn_score_targets"].values()]
    )
    assert (scores == 1).any() == (count > 0)


def test_no_cell_of_a_crowded_field_is_clipped():
    crowd = plain_parser(400)
    _, labels = crowd.parse_for_training((field(20, 20), field(0, 0)), NUMBER)
    assert (labels["gt_classes"].numpy() > 0).sum() == 400


def test_eager_and_tf_data_agree_to_the_last_bit_of_the_targets():
    the_parser, pair = parser(), (field(4, 4), field(2, 3))
    eager = the_parser.parse_for_training(pair, NUMBER)
    dataset = tf.data.Dataset.from_tensors((pair, NUMBER))
    for _ in range(2):
        (graph,) = dataset.map(the_parser.parse_for_training)
        np.testing.assert_allclose(eager[0], graph[0], atol=1e-4)
        tf.nest.map_structure(np.testing.assert_array_equal, eager[1], graph[1])
    (other,) = tf.data.Dataset.from_tensors((pair, NUMBER + 1)).map(
        the_parser.parse_for_training
    )
    assert not np.array_equal(eager[1]["gt_boxes"], other[1]["gt_boxes"])
    scores = [labels["rpn_score_targets"]["2"] for _, labels in (eager, other)]
    assert not np.array_equal(*scores)


def test_targets_equal_those_of_model_garden_for_the_same_crop():
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(params, facts())
    task, data = params.task, params.task.train_data
    data.composed_share = data.gain = data.gamma = data.noise = data.blur = 0.0
    data.parser.aug_scale_min = data.parser.aug_scale_max = 1.0
    task.scale = 1.0
    # As large as the network's input, so that neither cuts anything off; with discs,
    # and no turn that would set them apart.
    labels = np.zeros((128, 128), np.uint16)
    for number, (row, column) in enumerate([(30, 30), (60, 90), (100, 40)], start=1):
        rows, columns = np.ogrid[:128, :128]
        inside = (rows - row) ** 2 + (columns - column) ** 2 <= (8 + 3 * number) ** 2
        labels[inside] = number
    image = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    _, boxes = targets.visible_cells(
        labels.astype(np.int32), np.bincount(labels.ravel())[1:], 0.3
    )
    stock = maskrcnn_input.Parser(
        output_size=[128, 128],
        min_level=task.model.min_level,
        max_level=task.model.max_level,
        num_scales=task.model.anchor.num_scales,
        aspect_ratios=task.model.anchor.aspect_ratios,
        anchor_size=task.model.anchor.anchor_size,
        max_num_instances=data.parser.max_num_instances,
        outer_boxes_scale=task.model.outer_boxes_scale,
        include_mask=True,
        mask_crop_size=data.parser.mask_crop_size,
        rpn_batch_size_per_im=data.parser.rpn_batch_size_per_im,
    )
    expected_image, expected = stock.parse_fn(is_training=True)(
        {
            "image": tf.constant(image),
            "groundtruth_classes": tf.constant([1, 2, 1], tf.int64),
            "groundtruth_boxes": boxes / 128,
            "groundtruth_is_crowd": tf.zeros([3], tf.bool),
            "groundtruth_instance_masks": tf.cast(
                labels == np.arange(1, 4)[:, None, None], tf.float32
            ),
        }
    )
    example = {
        "image": image,
        "labels": labels[..., np.newaxis],
        "cells": {
            "type": np.array([0, 1, 0]),
            "area_px": np.bincount(labels.ravel())[1:],
        },
        "pixel_size_um": np.float32(0.5),
        "image_name": "HEK/a.png",
    }
    the_parser = pipeline.Parser(task, data)
    for number in range(60):
        found_image, found = the_parser.parse_for_training(
            (example, example), tf.constant(number, tf.int64)
        )
        if np.allclose(found_image, expected_image, atol=1e-5):
            break
    # One of the eight orientations is the original one.
    np.testing.assert_allclose(found_image, expected_image, atol=1e-5)
    for key in ("gt_boxes", "gt_classes", "gt_outer_boxes"):
        np.testing.assert_allclose(found[key], expected[key], atol=1e-4)
    for key in ("rpn_box_targets", "anchor_boxes"):
        for level, values in expected[key].items():
            np.testing.assert_allclose(found[key][level], values, atol=1e-4)
    ours, theirs = found["gt_masks"][:3] > 0.5, expected["gt_masks"][:3] > 0.5
    common = np.sum(ours & theirs, axis=(1, 2)) / np.sum(ours | theirs, axis=(1, 2))
    # Model Garden's masks are smoothed, between the centres of the outermost pixels.
    assert (common > 0.93).all()


def test_pngs_are_decoded_when_they_are_needed():
    the_parser, example = plain_parser(), field(4, 4)
    encoded = example | {
        "image": tf.io.encode_png(example["image"]),
        "labels": tf.io.encode_png(example["labels"]),
    }
    found = the_parser.parse_for_training((encoded, encoded), NUMBER)
    expected = the_parser.parse_for_training((example, example), NUMBER)
    tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


def test_a_field_of_another_pixel_size_is_cropped_at_the_same_scale():
    the_parser = plain_parser(400)
    widths = {}
    for pixel_size_um in (0.5, 0.25, 0.0):
        example = field(20, 20, pixel_size_um=pixel_size_um)
        _, labels = the_parser.parse_for_training((example, example), NUMBER)
        boxes = labels["gt_boxes"].numpy()
        widths[pixel_size_um] = np.median((boxes[:, 3] - boxes[:, 1])[boxes[:, 0] >= 0])
    # At half the pixel size, a cell with as many pixels is half as wide.
    assert widths[0.25] == widths[0.5] / 2
    assert widths[0.0] == widths[0.5]


def test_composed_fields_of_different_pixel_sizes_have_one_scale():
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(params, facts(1200))
    params.task.train_data.composed_share = 1.0
    the_parser = pipeline.Parser(params.task, params.task.train_data)
    empty, coarse = field(0, 0, size=200), field(33, 33, size=200)
    fine = field(33, 33, size=200, pixel_size_um=0.25)
    widths = []
    for other in (coarse, fine):
        _, labels = the_parser.parse_for_training((empty, other), NUMBER)
        boxes = labels["gt_boxes"].numpy()[labels["gt_classes"].numpy() > 0]
        widths.append(np.median(boxes[:, 2] - boxes[:, 0]))
    # A cell of five pixels is half as wide, up to the nearest pixel.
    assert widths[1] == pytest.approx(widths[0] / 2, abs=0.75)


def test_a_cell_of_unknown_type_has_a_class_of_its_own():
    of_field = field(3, 3)
    of_field["cells"]["type"][:5] = -1
    _, labels = plain_parser().parse_for_training((of_field, of_field), NUMBER)
    classes = labels["gt_classes"].numpy()
    assert sorted(classes[classes > 0]) == [1, 1, 2, 2, 3, 3, 3, 3, 3]


def test_batches_have_static_shapes_and_follow_the_seed(prepared):
    params = config.cellclass_maskrcnn_small()
    data = params.task.train_data
    data.tfds_name, data.tfds_data_dir = "cell_types/study", str(prepared / "tfds")
    facts_of_study = data_facts.facts_of_dataset(data.tfds_name, data.tfds_data_dir)
    for in_memory in (0, 1 << 30):
        data_facts.apply_facts(params, facts_of_study, cache_bytes=in_memory)
        assert data.cache == bool(in_memory)
        data.global_batch_size = 2
        runs = []
        for seed in (1, 1, 2):
            data.seed = seed
            dataset = pipeline.build_dataset(params.task, data)
            shapes = [spec.shape for spec in tf.nest.flatten(dataset.element_spec)]
            assert all(shape.is_fully_defined() for shape in shapes)
            # Without this, workers would get batches of unknown size.
            assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
            runs.append([image.numpy() for image, _ in dataset.take(3)])
        np.testing.assert_array_equal(runs[0], runs[1])
        assert not np.array_equal(runs[0], runs[2])


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_fraction_of_the_fields_is_from_the_split_without_types(prepared, share):
    params = config.cellclass_maskrcnn_small()
    data = params.task.train_data
    data.tfds_name, data.tfds_data_dir = "cell_types/study", str(prepared / "tfds")
    found = data_facts.facts_of_dataset(data.tfds_name, data.tfds_data_dir)
    data_facts.apply_facts(params, found)
    # A split that is not used for training stands for the split without types.
    data.untyped_split, data.untyped_share = "mixed", share
    data.global_batch_size = 4
    other = reading.fields_of(data.replace(tfds_split="mixed", is_training=False))
    names = tf.stack([field["image_name"] for field in other])
    seen = np.concatenate(
        [
            labels["fields"].numpy()[:, 0]
            for _, labels in pipeline.build_dataset(params.task, data).take(3)
        ]
    )
    is_other = np.isin(seen, reading.fingerprint(names).numpy())
    assert is_other.any() == bool(share)
    assert not is_other.all()
