"""Tests of cellclass_tf.microscopy.quality.focus."""

import numpy as np
import pytest
from scipy import ndimage

from cellclass_tf.microscopy.quality import focus


def measure(plane, step=2):
    reduced = plane[::step, ::step].astype(np.float32)
    return focus.measure(plane, ndimage.gaussian_filter(reduced, 1), step)


def speckles(shape, sigma, contrast=3000, seed=0):
    """Returns structures about as large as `sigma` pixels, without camera noise."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    return 20_000 + contrast * smooth / smooth.std()


def camera(plane, read_noise=0.0):
    noise = np.random.default_rng(1).normal(0, read_noise, plane.shape)
    return np.rint(plane + noise).astype(np.uint16)


@pytest.mark.parametrize("period", [8, 16, 32])
def test_the_laplacian_variance_of_a_wave_follows_from_its_period(period):
    wave = 1000 + 500 * np.sin(2 * np.pi * np.arange(256) / period)
    _, laplacian = measure(camera(np.tile(wave, (256, 1))))
    # The second derivative of a wave is its square of frequency times the wave.
    assert laplacian == pytest.approx(4 * np.log10(2 * np.pi / period), abs=0.05)


@pytest.mark.parametrize("exponent", [2.0, 3.0])
def test_the_slope_is_the_exponent_of_the_power_spectrum(exponent):
    y, x = np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512)[None]
    frequency = np.maximum(np.hypot(y, x), 1 / 512)
    # Periods below 3 px are left out, as an objective does.
    amplitude = frequency ** (-exponent / 2) * (frequency < 1 / 3)
    white = np.fft.rfft2(np.random.default_rng(0).standard_normal((512, 512)))
    plane = np.fft.irfft2(white * amplitude)
    slope, _ = measure(camera(20_000 + 3000 * plane / plane.std()))
    assert slope == pytest.approx(-exponent, abs=0.3)


def test_camera_noise_does_not_change_the_sharpness():
    plane = speckles((256, 256), 6)
    clean, noisy = measure(camera(plane)), measure(camera(plane, read_noise=1000))
    # With the noise, the value would be larger by 0.5.
    assert noisy[1] == pytest.approx(clean[1], abs=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_planes_of_noise_or_one_grey_value_have_no_sharpness(seed):
    noise = np.random.default_rng(seed).normal(1000, 30, (512, 512))
    assert measure(camera(noise)) == focus.NOTHING
    assert measure(np.full((512, 512), 7, np.uint8)) == focus.NOTHING


def test_only_the_tiles_with_most_structure_are_measured():
    sharp = speckles((512, 512), 2)
    plane = np.concatenate([speckles((512, 512), 8, contrast=500), sharp], axis=1)
    assert measure(camera(plane)) == pytest.approx(measure(camera(sharp)), rel=1e-4)


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("shape", [(400, 400), (511, 300), (300, 1000)])
def test_structure_is_found_wherever_it_is(shape, corner):
    # A field of 400 px was measured in its first 256 px alone.
    part = speckles((128, 128), 2)
    plane = np.full(shape, part.mean())
    top, left = (c * (n - 128) for c, n in zip(corner, shape, strict=True))
    plane[top : top + 128, left : left + 128] = part
    sharpness = measure(camera(plane))[1]
    assert sharpness == pytest.approx(measure(camera(part))[1], abs=0.3)


def test_a_plane_too_small_for_a_slope_still_has_a_sharpness():
    # Of 8 px, where a single frequency lies between those that are measured.
    wave = 1000 + 500 * np.sin(2 * np.pi * np.arange(8) / 8)
    slope, laplacian = measure(camera(np.tile(wave, (8, 1))))
    assert slope == 0
    assert -3 < laplacian < 0
