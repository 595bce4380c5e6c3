"""Tests of cellclass_tf.microscopy.readers."""

import numpy as np
import pytest
import tifffile

from cellclass_tf import files
from cellclass_tf.microscopy import readers

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
    assert fields[0].sha256 == files.sha256_of_file(tmp_path / "a.ome.tif")
    # Time 1: planes 6..11; the brightest of channel 0 is plane 10, of channel 1 plane 11.
    np.testing.assert_array_equal(fields[1].pixels[:, 0, 0], [100, 110])


def test_the_best_plane_is_the_sharpest(tmp_path):
    stack = STACK.copy()
    stack[0, 1, :, ::2] += 500
    write_ome(tmp_path / "a.ome.tif", stack)
    field = readers.read_micrograph(tmp_path / "a.ome.tif", projection="best")
    assert field.z == "best:1"
    np.testing.assert_array_equal(field.pixels, stack[0, 1])


def test_a_stack_is_refused_if_so_asked(tmp_path):
    write_ome(tmp_path / "a.ome.tif")
    with pytest.raises(files.InputError, match="stack of 3 planes"):
        readers.read_micrograph(tmp_path / "a.ome.tif", projection="none")


def test_imagej_hyperstack_gives_labels_and_pixel_size(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        STACK[0, 0],
        imagej=True,
        resolution=(4.0, 4.0),
        metadata={"axes": "CYX", "unit": "um", "Labels": ["nuclei", "actin"]},
    )
    field = readers.read_micrograph(tmp_path / "a.tif")
    assert field.channel_names == ("nuclei", "actin")
    assert field.pixel_size_um == pytest.approx(0.25)


def test_a_printing_resolution_is_no_pixel_size(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", STACK[0, 0, 0], resolution=(72, 72), resolutionunit=2
    )
    assert readers.read_micrograph(tmp_path / "a.tif").pixel_size_um is None


def test_colour_png_and_tiff_have_colours_for_channels(tmp_path):
    image = (np.arange(16 * 20 * 3) % 256).astype(np.uint8).reshape(16, 20, 3)
    files.write_png(tmp_path / "a.png", image)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb")
    for name in ("a.png", "a.tif"):
        field = readers.read_micrograph(tmp_path / name)
        assert field.is_rgb and field.channel_names == ("red", "green", "blue")
        np.testing.assert_array_equal(field.pixels, np.moveaxis(image, -1, 0))


def test_a_text_file_named_tif_shows_its_first_bytes(tmp_path):
    (tmp_path / "a.tif").write_text("dear diary")
    with pytest.raises(files.InputError, match="a.tif.*dear dia"):
        next(readers.read_micrographs(tmp_path / "a.tif"))


def test_a_truncated_tiff_is_named(tmp_path):
    path = tmp_path / "a.ome.tif"
    noise = np.random.default_rng(0).integers(0, 4000, (2, 64, 64), np.uint16)
    write_ome(path, noise, "CYX")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(files.InputError, match=r"a\.ome\.tif.*truncated"):
        next(readers.read_micrographs(path))


def test_a_scene_that_is_not_there_lists_those_that_are(tmp_path):
    write_ome(tmp_path / "a.ome.tif")
    with pytest.raises(files.InputError, match="no scene 3"):
        readers.read_micrograph(tmp_path / "a.ome.tif", scene=3)


@pytest.mark.parametrize(
    ("name", "channels", "shape", "pixel_size_um"),
    [
        # 9.635468 pixels per µm.
        ("sample_EmbryoTorax_multichannel.tif", 2, (512, 512), 1 / 9.635468),
        ("cellprofiler_largeimg.ome.tiff", 2, (512, 512), None),
        ("hela-cells.tif", 3, (512, 672), 1 / 19.420064),
    ],
)
def test_real_files(assets, name, channels, shape, pixel_size_um):
    field = readers.read_micrograph(assets / "microscope_files" / "tif" / name)
    assert field.pixels.shape == (channels, *shape)
    if pixel_size_um:
        assert field.pixel_size_um == pytest.approx(pixel_size_um, rel=1e-4)
