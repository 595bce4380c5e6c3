"""Tests of cellclass_tf.maskrcnn.cell_namer.crops."""

import numpy as np
import pytest

from cellclass_tf.maskrcnn.cell_namer import crops


def field(size=200, nuclei=((100, 80),), brightness=150):
    """Draws cells of 40 px, with nuclei of 20 px that are 6 px below their centres."""
    image = np.zeros((size, size, 3), np.uint8)
    image[..., 1], image[..., 2] = 100, 10
    labels = np.zeros((size, size), np.int32)
    rows, columns = np.mgrid[:size, :size]
    for number, (row, column) in enumerate(nuclei, start=1):
        labels[np.hypot(rows - row + 6, columns - column) < 20] = number
        image[np.hypot(rows - row, columns - column) < 10, 2] = brightness
    return image, labels


def test_a_crop_is_centred_on_the_nucleus_at_the_images_resolution():
    image, labels = field()
    (crop,) = crops.crops_of(image, labels)
    assert crop.shape == (64, 64, 2)
    assert crop.dtype == np.uint8
    rows, columns = np.nonzero(crop[..., 1] > 60)
    assert abs(rows.mean() - 31.5) <= 0.75
    assert abs(columns.mean() - 31.5) <= 0.75
    assert 18 <= np.ptp(rows) + 1 <= 20


def test_nuclei_have_the_same_brightness_in_every_dish_and_outline():
    for brightness in (60, 150, 250):
        image, labels = field(brightness=brightness)
        nucleus = np.where(image[..., 2] == brightness, labels, 0)
        for outlines in (labels, nucleus):
            (crop,) = crops.crops_of(image, outlines)
            assert crop[32, 32, 1] == pytest.approx(0.45 * 255, abs=2)
            assert crop[2, 2, 1] == 0


def test_cytoplasm_is_scaled_around_the_background_of_the_field():
    image, labels = field()
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.normal(100, 10, (50, 50)), np.ones((4, 4)))
    image[..., 1] = np.clip(blocks, 0, 255)
    seen = crops.crops_of(image, labels)[0, ..., 0] / 255
    assert np.median(seen) == pytest.approx(0.5, abs=0.02)
    # Ten standard deviations fill the range; interpolation makes the noise smoother.
    assert np.std(seen) == pytest.approx(0.09, abs=0.02)
    # Cells are rare and bright in many fluorescence images.
    image[..., 1] = np.where(labels > 0, 180, 4)
    seen = crops.crops_of(image, labels)[0, ..., 0] / 255
    assert seen[32, 32] > 0.9
    assert seen[2, 2] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("phase", [False, True])
def test_a_cell_has_the_same_brightness_in_a_crowd_and_alone(phase):
    rng = np.random.default_rng(0)
    seen = []
    places = [
        (row, column) for row in range(25, 200, 42) for column in range(25, 200, 42)
    ]
    for cells in (2, len(places)):
        image, labels = field(nuclei=places[:cells])
        ground = rng.normal(60, 12 if phase else 2, labels.shape)
        cell = np.where(labels, 0 if phase else 70, 0)
        image[..., 1] = np.clip(ground + cell, 0, 255)
        cut = crops.crops_of(image, labels)[..., 0]
        seen.append(np.median(cut[:, 20:30, 28:36]))
    assert abs(seen[0] - seen[1]) <= 4
    assert phase or seen[0] > 200


def test_black_areas_of_a_stitched_scan_do_not_change_the_cytoplasm():
    image, labels = field()
    ground = np.random.default_rng(0).normal(60, 10, labels.shape)
    image[..., 1] = np.clip(ground + np.where(labels, 70, 0), 1, 255)
    (expected,) = crops.crops_of(image, labels)
    below = [(0, 96), (0, 0)]
    (seen,) = crops.crops_of(np.pad(image, [*below, (0, 0)]), np.pad(labels, below))
    np.testing.assert_array_equal(seen, expected)


def test_wide_cells_are_shrunk_and_none_is_enlarged():
    assert crops.scale_for(140.0) == 0.5
    assert crops.scale_for(20.0) == crops.scale_for(70.0) == 1.0
    image, labels = field()
    (crop,) = crops.crops_of(image, labels, zoom=0.5)
    rows, columns = np.nonzero(crop[..., 1] > 60)
    assert np.ptp(rows) + 1 in (9, 10, 11)
    assert abs(rows.mean() - 31.5) <= 1
    assert abs(columns.mean() - 31.5) <= 1


def test_a_field_without_cells_has_no_crops():
    image, labels = field(nuclei=())
    assert crops.crops_of(image, labels).shape == (0, 64, 64, 2)


def test_cells_at_the_border_of_one_pixel_and_without_a_nucleus_have_crops():
    image, labels = field(nuclei=((3, 3), (100, 199)))
    labels[150, 20] = 3
    labels[160:190, 100:130] = 4
    found = crops.crops_of(image, labels)
    assert found.shape == (4, 64, 64, 2)
    assert (found[:2, 32, 32, 1] > 100).all()
    for zoom in (0.3, 0.01):
        assert crops.crops_of(image, labels, zoom=zoom).shape == (4, 64, 64, 2)
    # An image that is smaller than a crop.
    assert crops.crops_of(image[:20, :9], labels[:20, :9]).shape == (1, 64, 64, 2)


def test_without_nuclei_crops_show_the_cytoplasm_alone():
    image, labels = field()
    (crop,) = crops.crops_of(image, labels, grayscale=True)
    assert not crop[..., 1].any()
    assert crop[..., 0].any()


def test_thousands_of_cells_have_crops():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (710, 710, 3)).astype(np.uint8)
    labels = np.kron(np.arange(1, 5042).reshape(71, 71), np.ones((10, 10), int))
    assert crops.crops_of(image, labels).shape == (5041, 64, 64, 2)
