"""Tests of cellclass_tf.microscopy.formats.smaller_copies."""

import logging

import numpy as np
import pytest
import tifffile

from cellclass_tf.microscopy import readers


def noise(seed, height=130, width=162):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4000, (2, height, width)).astype(np.uint16)


def block_means(pixels, k):
    height, width = (size // k for size in pixels.shape[1:])
    cut = pixels[:, : height * k, : width * k]
    return cut.reshape(2, height, k, width, k).mean(axis=(2, 4)).astype(np.uint16)


def single_pixels(pixels, k):
    return np.ascontiguousarray(pixels[:, ::k, ::k])


def write(path, images):
    with tifffile.TiffWriter(path, ome=True) as file:
        for pixels in images:
            file.write(pixels, photometric="minisblack", metadata={"axes": "CYX"})
    return path


@pytest.mark.parametrize("reduced", [block_means, single_pixels])
def test_levels_of_a_pyramid_are_left_out(tmp_path, caplog, reduced):
    images = []
    for seed in (0, 1):
        images += [noise(seed), *(reduced(noise(seed), k) for k in (2, 4))]
    path = write(tmp_path / "a.ome.tif", images)
    with caplog.at_level(logging.WARNING):
        found = list(readers.read_micrographs(path))
    assert [field.scene for field in found] == [0, 3]
    for seed, field in enumerate(found):
        np.testing.assert_array_equal(field.pixels, noise(seed))
    assert "a.ome.tif: 4 of 6 images are left out" in caplog.text
    assert "(image 1 shows image 0)" in caplog.text


@pytest.mark.parametrize(
    "other",
    [
        # Other fields, of half the size and not, and a part of the first field.
        noise(5, 65, 81),
        noise(5, 65, 100),
        noise(5),
        noise(0)[:, :65, :81],
        # Other channels.
        block_means(noise(0), 2)[:1],
        np.full((2, 65, 81), 7, np.uint16),
    ],
)
def test_other_images_stay(tmp_path, caplog, other):
    path = write(tmp_path / "a.ome.tif", [noise(0), other])
    assert len(list(readers.read_micrographs(path))) == 2
    assert "left out" not in caplog.text
