"""Tests of cellclass_tf.microscopy.readers."""

import dataclasses
import sys

import numpy as np
import pytest
import tifffile

from cellclass_tf import errors
from cellclass_tf.microscopy import readers
from cellclass_tf.microscopy.formats import tiff
from cellclass_tf.storage import digests, png

# (T, Z, C, Y, X); every plane is constant and different.
STACK = np.broadcast_to(
    np.arange(12, dtype=np.uint16).reshape(2, 3, 2, 1, 1) * 10, (2, 3, 2, 16, 18)
).copy()


def write_ome(path, pixels=STACK, axes="TZCYX"):
    tifffile.imwrite(
        path,
        pixels,
        ome=True,
        photometric="minisblack",
        metadata={
            "axes": axes,
            "Channel": {"Name": ["DAPI", "GFP"]},
            "PhysicalSizeX": 250.0,
            "PhysicalSizeXUnit": "nm",
        },
    )


def test_ome_tiff_gives_names_pixel_size_and_every_time_point(tmp_path):
    write_ome(tmp_path / "a.ome.tif")
    fields = list(readers.read_micrographs(tmp_path / "a.ome.tif"))
    assert [(f.scene, f.time, f.z) for f in fields] == [(0, 0, "max"), (0, 1, "max")]
    assert fields[0].channel_names == ("DAPI", "GFP")
    assert fields[0].pixel_size_um == 0.25
    assert fields[0].sha256 == digests.sha256_of_file(tmp_path / "a.ome.tif")
    # Time 1: planes 6..11; the brightest of channel 0 is plane 10, of channel 1 plane 11.
    np.testing.assert_array_equal(fields[1].pixels[:, 0, 0], [100, 110])


def test_the_best_plane_is_the_sharpest(tmp_path):
    stack = STACK.copy()
    stack[0, 1, :, ::2] += 500
    write_ome(tmp_path / "a.ome.tif", stack)
    field = readers.read_micrograph(tmp_path / "a.ome.tif", projection="best")
    assert field.z == "best:1"
    np.testing.assert_array_equal(field.pixels, stack[0, 1])


def test_only_the_judged_channels_decide_which_plane_is_best(tmp_path):
    stack = STACK.copy()
    stack[:, 1, 0, ::2] += 500
    stack[:, 2, 1, ::2] += 5000
    write_ome(tmp_path / "a.ome.tif", stack)

    def planes(judged):
        found = readers.read_micrographs(
            tmp_path / "a.ome.tif", projection="best", judged=judged
        )
        return [field.z for field in found]

    assert planes(None) == ["best:2", "best:2"]
    seen = []

    def first_channel(field):
        seen.append((field.time, field.channel_names, field.pixels[0, 0, 0]))
        return [0]

    assert planes(first_channel) == ["best:1", "best:1"]
    assert seen == [(0, ("DAPI", "GFP"), 0), (1, ("DAPI", "GFP"), 60)]


def test_projection_none_refuses_stacks(tmp_path):
    write_ome(tmp_path / "a.ome.tif")
    with pytest.raises(errors.InputError, match="stack of 3 planes"):
        readers.read_micrograph(tmp_path / "a.ome.tif", projection="none")


def test_the_channels_of_colour_png_and_tiff_are_colours(tmp_path):
    image = (np.arange(16 * 20 * 3) % 256).astype(np.uint8).reshape(16, 20, 3)
    png.write_png(tmp_path / "a.png", image)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb")
    for name in ("a.png", "a.tif"):
        field = readers.read_micrograph(tmp_path / name)
        assert field.is_rgb
        assert field.channel_names == ("red", "green", "blue")
        np.testing.assert_array_equal(field.pixels, np.moveaxis(image, -1, 0))


def test_a_text_file_named_tif_shows_its_first_bytes(tmp_path):
    (tmp_path / "a.tif").write_text("dear diary")
    with pytest.raises(errors.InputError, match=r"a.tif.*dear dia"):
        next(readers.read_micrographs(tmp_path / "a.tif"))


def test_the_error_for_a_missing_scene_lists_the_others(tmp_path):
    write_ome(tmp_path / "a.ome.tif")
    with pytest.raises(errors.InputError, match="no scene 3"):
        readers.read_micrograph(tmp_path / "a.ome.tif", scene=3)


def test_a_missing_library_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE" + bytes(200))
    monkeypatch.setitem(sys.modules, "pylibCZIrw", None)
    with pytest.raises(errors.InputError, match=r"a\.czi.*'cellclass_tf\[czi\]'"):
        readers.read_micrograph(tmp_path / "a.czi")


def test_a_file_without_an_image_is_refused(tmp_path, monkeypatch):
    write_ome(tmp_path / "a.ome.tif")
    empty = dataclasses.replace(tiff.FORMAT, scenes=lambda path: iter(()))
    monkeypatch.setattr(readers, "FORMATS", (empty,))
    with pytest.raises(errors.InputError, match="file holds no image"):
        readers.read_micrograph(tmp_path / "a.ome.tif")


def test_error_messages_of_libraries_become_one_short_line(tmp_path, monkeypatch):
    def broken(path):
        raise KeyError("no such\nchunk " * 1000)

    write_ome(tmp_path / "a.ome.tif")
    failing = dataclasses.replace(tiff.FORMAT, scenes=broken)
    monkeypatch.setattr(readers, "FORMATS", (failing,))
    with pytest.raises(errors.InputError, match=r"a\.ome\.tif.*KeyError") as caught:
        readers.read_micrograph(tmp_path / "a.ome.tif")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_no_two_formats_claim_the_same_file(tmp_path):
    heads = (b"\x89PNG\r\n", b"II*\0", b"ZISRAWFILE", b"\xda\xce\xbe\x0a")
    heads += (b"\x70\0\0\0\x10\0\0\0\x2a", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    heads += (bytes(96) + b"\xa0\xc0",)
    for head in heads:
        claims = [f.name for f in readers.FORMATS if f.claims(tmp_path / "a", head)]
        assert len(claims) == 1, head
