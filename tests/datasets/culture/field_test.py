"""Tests of simulated fields: exact labels, stable bytes, overlapping types."""

import numpy as np
import pytest
from scipy import ndimage

from cellclass_tf.datasets.culture.field import LOOKS, Dish, simulate_field


def _simulate(shares, seed=0, size_px=256, **options):
    rng = np.random.default_rng(seed)
    dish = Dish.random(rng)
    return simulate_field(shares, size_px=size_px, rng=rng, dish=dish, **options)


@pytest.fixture(scope="module")
def pure_fields():
    return {
        name: [_simulate({name: 1}, seed, 400, cells=22) for seed in range(4)]
        for name in sorted(LOOKS)
    }


def test_same_rng_gives_the_same_bytes():
    first, second = (_simulate({"HEK": 1, "N2a": 1}, seed=3) for _ in range(2))
    assert first.pixels.tobytes() == second.pixels.tobytes()
    assert first.labels.tobytes() == second.labels.tobytes()
    assert first.cell_types == second.cell_types


def test_another_seed_gives_another_field():
    first, second = (_simulate({"HEK": 1}, seed) for seed in (1, 2))
    assert (first.pixels != second.pixels).any()
    assert first.labels.tobytes() != second.labels.tobytes()


def test_shapes_and_dtypes_are_as_promised():
    field = _simulate({"HEK": 1}, size_px=130)
    assert (field.pixels.shape, field.pixels.dtype) == ((2, 130, 130), np.uint16)
    assert (field.labels.shape, field.labels.dtype) == ((130, 130), np.int32)
    assert field.pixels.max() <= 4095


@pytest.mark.parametrize("seed", range(3))
def test_labels_are_contiguous_and_each_cell_is_one_piece(seed):
    field = _simulate({"HEK": 1, "N2a": 1}, seed, 320, cells=30)
    count = len(field.cell_types)
    assert np.unique(field.labels).tolist() == list(range(count + 1))
    for label in range(1, count + 1):
        assert ndimage.label(field.labels == label)[1] == 1


def test_whole_cells_have_a_minimum_size(pure_fields):
    for name, fields in pure_fields.items():
        # 0.325 µm pixels are 0.1056 µm² each.
        least_px = LOOKS[name].area_um2 / 0.325**2 / 6
        for field in fields:
            areas_px = np.bincount(field.labels.ravel())
            rim = np.concatenate([field.labels[[0, -1]], field.labels[:, [0, -1]].T])
            whole = np.setdiff1d(np.arange(1, len(areas_px)), rim)
            assert areas_px[whole].min() >= least_px


def test_pure_field_holds_only_its_type(pure_fields):
    for name, fields in pure_fields.items():
        assert {kind for field in fields for kind in field.cell_types} == {name}


def test_type_without_a_share_is_absent():
    assert set(_simulate({"HEK": 0, "N2a": 2}, cells=8).cell_types) == {"N2a"}


def test_mixed_field_follows_the_shares():
    fields = [_simulate({"HEK": 3, "N2a": 1}, s, 512, cells=25) for s in range(4)]
    kinds = [kind for field in fields for kind in field.cell_types]
    # 100 draws at 0.75: the standard error is 0.043, so four of them are 0.17.
    assert abs(kinds.count("HEK") / len(kinds) - 0.75) < 0.17


def test_default_density_fills_a_usual_field():
    counts = [len(_simulate({"HEK": 1}, s, 512).cell_types) for s in range(3)]
    assert all(8 <= count <= 40 for count in counts)


def test_empty_field_has_background_and_noise():
    field = _simulate({"HEK": 1}, cells=0)
    assert field.cell_types == ()
    assert not field.labels.any()
    assert field.pixels[0].std() > 0


@pytest.mark.parametrize("size_px", [64, 65, 301])
def test_all_sizes_from_64_px_are_accepted(size_px):
    field = _simulate({"N2a": 1}, size_px=size_px)
    assert field.labels.shape == (size_px, size_px)


def test_too_many_cells_for_a_small_field_terminates_with_fewer():
    field = _simulate({"HEK": 1, "N2a": 1}, size_px=160, cells=300)
    assert 1 <= len(field.cell_types) < 300


def test_coarser_pixels_make_smaller_cells():
    areas_px = []
    for pixel_size_um in (0.325, 0.65):
        field = _simulate({"HEK": 1}, 5, pixel_size_um=pixel_size_um, cells=12)
        areas_px.append(np.median(np.bincount(field.labels.ravel())[1:]))
    # Twice the pixel size is a quarter of the pixels; cutting and chance move it.
    assert 2 < areas_px[0] / areas_px[1] < 8


def test_types_overlap_in_area_and_intensity(pure_fields):
    measured = {}
    for name, fields in pure_fields.items():
        rows = []
        for field in fields:
            index = np.arange(1, len(field.cell_types) + 1)
            area_px = np.bincount(field.labels.ravel())[1:]
            means = [ndimage.mean(p, field.labels, index) for p in field.pixels]
            rows.append(np.stack([area_px, *means]))
        measured[name] = np.concatenate(rows, axis=1)
    for hek, n2a in zip(measured["HEK"], measured["N2a"], strict=True):
        # The chance that a HEK value exceeds an N2a value: 0.5 is full overlap.
        assert 0.15 < (hek[:, None] > n2a).mean() < 0.85


def test_cells_are_brighter_than_background_in_both_channels(pure_fields):
    for fields in pure_fields.values():
        for field in fields:
            for channel in field.pixels:
                inside = channel[field.labels > 0].mean()
                assert inside > 1.5 * channel[field.labels == 0].mean()


def test_labels_agree_with_the_pixels(pure_fields):
    for fields in pure_fields.values():
        for field in fields:
            inside = ndimage.binary_erosion(field.labels > 0, iterations=3)
            far = ndimage.binary_dilation(field.labels > 0, iterations=25)
            # Nearly every pixel of a cell is brighter than pixels far from all cells.
            level = np.median(field.pixels[1][~far])
            assert (field.pixels[1][inside] > level).mean() > 0.99


def test_unknown_type_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"\['HeLa'\].*\['HEK', 'N2a'\]"):
        _simulate({"HeLa": 1})


@pytest.mark.parametrize(
    ("shares", "options", "message"),
    [
        ({}, {}, "positive sum, got {}"),
        ({"HEK": 0}, {}, "positive sum"),
        ({"HEK": 2, "N2a": -1}, {}, "-1"),
        ({"HEK": 1}, {"size_px": 63}, "got 63"),
        ({"HEK": 1}, {"cells": -1}, "got -1"),
        ({"HEK": 1}, {"pixel_size_um": 0}, "got 0"),
    ],
)
def test_values_out_of_range_are_refused(shares, options, message):
    with pytest.raises(ValueError, match=message):
        _simulate(shares, **options)


def test_dishes_differ():
    rng = np.random.default_rng(0)
    first, second = (Dish.random(rng) for _ in range(2))
    assert first != second
