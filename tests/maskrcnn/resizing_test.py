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
    np.testing.assert_array_equal(resizing.resized_labels(labels, (4, 6)), labels)


@pytest.mark.parametrize("scale", [1.0, 0.37, 2.3])
def test_parts_are_equal_to_the_whole(scale):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (120, 90, 3)).astype(np.uint8)
    labels = rng.integers(0, 9, (120, 90))
    shape = resizing.shape_at(image.shape, scale)
    whole = resizing.resized(image, scale)
    assert whole.shape[:2] == shape
    cells = resizing.resized_labels(labels, shape)
    middle = [(length // 3, 2 * length // 3) for length in shape]
    for rows in ((0, middle[0][0]), middle[0], (middle[0][1], shape[0])):
        for columns in ((0, middle[1][0]), middle[1], (middle[1][1], shape[1])):
            part = slice(*rows), slice(*columns)
            seen = resizing.resized_part(image, shape, part)
            # Pillow rounds its weights to integers; the box is not always exact.
            difference = np.abs(seen.astype(int) - whole[part])
            assert difference.max() <= 1
            found = resizing.resized_labels(labels, shape, part)
            np.testing.assert_array_equal(found, cells[part])


def test_a_part_reads_only_the_pixels_that_it_needs(monkeypatch):
    from PIL import Image

    shapes = []
    real = Image.fromarray
    monkeypatch.setattr(
        Image, "fromarray", lambda pixels: shapes.append(pixels.shape) or real(pixels)
    )
    image = np.zeros((1000, 2000, 3), np.uint8)
    part = slice(100, 150), slice(900, 1000)
    assert resizing.resized_part(image, (500, 1000), part).shape == (50, 100, 3)
    assert shapes[0][0] <= 110
    assert shapes[0][1] <= 210
