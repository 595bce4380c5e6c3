"""Tests of cellclass_tf.datasets.culture.placement."""

import math

import numpy as np
import pytest
from scipy import ndimage

from cellclass_tf.datasets.culture import placement
from cellclass_tf.datasets.culture.looks import LOOKS

UM = 0.5


def place(names, size_px=400, seed=0):
    return placement.place(names, LOOKS, size_px, UM, np.random.default_rng(seed))


def grow(placed, size_px, margin_px=20, seed=0):
    """Returns the labels inside the frame, and the cells that were kept."""
    rng = np.random.default_rng(seed)
    labels, kept = placement.grow(placed, size_px, margin_px, UM, rng)
    assert labels.shape == (size_px + 2 * margin_px,) * 2
    return labels[margin_px:-margin_px, margin_px:-margin_px], kept


def round_cell(centre_yx, radius_px, name="N2a"):
    return placement.PlacedCell(
        name=name,
        look=LOOKS[name],
        centre_yx=np.array(centre_yx, float),
        radius_px=radius_px,
        aspect=1.0,
        angle=0.0,
        harmonics=np.zeros((4, 2)),
        branch_angles=np.zeros(0),
    )


def gaps_of(placed):
    """Returns distances of centres over sums of radii; infinite from a cell to itself."""
    centres = np.array([cell.centre_yx for cell in placed])
    radii = np.array([cell.radius_px for cell in placed])
    gaps = np.linalg.norm(centres[:, None] - centres, axis=-1)
    gaps /= radii[:, None] + radii
    np.fill_diagonal(gaps, np.inf)
    return gaps


def test_cells_keep_the_distance_of_their_types_packing():
    placed = place(["HEK"] * 30 + ["N2a"] * 30)
    assert {cell.name for cell in placed} == {"HEK", "N2a"}
    packing = np.array([cell.look.packing for cell in placed])
    assert (gaps_of(placed) > np.maximum(packing[:, None], packing)).all()


def test_cells_of_a_colony_lie_side_by_side():
    for name in LOOKS:
        nearest = np.concatenate(
            [gaps_of(place([name] * 20, 800, seed)).min(axis=1) for seed in range(4)]
        )
        # A cell outside of a colony keeps a distance of 1.35 to the next one.
        assert np.median(nearest) < 1.1 * LOOKS[name].packing


def test_cells_without_room_are_left_out_and_no_centre_is_far_outside():
    placed = place(["HEK"] * 200, size_px=200)
    assert 10 < len(placed) < 100
    for cell in placed:
        outside = np.maximum(-cell.centre_yx, cell.centre_yx - 200)
        assert (outside < 0.35 * cell.radius_px).all()


# In the last two cases, a neighbour cuts off a piece.
@pytest.mark.parametrize("seed", [0, 4, 5])
def test_each_kept_cell_is_one_piece_around_its_centre(seed):
    placed = place(["HEK"] * 20 + ["N2a"] * 20, seed=seed)
    labels, kept = grow(placed, 400, seed=seed)
    assert set(np.unique(labels)) == set(range(len(kept) + 1))
    for index, cell in enumerate(kept, start=1):
        assert ndimage.label(labels == index)[1] == 1
        if (cell.centre_yx > 5).all() and (cell.centre_yx < 395).all():
            assert labels[tuple(np.rint(cell.centre_yx).astype(int))] == index


@pytest.mark.parametrize("radii", [(18.0, 18.0), (20.0, 15.0)])
def test_a_cell_fills_its_outline_up_to_a_border_that_the_radii_set(radii):
    left = round_cell((50, 50), radii[0])
    alone, _ = grow([left], 120)
    spread = LOOKS["N2a"].spread
    assert (alone > 0).sum() == pytest.approx(
        math.pi * (spread * radii[0]) ** 2, rel=0.03
    )
    labels, _ = grow([left, round_cell((50, 80), radii[1])], 120)
    # The border is where the squared distances minus the squared radii are equal.
    border = 50 + (30**2 + radii[0] ** 2 - radii[1] ** 2) / (2 * 30)
    assert np.count_nonzero(labels[50] == 1) == pytest.approx(
        border - 50 + spread * radii[0], abs=2
    )
    assert set(labels[50, 50 : int(border) - 1]) == {1}
    assert set(labels[50, int(border) + 3 : 80]) == {2}


def test_a_cell_without_enough_area_is_removed_and_labels_are_renumbered():
    # A cell of its type's median area has a radius of 18.5 px.
    cells = [round_cell(centre, 18.5) for centre in ((40, 40), (110, 110))]
    sliver = round_cell((40, 100), 18.5 / math.sqrt(8))
    labels, kept = grow([cells[0], sliver, cells[1]], 150)
    assert kept == cells
    assert (labels[40, 40], labels[40, 100], labels[110, 110]) == (1, 0, 2)
    # At the edge of the frame a smaller area is enough, since cells are cut there.
    cut = round_cell((40, 150), 18.5 / math.sqrt(4))
    assert grow([cut], 150)[1] == [cut]
