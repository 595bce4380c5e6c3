"""Tests of cellclass_tf.datasets.culture.looks."""

import dataclasses
import itertools

import numpy as np
import pytest

from cellclass_tf.datasets.culture.looks import QUALITIES, Dish

# The attributes that each quality sets.
FIGURES = {
    "illumination": {"illumination_falloff", "stain_gain_counts", "background_counts"},
    "stain": {"stain_gain_counts"},
    "focus": {"blur_um", "haze"},
    "density": {"cells_per_mm2"},
}


def dishes(confounded=(), culture=0, cultures=2, count=40):
    return [
        Dish.random(
            np.random.default_rng([culture, seed]),
            confounded=confounded,
            culture=culture,
            cultures=cultures,
        )
        for seed in range(count)
    ]


def values(found, figure):
    return np.array([getattr(dish, figure) for dish in found])


@pytest.mark.parametrize(
    ("quality", "figure"),
    [
        ("illumination", "illumination_falloff"),
        ("stain", "stain_gain_counts"),
        ("focus", "blur_um"),
        ("focus", "haze"),
        ("density", "cells_per_mm2"),
    ],
)
@pytest.mark.parametrize("cultures", [2, 3])
def test_confounded_qualities_have_different_values_in_each_culture(
    quality, figure, cultures
):
    ranges = []
    for culture in range(cultures):
        found = values(dishes((quality,), culture, cultures), figure)
        ranges.append((found.min(), found.max()))
    ranges.sort()
    for (_, high), (low, _) in itertools.pairwise(ranges):
        assert high < low


@pytest.mark.parametrize("quality", QUALITIES)
def test_confounded_qualities_stay_in_the_usual_range(quality):
    free = dishes(count=200)
    for figure in FIGURES[quality]:
        usual = values(free, figure)
        for culture in (0, 1):
            found = values(dishes((quality,), culture), figure)
            assert found.min() > 0.6 * usual.min()
            assert found.max() < 1.6 * usual.max()


def test_a_dim_lamp_darkens_stain_and_background_alike():
    free, dim = dishes(count=1)[0], dishes(("illumination",), count=1)[0]
    stain = np.divide(dim.stain_gain_counts, free.stain_gain_counts)
    background = np.divide(dim.background_counts, free.background_counts)
    np.testing.assert_allclose([*stain, *background], stain[0])
    assert stain[0] < 1.1


@pytest.mark.parametrize("quality", QUALITIES)
def test_qualities_that_are_not_confounded_do_not_change(quality):
    for free, confounded in zip(dishes(), dishes((quality,)), strict=True):
        differ = {
            field.name
            for field in dataclasses.fields(Dish)
            if getattr(free, field.name) != getattr(confounded, field.name)
        }
        assert differ == FIGURES[quality]


def test_dishes_of_different_cultures_are_alike_unless_confounded():
    for figure in ("illumination_falloff", "blur_um", "cells_per_mm2"):
        hek, n2a = (values(dishes(culture=c, count=200), figure) for c in (0, 1))
        # The chance that one exceeds the other; its standard error is 0.03.
        assert abs((hek[:, None] > n2a).mean() - 0.5) < 0.1
