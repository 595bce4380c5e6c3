"""Tests of cellclass_tf.datasets.culture.drawing."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf.datasets.culture import drawing, placement
from cellclass_tf.datasets.culture.looks import LOOKS, Dish

UM, SIZE, MARGIN = 0.5, 128, 16
# A dish with even illumination and perfect focus, and an ideal camera.
PLAIN = Dish(
    illumination_centre_yx=(0.5, 0.5),
    illumination_falloff=0.0,
    stain_gain_counts=(1.0, 1.0),
    background_counts=(0.0, 0.0),
    offset_counts=0.0,
    read_noise_counts=0.0,
    electrons_per_count=1e6,
    blur_um=0.0,
    haze=0.0,
    cells_per_mm2=800.0,
    debris_per_mm2=0.0,
)


def dish(**changes):
    return dataclasses.replace(PLAIN, **changes)


def rng_of(seed=0):
    return np.random.default_rng(seed)


def empty_canvas():
    return drawing.Canvas(SIZE, MARGIN, UM, rng_of())


def cell_of(name, branch_angles=()):
    """Returns a round cell of the usual size in the middle of the frame."""
    return placement.PlacedCell(
        name=name,
        look=LOOKS[name],
        centre_yx=np.array([SIZE / 2, SIZE / 2]),
        radius_px=np.sqrt(LOOKS[name].area_um2 / np.pi) / UM,
        aspect=1.0,
        angle=0.0,
        harmonics=np.zeros((4, 2)),
        branch_angles=np.array(branch_angles),
    )


def drawn(cell, neighbour_from=None, bent=False, seed=0):
    """Draws a cell; returns its mask and its light, both inside the frame."""
    canvas = empty_canvas()
    y, x = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
    centre = SIZE / 2 + MARGIN
    mask = np.hypot(y - centre, x - centre) < cell.radius_px
    if bent:
        mask &= np.hypot(y - centre, x - centre - cell.radius_px) > cell.radius_px
    labels = mask.astype(np.int32)
    if neighbour_from is not None:
        labels[:, neighbour_from + MARGIN :] = 2
    where = np.argwhere(mask)
    box = tuple(
        slice(a, b + 1)
        for a, b in zip(where.min(axis=0), where.max(axis=0), strict=True)
    )
    drawing.draw_cell(cell, 1, labels, canvas, box, rng_of(seed))
    return mask[canvas.frame], canvas.light(PLAIN)


@pytest.mark.parametrize("name", sorted(LOOKS))
def test_a_cell_has_a_nucleus_inside_and_is_stained_up_to_its_border(name):
    shares = []
    for seed in range(5):
        mask, (nuclei, cytoplasm) = drawn(cell_of(name), seed=seed)
        shares.append((nuclei > 0).sum() / mask.sum())
        assert (cytoplasm[mask] > 0).all()
        # Folds and spikes of the rim extend beyond the cell, but have little light.
        assert cytoplasm[mask].sum() > 0.6 * cytoplasm.sum()
        mask, (nuclei, _) = drawn(cell_of(name), bent=True, seed=seed)
        assert nuclei[mask].any()
        assert not nuclei[~mask].any()
    # With its soft rim, a nucleus is a little larger.
    usual = LOOKS[name].nucleus_share
    assert usual < np.mean(shares) < 1.5 * usual


def test_a_process_leaves_the_cell_along_its_angle_and_ends_at_a_neighbour():
    cell = cell_of("N2a", branch_angles=[0.0])
    edge = int(SIZE / 2 + cell.radius_px) + 3
    _, (_, free) = drawn(cell)
    beyond = free[:, edge:].sum()
    # Angle 0 is to the right.
    assert beyond > 20 * free[:, : SIZE - edge].sum()
    assert beyond > 20 * free[:, edge:][: int(SIZE / 4)].sum()
    start = edge + 8
    _, (_, met) = drawn(cell, neighbour_from=start)
    assert met[:, edge:start].sum() > 0
    # Its tip is a few px wide, and so may touch the neighbour.
    assert met[:, start + 4 :].sum() == 0 < free[:, start + 4 :].sum()


def test_ink_adds_up_and_is_ignored_outside_of_the_canvas():
    canvas = empty_canvas()
    canvas.ink(np.array([30, 30, -9, 30]), np.array([40.2, 39.8, 40, 999]), 5.0)
    nuclei, cytoplasm = canvas.light(dish(stain_gain_counts=(1.0, 3.0)))
    assert not nuclei.any()
    assert np.argwhere(cytoplasm).tolist() == [[30 - MARGIN, 40 - MARGIN]]
    assert cytoplasm[30 - MARGIN, 40 - MARGIN] == 2 * 5 * 3


def test_blur_and_haze_spread_light_and_lose_none():
    canvas = empty_canvas()
    canvas.planes[:, MARGIN + 64, MARGIN + 64] = 1000
    sharp = canvas.light(PLAIN)
    blurred = canvas.light(dish(blur_um=1.0))
    hazy = canvas.light(dish(blur_um=1.0, haze=0.3))
    assert sharp[0].max() == 1000
    # A Gaussian with a width of 2 px.
    assert blurred[0].max() == pytest.approx(1000 / (2 * np.pi * 2**2), rel=0.05)
    # Nuclei have 1.4 times the haze.
    peaks = hazy.max(axis=(1, 2)) / blurred.max(axis=(1, 2))
    assert peaks == pytest.approx([1 - 1.4 * 0.3, 1 - 0.3], abs=0.04)
    for light in (blurred, hazy):
        assert light.sum(axis=(1, 2)) == pytest.approx([1000, 1000], rel=0.05)


def test_debris_only_adds_light_according_to_the_dish():
    totals = []
    for density in (0.0, 800.0, 8000.0):
        light = np.ones((2, 512, 512), np.float32)
        drawing.add_debris(light, dish(debris_per_mm2=density), UM, rng_of())
        assert light.min() >= 1
        totals.append((light - 1).sum(axis=(1, 2)))
    assert not totals[0].any()
    # 52 and 524 specks are expected, four of five in the cytoplasm's channel.
    assert 6 < totals[2].sum() / totals[1].sum() < 16
    assert 0.7 < totals[2][1] / totals[2].sum() < 0.9


def test_the_camera_adds_noise_and_is_limited_to_its_maximum():
    light = np.full((2, 100, 100), 1000, np.float32)
    light[1] = 9000
    counts = drawing.expose(light, PLAIN, rng_of())
    assert counts.dtype == np.uint16
    assert abs(counts[0].astype(int) - 1000).max() <= 1
    assert (counts[1] == 4095).all()
    camera = dish(offset_counts=100.0, read_noise_counts=3.0, electrons_per_count=2.0)
    counts = drawing.expose(light, camera, rng_of())[0]
    assert counts.mean() == pytest.approx(1100, abs=1)
    # Shot noise of 2,000 electrons, and read noise.
    assert counts.var() == pytest.approx(1000 / 2 + 3**2, rel=0.06)
    vignette = dish(illumination_falloff=0.3)
    counts = drawing.expose(light, vignette, rng_of())[0]
    assert counts[50, 50] == pytest.approx(1000, abs=2)
    assert counts[0, 0] == pytest.approx(700, abs=2)
