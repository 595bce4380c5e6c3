"""Tests of cellclass_tf.maskrcnn.tiles, and of scores computed from tiles."""

import numpy as np
import tensorflow as tf

from cellclass_tf.maskrcnn import tiles, validation
from cellclass_tf.maskrcnn.input import network_input, reading, targets


def perfect(task, places, labels_of):
    """Returns the output of a network without errors for a batch of tiles."""
    most, size = 40, task.model.input_size[0]
    outputs = {
        "detection_boxes": np.zeros((len(places), most, 4), np.float32),
        "detection_scores": np.zeros((len(places), most), np.float32),
        "detection_probabilities": np.zeros((len(places), most, 2), np.float32),
        "detection_masks": np.zeros((len(places), most, 28, 28), np.float32),
        "num_detections": np.zeros(len(places), np.int32),
    }
    for b, (number, top, left, *_) in enumerate(places):
        if number < 0:
            continue
        labels, types = labels_of[int(number)]
        tile = labels[int(top) : int(top) + size, int(left) : int(left) + size]
        ids, boxes = targets.visible_cells(tile, np.bincount(labels.ravel())[1:], 0.05)
        masks = targets.masks_in_boxes(tile, ids, boxes, 28)
        outputs["num_detections"][b] = len(ids)
        outputs["detection_boxes"][b, : len(ids)] = boxes
        outputs["detection_scores"][b, : len(ids)] = 0.9
        outputs["detection_masks"][b, : len(ids)] = masks
        outputs["detection_probabilities"][b, : len(ids)] = np.eye(2)[
            types[ids.numpy() - 1]
        ]
    outputs["detection_outer_boxes"] = outputs["detection_boxes"]
    return outputs


def test_a_network_without_errors_has_perfect_scores(task):
    fields = list(reading.fields_of(task.validation_data))
    labels_of = []
    for field in fields:
        shape = tiles.scaled_shape(task, field)
        labels = reading.decode(field)[1][..., tf.newaxis]
        small = tf.image.resize(labels, shape, "nearest")[..., 0]
        labels_of.append(
            (small.numpy().astype(np.int32), field["cells"]["type"].numpy())
        )
    scores, seen = validation.FieldScores(task), 0
    for images, labels in tiles.build_dataset(task, task.validation_data):
        assert images.shape == (4, 64, 64, 3)
        places = labels["tile"].numpy()
        seen += (places[:, 0] >= 0).sum()
        outputs = perfect(task, places, labels_of)
        # Split as for two replicas.
        scores.add(
            {k: [v[:2], v[2:]] for k, v in outputs.items()}
            | {"tile": [places[:2], places[2:]]}
        )
    # 224 px at this scale need several tiles per axis.
    assert seen >= 4 * len(fields)
    result = scores.result()
    assert result["AP50"] == 1
    assert result["type_accuracy"] == 1
    assert result["AP"] > 0.8
    assert 0 < len(scores.pictures) <= 3


def test_fields_are_cut_into_the_same_tiles_as_in_prediction(task):
    size = task.model.input_size[0]
    number, corners = 0, []
    for images, labels in tiles.build_dataset(task, task.validation_data):
        for image, place in zip(images, labels["tile"].numpy(), strict=True):
            if place[0] == number:
                corners.append((place[1:3], image))
    field = next(iter(reading.fields_of(task.validation_data)))
    shape = tiles.scaled_shape(task, field)
    whole = network_input.normalise(
        tf.image.resize(reading.decode(field)[0], shape, antialias=True)
    )
    covered = np.zeros(shape)
    for (top, left), image in corners:
        top, left = int(top), int(left)
        part = whole[top : top + size, left : left + size]
        np.testing.assert_allclose(
            image[: part.shape[0], : part.shape[1]], part, atol=1e-5
        )
        covered[top : top + size, left : left + size] += 1
    assert covered.min() >= 1


def test_every_replica_gets_a_full_last_batch(task):
    def numbers(context):
        dataset = tiles.build_dataset(task, task.validation_data, context)
        return [labels["tile"].numpy()[:, 0] for _, labels in dataset]

    task.validation_data.global_batch_size = 6
    alone = np.concatenate(numbers(None))
    workers_with_three_replicas = tf.distribute.InputContext(2, 1, 6)
    shared = numbers(workers_with_three_replicas)
    # TensorFlow skips a step if one of the three replicas has no batch.
    taken = np.concatenate(shared[: len(shared) // 3 * 3])
    np.testing.assert_array_equal(taken[taken >= 0], alone[alone >= 0])
