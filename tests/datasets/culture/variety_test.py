"""Tests of cellclass_tf.datasets.culture.variety."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf.datasets.culture import variety
from cellclass_tf.datasets.culture.field import simulate_field


def look_of(seed):
    return variety.random_look(np.random.default_rng(seed))


def test_the_same_seed_gives_the_same_look_and_dish():
    assert look_of(1) == look_of(1) != look_of(2)
    first, same, other = (
        variety.random_dish(np.random.default_rng(seed), 250) for seed in (1, 1, 2)
    )
    assert first == same != other


def test_random_looks_can_be_drawn():
    for look in map(look_of, range(200)):
        figures = dataclasses.asdict(look)
        odds = figures.pop("neurite_odds")
        assert sum(odds) == pytest.approx(1)
        assert min(odds) >= 0
        assert all(np.isfinite(v) and v >= 0 for v in figures.values())
        assert look.aspect_max >= 1
        assert look.colony_cells >= 1
        # The rest of the distribution of their number has to be positive, see `drawing`.
        assert look.chromocentres == 0 or look.chromocentres >= 3


def test_looks_and_dishes_are_varied():
    looks = [look_of(seed) for seed in range(100)]
    for name in ("area_um2", "aspect_max", "brightness", "nucleus_brightness"):
        low, high = np.quantile([getattr(look, name) for look in looks], [0.05, 0.95])
        assert high > 1.5 * low, name
    for name in ("chromocentres", "ruffle", "cohesion"):
        share = np.mean([getattr(look, name) > 0 for look in looks])
        assert 0.15 < share < 0.85, name
    dishes = [variety.random_dish(np.random.default_rng(s), 250) for s in range(100)]
    for name in ("blur_um", "haze", "cells_per_mm2", "electrons_per_count"):
        low, high = np.quantile([getattr(dish, name) for dish in dishes], [0.05, 0.95])
        assert high > 2 * low, name


def test_large_cells_are_fewer_and_cover_the_same_area():
    small, large = (
        variety.random_dish(np.random.default_rng(0), area) for area in (100, 400)
    )
    assert small.cells_per_mm2 == pytest.approx(4 * large.cells_per_mm2)


@pytest.mark.parametrize("seed", range(4))
def test_a_field_of_a_random_type_holds_whole_cells(seed):
    rng = np.random.default_rng(seed)
    look = variety.random_look(rng)
    field = simulate_field(
        {"new": 1},
        size_px=256,
        rng=rng,
        dish=variety.random_dish(rng, look.area_um2),
        looks={"new": look},
        cells=12,
    )
    assert set(field.cell_types) == {"new"}
    present = np.unique(field.labels)
    assert present.tolist() == list(range(len(field.cell_types) + 1))
