"""Tests of cellclass_tf.microscopy.formats.omezarr."""

import json

import numpy as np
import pytest
import zarr

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers
from cellclass_tf.storage import digests

SIZES = {"t": 2, "c": 2, "z": 3, "y": 32, "x": 40}
# Versions of Zarr, by version of OME-NGFF.
ZARR_FORMATS = {"0.4": 2, "0.5": 3}


def noise(axes="tczyx", seed=0):
    shape = [SIZES[axis] for axis in axes]
    return np.random.default_rng(seed).integers(0, 4000, shape, np.uint16)


def image_attributes(axes, path="0", unit="micrometer"):
    units = {axis: {"unit": unit} for axis in "zyx"} if unit else {}
    scale = [0.5 if axis in "yx" else 1.0 for axis in axes]
    return {
        "multiscales": [
            {
                "axes": [{"name": axis} | units.get(axis, {}) for axis in axes],
                "datasets": [
                    {
                        "path": path,
                        "coordinateTransformations": [
                            {"type": "scale", "scale": scale}
                        ],
                    }
                ],
                # This scale is multiplied by that of the level.
                "coordinateTransformations": [
                    {"type": "scale", "scale": [0.5 for _ in axes]}
                ],
            }
        ],
        "omero": {"channels": [{"label": "DAPI"}, {"label": "GFP"}]},
    }


def group(path, attributes, version="0.4"):
    if version == "0.5":
        attributes = {"ome": attributes | {"version": version}}
    return zarr.open_group(
        str(path), mode="w", zarr_format=ZARR_FORMATS[version], attributes=attributes
    )


def write_image(path, pixels, axes="tczyx", version="0.4", **options):
    chunks = (1,) * (pixels.ndim - 2) + (16, 16)
    options = {"chunks": chunks} | options
    image = group(path, image_attributes(axes), version)
    array = image.create_array("0", shape=pixels.shape, dtype=pixels.dtype, **options)
    array[:] = pixels
    return path


def change(path, old, new):
    """Changes the text of one file of metadata."""
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("version", ZARR_FORMATS)
def test_an_image_with_times_channels_and_planes_is_read(tmp_path, version):
    pixels = noise()
    path = write_image(tmp_path / "a.zarr", pixels, version=version)
    fields = list(readers.read_micrographs(path))
    assert [(field.time, field.z) for field in fields] == [(0, "max"), (1, "max")]
    for field, expected in zip(fields, pixels, strict=True):
        np.testing.assert_array_equal(field.pixels, expected.max(axis=1))
    assert fields[0].channel_names == ("DAPI", "GFP")
    # The level has 0.5 µm, times 0.5 for all levels.
    assert fields[0].pixel_size_um == 0.25
    assert fields[0].sha256 == digests.sha256_of_tree(path)
    assert fields[0].reader == f"zarr {zarr.__version__}"


@pytest.mark.parametrize("axes", ["cyx", "zcyx", "cxy", "yxc"])
def test_axes_are_identified_by_their_names(tmp_path, axes):
    pixels = noise(axes)
    path = write_image(tmp_path / "a.zarr", pixels, axes, chunks=pixels.shape)
    (field,) = readers.read_micrographs(path)
    expected = np.moveaxis(pixels, [axes.index(a) for a in "cyx"], [-3, -2, -1])
    np.testing.assert_array_equal(
        field.pixels, expected.max(axis=0) if "z" in axes else expected
    )


def test_pixels_that_are_not_square_are_reported(tmp_path):
    path = write_image(tmp_path / "a.zarr", noise("cyx"), "cyx")
    attributes = json.loads((path / ".zattrs").read_text())
    (level,) = attributes["multiscales"][0]["datasets"]
    level["coordinateTransformations"][0]["scale"] = [1, 1.0, 0.5]
    (path / ".zattrs").write_text(json.dumps(attributes))
    field = readers.read_micrograph(path)
    assert field.pixel_size_um is None
    assert field.pixel_size_problem == "0.25 x 0.5 µm, pixels that are not square"


def test_five_axes_without_names_are_tczyx(tmp_path):
    pixels = noise()
    path = write_image(tmp_path / "a.zarr", pixels)
    attributes = json.loads((path / ".zattrs").read_text())
    del attributes["multiscales"][0]["axes"]
    (path / ".zattrs").write_text(json.dumps(attributes))
    field = readers.read_micrograph(path)
    np.testing.assert_array_equal(field.pixels, pixels[0].max(axis=1))
    assert field.pixel_size_um is None


@pytest.mark.parametrize("version", ZARR_FORMATS)
def test_a_plate_gives_its_fields_in_order(tmp_path, version):
    wells = [{"path": "B/03"}, {"path": "C/01"}]
    group(tmp_path / "p.zarr", {"plate": {"wells": wells}}, version)
    expected = []
    for well in ("B/03", "C/01"):
        fields = {"images": [{"path": "0"}, {"path": "1"}]}
        group(tmp_path / "p.zarr" / well, {"well": fields}, version)
        for number in (0, 1):
            expected.append(noise("cyx", seed=len(expected)))
            place = tmp_path / "p.zarr" / well / str(number)
            write_image(place, expected[-1], "cyx", version)
    fields = list(readers.read_micrographs(tmp_path / "p.zarr"))
    names = ["B/03/0", "B/03/1", "C/01/0", "C/01/1"]
    assert [field.scene_name for field in fields] == names
    assert [field.well for field in fields] == ["B03", "B03", "C01", "C01"]
    assert [field.scene for field in fields] == [0, 1, 2, 3]
    np.testing.assert_array_equal([field.pixels for field in fields], expected)


