"""Tests of the watershed: one cell per nucleus, borders on bright lines."""

import numpy as np
import pytest

from cellclass_tf.annotation.annotators import watershed
from cellclass_tf.annotation.annotators.watershed import WatershedAnnotator
from cellclass_tf.errors import InputError
from cellclass_tf.storage import png


def _disk(shape, center_yx, radius):
    y, x = np.indices(shape)
    return np.hypot(y - center_yx[0], x - center_yx[1]) <= radius


def _field(centers_yx, shape=(120, 160), nucleus_px=10, cell_px=14):
    """Returns an image of uniform cells on black, and the mask of each cell."""
    image = np.zeros((*shape, 3), np.uint8)
    cells = [_disk(shape, center, cell_px) for center in centers_yx]
    for center, cell in zip(centers_yx, cells, strict=True):
        image[cell, 1] = 100
        image[_disk(shape, center, nucleus_px), 2] = 200
    return image, cells


def _iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_separate_cells_are_found_whole():
    image, cells = _field([(30, 30), (30, 100), (85, 60)])
    labels, _, _ = WatershedAnnotator(diameter_px=28).annotate(image)
    assert labels.dtype == np.int32
    assert labels.shape == (120, 160)
    assert labels.max() == 3
    for cell in cells:
        (label,) = np.unique(labels[cell & (labels > 0)])
        assert _iou(labels == label, cell) > 0.85


def test_touching_nuclei_are_split_and_the_border_lies_between():
    # Centres 18 px apart, radius 10: the nuclei overlap by 2 px around column 71.
    image, _ = _field([(60, 62), (60, 80)])
    labels, _, _ = WatershedAnnotator(diameter_px=28).annotate(image)
    assert labels.max() == 2
    assert labels[60, 62] != labels[60, 80]
    assert np.all(labels[60, 50:68] == labels[60, 62])
    assert np.all(labels[60, 75:93] == labels[60, 80])


def test_border_follows_a_bright_line_of_the_cytoplasm():
    image, _ = _field([(60, 50), (60, 90)], cell_px=24)
    # The middle between the nuclei is column 70; the line is off it.
    image[..., 1] //= 2
    image[40:81, 74:77, 1] = 250
    labels, _, _ = WatershedAnnotator(diameter_px=40).annotate(image)
    border = np.flatnonzero(np.diff(labels[60, 60:85])) + 60
    assert len(border) == 1
    assert 72 <= border[0] <= 77


def test_pieces_without_nucleus_and_specks_are_dropped():
    image, _ = _field([(60, 40)])
    image[_disk(image.shape[:2], (60, 120), 14), 1] = 100
    image[_disk(image.shape[:2], (20, 120), 2), 1:] = 200
    labels, _, _ = WatershedAnnotator(diameter_px=28).annotate(image)
    assert labels.max() == 1
    assert not labels[:, 80:].any()


@pytest.mark.parametrize("level", [0, 7, 255])
def test_flat_image_has_no_cells(level):
    image = np.full((40, 50, 3), level, np.uint8)
    labels, diameter_px, _ = WatershedAnnotator().annotate(image)
    assert labels.shape == (40, 50)
    assert labels.dtype == np.int32
    assert labels.max() == 0
    assert diameter_px == 30


def test_noise_has_no_cells():
    noise = np.random.default_rng(0).normal(60, 40, (200, 200, 3))
    labels, _, _ = WatershedAnnotator().annotate(noise.clip(0, 255).astype(np.uint8))
    assert labels.max() == 0


@pytest.mark.parametrize("radius", [10, 20, 40])
def test_diameter_is_estimated_from_the_nuclei(radius):
    shape = (radius * 8, radius * 12)
    nuclei = np.zeros(shape, np.float32)
    for x in (2, 6, 10):
        nuclei[_disk(shape, (radius * 4, radius * x), radius)] = 200
    # A cell is 1.4 times as wide as its nucleus.
    expected = 1.4 * 2 * radius
    estimate = watershed.estimate_diameter_px(nuclei)
    assert estimate == pytest.approx(expected, rel=0.15)


def test_labels_of_shifted_images_are_shifted_labels():
    image, _ = _field([(50, 50), (50, 72), (75, 60)])
    first, *_ = WatershedAnnotator(28).annotate(image)
    second, *_ = WatershedAnnotator(28).annotate(np.roll(image, (7, 11), (0, 1)))
    np.testing.assert_array_equal(np.roll(first, (7, 11), (0, 1)) > 0, second > 0)


def test_fingerprint_depends_on_the_parameters():
    prints = {
        WatershedAnnotator().fingerprint,
        WatershedAnnotator(30).fingerprint,
        WatershedAnnotator(30, split_depth=0.2).fingerprint,
    }
    assert len(prints) == 3
    assert WatershedAnnotator(30).fingerprint in prints
    assert (WatershedAnnotator.name, WatershedAnnotator.weights_sha256) == (
        "watershed",
        "",
    )


def test_invalid_numbers_and_images_are_refused():
    with pytest.raises(InputError, match="got -3"):
        WatershedAnnotator(diameter_px=-3)
    with pytest.raises(InputError, match="mask_level"):
        WatershedAnnotator(mask_level=-1)
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8; got \(5, 5\)"):
        WatershedAnnotator().annotate(np.zeros((5, 5), np.uint8))


def test_real_cells_of_a_dense_clump_are_separated(assets):
    image = png.read_png(assets / "images/hek/hek_0004.png")[620:, 520:720, :3]
    labels, diameter_px, _ = WatershedAnnotator().annotate(image)
    # The reference has 24 cells here, grown over each other's borders.
    assert 18 <= labels.max() <= 30
    assert 30 <= diameter_px <= 45
