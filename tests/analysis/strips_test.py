"""Tests of cellclass_tf.analysis.strips."""

import numpy as np
import pytest
from scipy import ndimage

from cellclass_tf.analysis.strips import Match, SmallImages, Strips
from cellclass_tf.storage import png


def texture(shape=(90, 150), seed=0):
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 2)


def test_the_shift_is_found_at_which_the_strips_are_equal():
    whole = texture()
    # The second image begins at row 3 and column 60 of the first.
    first, second = whole[:80, :80], whole[3:83, 60:140]
    found = Strips(first, second).match(np.array([1.0, 63.0]), float(whole.std()))
    np.testing.assert_allclose(found.found_yx, (3, 60), atol=0.2)
    assert found.correlation == pytest.approx(1)
    assert found.axis == 1
    assert found.spots >= 5
    moved = found.scaled(4, 7, np.array([2.0, 126.0]), 2)
    assert moved.pair == (4, 7)
    np.testing.assert_allclose(moved.found_yx, (6, 120), atol=0.4)


def test_the_correlation_is_that_of_numpy():
    first, second = texture((60, 70), 1), texture((50, 80), 2)
    found = Strips(first, second).match(np.array([45.0, -6.0]), 0)
    y, x = np.rint(found.found_yx).astype(int)
    # What both show, in the first and in the second image.
    rows = slice(max(y, 0), min(60, y + 50))
    columns = slice(max(x, 0), min(70, x + 80))
    ours = first[rows, columns]
    theirs = second[
        rows.start - y : rows.stop - y, columns.start - x : columns.stop - x
    ]
    expected = np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]
    assert found.correlation == pytest.approx(expected)


def test_flat_strips_do_not_agree():
    found = Strips(np.ones((40, 40)), texture((40, 40))).match(np.array([0, 30.0]), 0)
    assert found.correlation == 0
    assert not found.agrees


@pytest.mark.parametrize(
    ("correlation", "spots", "agrees", "contradicts"),
    [
        (0.7, 8, True, False),
        (0.5, 8, False, True),
        (0.7, 7, False, False),
        (0.5, 7, False, False),
        (0.3, 7, False, True),
        (0.0, 0, False, False),
    ],
)
def test_few_spots_say_less(correlation, spots, agrees, contradicts):
    shift = np.zeros(2)
    match = Match(shift, shift, correlation * 6, (4.0, 9.0), spots)
    assert match.correlation == pytest.approx(correlation)
    assert (match.agrees, match.contradicts) == (agrees, contradicts)


def test_small_images_have_no_shading(tmp_path):
    image = np.zeros((128, 128, 3), np.uint8)
    image[..., 1] = np.linspace(0, 250, 128)
    png.write_png(tmp_path / "a.png", image)
    images = SmallImages([tmp_path / "a.png"], 2, [0])
    assert images.of(0).shape == (64, 64)
    # The mean of two channels rises by 2 per pixel of the small image.
    assert np.abs(images.of(0)[16:48, 16:48]).max() < 0.5
    assert 0 < images.brightness < 5
