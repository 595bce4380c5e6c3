"""Tests of cellclass_tf.microscopy.formats.jpeg, and of loss in other files."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers
from cellclass_tf.microscopy.conversion import convert


@pytest.fixture
def picture(draw_scene):
    return draw_scene(0, 64)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.tif", "a.png"])
def test_jpeg_is_refused_with_the_reason_unless_it_is_allowed(tmp_path, picture, name):
    # The content counts, and not the name.
    Image.fromarray(picture).save(tmp_path / name, format="JPEG", quality=95)
    with pytest.raises(InputError, match=r"compressed as JPEG.*--allow_lossy"):
        list(readers.read_micrographs(tmp_path / name))
    (field,) = readers.read_micrographs(tmp_path / name, allow_lossy=True)
    assert field.is_rgb
    assert field.pixels.dtype == np.uint8
    expected = np.asarray(Image.open(tmp_path / name)).transpose(2, 0, 1)
    np.testing.assert_array_equal(field.pixels, expected)


def test_grey_jpeg_has_one_channel(tmp_path, picture):
    Image.fromarray(picture[..., 1]).save(tmp_path / "a.jpg")
    (field,) = readers.read_micrographs(tmp_path / "a.jpg", allow_lossy=True)
    assert field.pixels.shape == (1, 64, 64)
    assert not field.is_rgb


def test_jpeg_compression_in_a_tiff_is_refused_too(tmp_path, picture):
    for compression in ("jpeg", "zlib"):
        path = tmp_path / f"{compression}.tif"
        tifffile.imwrite(path, picture, photometric="rgb", compression=compression)
    with pytest.raises(InputError, match=r"jpeg\.tif: .* compressed as JPEG"):
        list(readers.read_micrographs(tmp_path / "jpeg.tif"))
    assert len(list(readers.read_micrographs(tmp_path / "jpeg.tif", allow_lossy=True)))
    assert len(list(readers.read_micrographs(tmp_path / "zlib.tif")))


def test_a_broken_jpeg_is_refused(tmp_path, picture):
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).save(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match="the JPEG file cannot be read"):
        list(readers.read_micrographs(path, allow_lossy=True))


def test_convert_reads_jpeg_if_it_is_allowed(tmp_path, picture):
    (tmp_path / "raw" / "HEK").mkdir(parents=True)
    Image.fromarray(picture).save(tmp_path / "raw" / "HEK" / "a.jpg", quality=95)
    with pytest.raises(
        InputError, match="Take the original files, or add --allow_lossy"
    ):
        convert(tmp_path / "raw", tmp_path / "s")
    said = {"nuclei": "blue", "cytoplasm": "green", "allow_lossy": True}
    outcome = convert(tmp_path / "raw", tmp_path / "s", **said)
    assert not outcome.failures
    assert outcome.notes == ("read: 1 .jpg",)
    (row,) = Study.open(tmp_path / "s").rows()
    assert row.image == "HEK/a.png"
    # The same holds for a single file.
    source = tmp_path / "raw" / "HEK" / "a.jpg"
    outcome = convert(source, tmp_path / "s2", cell_type="HEK")
    assert "compressed as JPEG" in next(iter(outcome.failures.values()))
