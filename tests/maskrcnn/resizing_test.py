"""Tests of cellclass_tf.maskrcnn.resizing."""

import numpy as np
import pytest

from cellclass_tf.maskrcnn import resizing


def test_an_image_is_averaged_when_it_shrinks_and_is_never_empty():
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, ::2] = 200
    np.testing.assert_array_equal(resizing.resized(image, 1.0), image)
    smaller = resizing.resized(image, 0.5)
    assert smaller.shape == (2, 3, 3)
    # Every second column is bright.
    assert smaller.mean() == pytest.approx(100, abs=8)
    assert resizing.resized(image, 0.01).shape == (1, 1, 3)


@pytest.mark.parametrize("shape", [(2, 3), (8, 12), (5, 7)])
def test_labels_keep_their_values_and_places(shape):
    labels = np.zeros((4, 6), np.int32)
    labels[:2, :2], labels[2:, 4:] = 7, 70_000
    found = resizing.resized_labels(labels, shape)
    assert found.shape == shape
    assert set(np.unique(found)) == {0, 7, 70_000}
    assert (found[0, 0], found[-1, -1], found[0, -1]) == (7, 70_000, 0)
    assert resizing.resized_labels(labels, (4, 6)) is labels