@pytest.mark.parametrize("listed", [True, False])
def test_series_of_bioformats2raw_are_read(tmp_path, listed):
    group(tmp_path / "a.zarr", {"bioformats2raw.layout": 3})
    if listed:
        group(tmp_path / "a.zarr" / "OME", {"series": ["0", "1"]})
    # They are sorted as numbers, so that 10 comes after 2.
    numbers = ["0", "1"] if listed else ["0", "2", "10"]
    for seed, name in enumerate(numbers):
        write_image(tmp_path / "a.zarr" / name, noise("cyx", seed=seed), "cyx")
    fields = list(readers.read_micrographs(tmp_path / "a.zarr"))
    assert [field.scene_name for field in fields] == numbers
    for seed, field in enumerate(fields):
        np.testing.assert_array_equal(field.pixels, noise("cyx", seed=seed))


@pytest.mark.parametrize("escape", ["../other.zarr/0", "/etc", "a/../0"])
def test_a_path_outside_of_the_folder_is_refused(tmp_path, escape):
    write_image(tmp_path / "other.zarr", noise("cyx"), "cyx")
    path = write_image(tmp_path / "a.zarr", noise("cyx"), "cyx")
    change(path / ".zattrs", '"path": "0"', f'"path": "{escape}"')
    with pytest.raises(InputError, match=r"a\.zarr: its metadata point out"):
        readers.read_micrograph(path)


def test_a_well_outside_of_the_folder_and_a_link_are_refused(tmp_path):
    write_image(tmp_path / "other.zarr", noise("cyx"), "cyx")
    group(tmp_path / "p.zarr", {"plate": {"wells": [{"path": "../other.zarr"}]}})
    with pytest.raises(InputError, match="point out"):
        readers.read_micrograph(tmp_path / "p.zarr")
    path = write_image(tmp_path / "a.zarr", noise("cyx"), "cyx")
    (path / "1").symlink_to(tmp_path / "other.zarr" / "0")
    change(path / ".zattrs", '"path": "0"', '"path": "1"')
    with pytest.raises(InputError, match="point out"):
        readers.read_micrograph(path)


def claimed(path, **changes):
    """Writes an image whose array claims other numbers than it holds."""
    write_image(path, noise("cyx"), "cyx")
    metadata = json.loads((path / "0" / ".zarray").read_text())
    (path / "0" / ".zarray").write_text(json.dumps(metadata | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [2, 40_000, 40_000]}, "40000 x 40000 px"),
        ({"chunks": [2, 3000, 3000]}, "which are far larger"),
        (
            {"shape": [2, 12_000, 12_000], "chunks": [2, 12_000, 12_000]},
            "chunks of .2, 12000, 12000., more than the 200,000,000 px",
        ),
        ({"compressor": {"id": "pickle", "protocol": 5}}, "pickle"),
        ({"dtype": "|S8", "fill_value": ""}, "expected grey values"),
        ({"shape": [2, 4, 4]}, "at least 16 x 16 px"),
    ],
)
def test_arrays_that_are_not_safe_to_read_are_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        readers.read_micrograph(claimed(tmp_path / "a.zarr", **changes))


def test_an_array_without_any_chunk_is_refused(tmp_path):
    path = write_image(tmp_path / "a.zarr", noise("cyx"), "cyx")
    for chunk in (path / "0").glob("[0-9]*"):
        chunk.unlink()
    with pytest.raises(InputError, match="holds no pixels"):
        readers.read_micrograph(path)


def test_the_error_for_a_broken_chunk_names_the_file(tmp_path):
    path = write_image(tmp_path / "a.zarr", noise("cyx"), "cyx")
    chunk = path / "0" / "0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(InputError, match=r"a\.zarr: the chunk 0/0\.0\.0 is broken"):
        readers.read_micrograph(path)


def test_axes_of_unknown_meaning_are_refused(tmp_path):
    pixels = noise("cyx")
    path = write_image(tmp_path / "a.zarr", pixels, "cyx")
    change(path / ".zattrs", '"name": "c"', '"name": "phase"')
    with pytest.raises(InputError, match="axes phase, y, x"):
        readers.read_micrograph(path)


def test_a_folder_of_other_data_says_what_is_missing(tmp_path):
    group(tmp_path / "a.zarr", {})
    with pytest.raises(InputError, match="without an OME-NGFF image"):
        readers.read_micrograph(tmp_path / "a.zarr")
    (tmp_path / "plain").mkdir()
    with pytest.raises(InputError, match="plain: of no known format"):
        readers.read_micrograph(tmp_path / "plain")


def test_the_error_for_broken_metadata_names_the_folder(tmp_path):
    path = write_image(tmp_path / "a.zarr", noise("cyx"), "cyx")
    text = (path / ".zattrs").read_text()
    (path / ".zattrs").write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=r"a\.zarr"):
        readers.read_micrograph(path)


def test_the_translation_of_the_full_resolution_is_the_position(tmp_path):
    path = write_image(tmp_path / "a.zarr", noise("cyx"), "cyx")
    assert readers.read_micrograph(path).stage_um is None
    content = json.loads((path / ".zattrs").read_text())
    changes = content["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    changes.append({"type": "translation", "translation": [0, -20.5, 300]})
    (path / ".zattrs").write_text(json.dumps(content))
    assert readers.read_micrograph(path).stage_um == (300, -20.5)
    changes[-1]["translation"] = [300]
    (path / ".zattrs").write_text(json.dumps(content))
    assert readers.read_micrograph(path).stage_um is None
