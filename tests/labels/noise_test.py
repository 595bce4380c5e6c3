"""Tests of cellclass_tf.labels.noise."""

import numpy as np
import pytest

from cellclass_tf.labels import noise


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_noise_is_estimated_despite_bright_structures(dtype):
    rng = np.random.default_rng(0)
    light = np.full((600, 600), 100.0)
    light[100:200, 100:300] += 80
    channel = np.clip(light + rng.normal(0, 5, light.shape), 0, 255).astype(dtype)
    assert noise.noise_sd(channel) == pytest.approx(5, rel=0.1)


def test_one_column_or_one_grey_value_has_no_noise():
    assert noise.noise_sd(np.zeros((5, 1), np.uint8)) == 0
    assert noise.noise_sd(np.full((50, 50), 7, np.uint8)) == 0


def test_a_signal_must_exceed_both_limits_to_stand_out():
    assert noise.stands_out(9, 1)
    assert not noise.stands_out(7, 0.1)
    assert noise.stands_out(41, 10)
    assert not noise.stands_out(39, 10)


def test_outliers_do_not_change_the_robust_deviation():
    values = np.random.default_rng(0).normal(0, 2, 10_000)
    values[:500] = 1e6
    assert noise.robust_sd(values) == pytest.approx(2, rel=0.1)
