"""Tests of cellclass_tf.maskrcnn.one_tensor."""

import numpy as np
import pytest

import cellclass_tf as cc
from cellclass_tf.core.model_metadata import METADATA_FILE
from cellclass_tf.maskrcnn import one_tensor
from tests.fake_model import save_model
from tests.metadata import model_metadata

TYPES = ("HEK", "N2a")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Makes a model that finds one N2a cell of 24 px in every tile of 64 px."""
    return save_model(tmp_path_factory.mktemp("model"), score=0.9)


@pytest.fixture(scope="module")
def copy(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    one_tensor.save(model, folder)
    return folder


def test_each_row_is_a_detection_and_each_column_has_a_name(copy):
    found = one_tensor.run(copy, np.zeros((1, 64, 64, 3), np.uint8))
    assert found.shape == (1, 1, 4 + 4 + 1 + 2 + 4 * 4)
    assert one_tensor.mask_px_of(found, TYPES) == 4
    names = one_tensor.columns(TYPES, 4)
    row = dict(zip(names, found[0, 0].tolist(), strict=True))
    assert [row[side] for side in ("top", "left", "bottom", "right")] == [
        20,
        20,
        44,
        44,
    ]
    assert row["score"] == pytest.approx(0.9)
    assert (row["p_HEK"], row["p_N2a"]) == (0.25, 0.75)
    assert row["mask_0_0"] == row["mask_3_3"] == 1


def test_the_copy_can_be_loaded_as_a_model(model, copy):
    assert (copy / METADATA_FILE).read_bytes() == (model / METADATA_FILE).read_bytes()
    image = np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8)
    first, second = (cc.Predictor.load(path).predict(image) for path in (model, copy))
    assert len(first) > 1
    np.testing.assert_array_equal(first.labels, second.labels)


def test_rows_without_a_detection_are_zero(tmp_path):
    import tensorflow as tf

    spec = tf.TensorSpec([None, 8, 8, 3], tf.uint8, name="images")

    @tf.function(input_signature=[spec])
    def serve(images):
        # The number of detections is the grey level of the tile's corner.
        counts = tf.cast(images[:, 0, 0, 0], tf.int32)
        one = tf.ones([tf.shape(images)[0], tf.reduce_max(counts), 4])
        return {
            "num_detections": counts,
            "detection_boxes": one,
            "detection_outer_boxes": one,
            "detection_scores": one[..., 0],
            "detection_probabilities": one[..., :2],
            "detection_masks": tf.tile(one[:, :, :1, tf.newaxis], [1, 1, 3, 3]),
        }

    module = tf.Module()
    module.serve = serve
    signatures = {"serving_default": serve}
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=signatures)
    one_tensor.save(tmp_path / "model", tmp_path / "copy")
    tiles = np.zeros((2, 8, 8, 3), np.uint8)
    tiles[:, 0, 0, 0] = 2, 1
    found = one_tensor.run(tmp_path / "copy", tiles)
    assert found.shape == (2, 2, 4 + 4 + 1 + 2 + 9)
    assert found[0].all()
    assert found[1, 0].all()
    assert not found[1, 1].any()
    found = one_tensor.run(tmp_path / "copy", np.zeros_like(tiles))
    assert found.shape == (2, 1, 20)
    assert not found.any()


def test_a_tile_is_the_centre_of_the_field_at_the_scale_of_the_network():
    image = np.zeros((200, 100, 3), np.uint8)
    image[80:120, 30:70, 1] = 255
    # Half as large, 100 x 50: the tile is 64 of its 100 rows, and black right of its 50.
    tile = one_tensor.tile_of(image, model_metadata(scale=0.5))
    assert tile.shape == (1, 64, 64, 3)
    assert not tile[0, :, 50:].any()
    rows, columns = np.nonzero(tile[0, ..., 1] > 127)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (22, 41, 15, 34)
