"""Tests of cellclass_tf.microscopy.quality.channels_apart, and of verdicts based on it."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.datasets.culture import field, looks
from cellclass_tf.microscopy.quality import channels_apart, criteria, figures
from cellclass_tf.storage import png


@pytest.fixture(scope="module")
def cells():
    """Returns a field of HEK, (2, 400, 400) uint16: nuclei, cytoplasm."""
    rng = np.random.default_rng(3)
    dish = dataclasses.replace(looks.Dish.random(rng), cells_per_mm2=1000.0)
    drawn = field.simulate_field({"HEK": 1}, size_px=400, rng=rng, dish=dish)
    return drawn.pixels.astype(np.uint16)


def reasons(pixels):
    measured = figures.measure(Micrograph(pixels, ("n", "c")), (0, 1))
    (found,) = criteria.judge([measured])
    return {part.split(":")[0] for part in found.split("; ")} - {"out of focus", ""}


def of_8_bit(pixels):
    return np.clip(pixels / pixels.max() * 400, 0, 255).astype(np.uint8)


def noise_of(pixels, sd):
    rng = np.random.default_rng(0)
    return np.clip(rng.normal(150, sd, pixels.shape), 0, None).astype(pixels.dtype)


@pytest.mark.parametrize("as_type", [lambda p: p, of_8_bit])
def test_good_channels_are_accepted(cells, as_type):
    assert reasons(as_type(cells)) == set()


@pytest.mark.parametrize("as_type", [lambda p: p, of_8_bit])
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda n, c: (n, np.zeros_like(c)), {"no cytoplasm", "cut off"}),
        (lambda n, c: (n, np.full_like(c, 200)), {"no cytoplasm", "cut off"}),
        (lambda n, c: (n, noise_of(c, 1)), {"no cytoplasm"}),
        (lambda n, c: (n, noise_of(c, 20)), {"no cytoplasm"}),
        (lambda n, c: (n, n), {"one channel twice"}),
        (lambda n, c: (n, (n * 0.6 + 20).astype(n.dtype)), {"one channel twice"}),
        (lambda n, c: (n, np.concatenate([c[:200], 0 * c[200:]])), {"cut off"}),
        (
            lambda n, c: (n, np.concatenate([c[:, :300], 0 * c[:, 300:]], 1)),
            {"cut off"},
        ),
        (lambda n, c: (np.concatenate([n[:200], 0 * n[200:]]), c), {"cut off"}),
    ],
)
def test_a_channel_that_does_not_show_the_cells_is_rejected(
    cells, as_type, damage, expected
):
    assert reasons(np.stack(damage(*as_type(cells)))) == expected


def test_a_copy_of_a_channel_with_another_gamma_is_recognized(cells):
    nuclei = cells[0].astype(float)
    copy = ((nuclei / nuclei.max()) ** 0.5 * 60000).astype(np.uint16)
    assert reasons(np.stack([cells[0], copy])) == {"one channel twice"}


@pytest.mark.parametrize("channels", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("size", [(6, 60), (3, 24), (80, 5)])
def test_a_scale_bar_in_the_image_is_found(cells, channels, size):
    # The bar must not touch other pixels of the same brightness.
    for pixels in (cells, (cells / cells.max() * 250).astype(np.uint8)):
        drawn = pixels.copy()
        height, width = size
        value = np.iinfo(pixels.dtype).max
        drawn[list(channels), 300 : 300 + height, 290 : 290 + width] = value
        assert reasons(drawn) == {"scale bar"}


def test_other_bright_pixels_are_not_taken_for_a_scale_bar():
    blob = np.zeros((200, 200), np.uint8)
    y, x = np.mgrid[:200, :200]
    blob[np.hypot(y - 100, (x - 100) / 4) < 12] = 255
    assert channels_apart.scale_bar_px(blob) == 0
    square = np.zeros((200, 200), np.uint8)
    square[50:90, 50:90] = 255
    assert channels_apart.scale_bar_px(square) == 0
    # A hot row of the camera, or a border that a program drew.
    row = np.zeros((200, 200), np.uint8)
    row[20:24] = 255
    assert channels_apart.scale_bar_px(row) == 0
    assert channels_apart.scale_bar_px(np.zeros((200, 200), np.uint8)) == 0


def test_a_border_without_cells_in_both_channels_is_not_reported_as_cut_off(cells):
    padded = cells.copy()
    padded[:, :80] = 0
    assert reasons(padded) == set()


@pytest.mark.parametrize("share", [0.0035, 0.02])
def test_clipped_8_bit_fields_are_warned_of_but_not_rejected(cells, share):
    limits = [np.quantile(plane, 1 - share) for plane in cells]
    stretched = np.stack(
        [np.clip(p / top * 255, 0, 255) for p, top in zip(cells, limits, strict=True)]
    ).astype(np.uint8)
    measured = figures.measure(Micrograph(stretched, ("n", "c")), (0, 1))
    assert criteria.is_clipped(measured)
    assert measured.saturated_share == 0
    assert reasons(stretched) == set()
    # Saturation of the camera is a reason.
    assert reasons(np.minimum(cells, int(min(limits))).astype(np.uint16)) >= (
        {"saturated"} if share > 0.01 else set()
    )


def test_channels_of_real_fields_are_accepted(assets):
    import tifffile

    hek = np.moveaxis(png.read_png(assets / "images" / "hek" / "hek_0004.png"), -1, 0)
    fields = [hek[[2, 1]]]
    for path in sorted((assets / "coculture").rglob("set*.ome.tif")):
        # Phase contrast in place of cytoplasm, which barely varies.
        fields.append(tifffile.imread(path)[:2])
    for path in sorted((assets / "images" / "bbbc022").glob("*.tif")):
        fields.append(tifffile.imread(path)[:2])
    assert len(fields) >= 6
    for pixels in fields:
        assert reasons(pixels) == set()
