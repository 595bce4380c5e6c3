"""Tests of cellclass_tf.microscopy.quality.figures."""

import numpy as np
import pytest

from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.microscopy.quality import figures


def measure(pixels):
    return figures.measure(Micrograph(pixels, ("nuclei", "cytoplasm")), (0, 1))


@pytest.mark.parametrize("top", [255, 1023, 4095, 65535])
def test_pixels_at_the_maximum_of_the_camera_are_saturated(top):
    rng = np.random.default_rng(0)
    dtype = np.uint8 if top == 255 else np.uint16
    pixels = rng.integers(0, top // 2, (2, 100, 100)).astype(dtype)
    before = measure(pixels)
    assert before.saturated_share == before.display_clipped_share == 0
    # 500 of 10,000 pixels of one channel.
    pixels[1, :5] = top
    found = measure(pixels)
    shares = (found.saturated_share, found.display_clipped_share)
    assert shares == ((0.0, 0.05) if top == 255 else (0.05, 0.0))


def test_nuclei_are_counted_and_measured():
    pixels = np.full((2, 256, 256), 100, np.uint16)
    y, x = np.mgrid[:256, :256]
    for centre in ((60, 60), (60, 180), (180, 120), (190, 210)):
        inside = np.hypot(y - centre[0], x - centre[1]) < 12
        pixels[:, inside] = 1000
    found = measure(pixels)
    assert found.nuclei_estimate == 4
    # Of 24 px, and less than a pixel of smoothing to each side.
    assert found.nucleus_px == pytest.approx(25, abs=1.5)
