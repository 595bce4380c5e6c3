"""Tests of cellclass_tf.microscopy.formats.ome_files: images in several files."""

import logging

import numpy as np
import pytest
import tifffile

import cellclass_tf as cc
from cellclass_tf.datasets.culture import field, looks
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers
from cellclass_tf.microscopy.files import raw_files
from cellclass_tf.microscopy.formats.base import PartOfAnother
from cellclass_tf.storage import digests

CHANNELS = ("DAPI", "GFP")


def image_xml(number, files, *, width=32, uuids=True, channels=CHANNELS):
    """Returns an Image of one plane per channel; `files` has a (file, page) for each."""
    planes = "".join(
        f'<TiffData FirstC="{c}" IFD="{page}" PlaneCount="1">'
        + (f'<UUID FileName="{name}">urn:uuid:{name}</UUID>' if uuids else "")
        + "</TiffData>"
        for c, (name, page) in enumerate(files)
    )
    names = "".join(f'<Channel ID="Channel:0:{n}" Name="{n}"/>' for n in channels)
    return (
        f'<Image ID="Image:{number}" Name="Pos{number}"><Pixels ID="Pixels:{number}" '
        f'DimensionOrder="XYCZT" Type="uint16" SizeX="{width}" SizeY="{width}" '
        f'SizeC="{len(channels)}" SizeZ="1" SizeT="1" PhysicalSizeX="0.5" '
        f'PhysicalSizeXUnit="µm">{names}{planes}</Pixels></Image>'
    )


def ome(content, uuid=""):
    told = f' UUID="urn:uuid:{uuid}"' if uuid else ""
    space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{space}"{told}>'
        f"{content}</OME>"
    ).encode()


def write(path, planes, xml):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path, planes, description=xml, metadata=None, photometric="minisblack"
    )


def pixels(seed, width=32, count=2):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4000, (count, width, width)).astype(np.uint16)


def write_a_file_a_channel(folder, planes, **options):
    names = ("a_w1.ome.tif", "a_w2.ome.tif")
    image = image_xml(0, [(name, 0) for name in names], width=planes.shape[-1])
    for name, plane in zip(names, planes, strict=True):
        write(folder / name, plane, ome(image, name))
    return [folder / name for name in names]


def write_positions(folder, *, named=True, count=3):
    """Writes a file per position, each with the metadata of all, as Micro-Manager does."""
    names = [f"Pos{i}.ome.tif" for i in range(count)]
    content = "".join(
        image_xml(i, [(name, 0), (name, 1)]) for i, name in enumerate(names)
    )
    for i, name in enumerate(names):
        write(folder / name, pixels(i), ome(content, name if named else ""))
    return [folder / name for name in names]


def test_files_with_one_channel_each_are_one_field(tmp_path):
    planes = pixels(0)
    paths = write_a_file_a_channel(tmp_path, planes)
    (found,) = readers.read_micrographs(paths[0])
    np.testing.assert_array_equal(found.pixels, planes)
    assert found.channel_names == CHANNELS
    assert found.pixel_size_um == 0.5
    assert found.file == "|".join(map(str, paths))
    assert found.sha256 == "|".join(digests.sha256_of_path(path) for path in paths)
    with pytest.raises(PartOfAnother, match=r"begins in a_w1\.ome\.tif"):
        list(readers.read_micrographs(paths[1]))


@pytest.mark.parametrize("named", [True, False])
def test_each_position_is_read_once_and_from_its_own_file(tmp_path, named):
    for i, path in enumerate(write_positions(tmp_path, named=named)):
        (found,) = readers.read_micrographs(path)
        np.testing.assert_array_equal(found.pixels, pixels(i))
        assert (found.scene, found.scene_name) == (0, f"Pos{i}")
        assert found.file == str(path)


def test_positions_may_be_sorted_into_folders_and_left_out(tmp_path):
    first, second, third = write_positions(tmp_path / "all")
    for path, cell_type in ((first, "HEK"), (third, "N2a")):
        (tmp_path / "raw" / cell_type).mkdir(parents=True)
        path.rename(tmp_path / "raw" / cell_type / path.name)
    second.unlink()
    found = raw_files.find(tmp_path / "raw", None, None)
    assert [raw.name for raw in found.files] == [
        str(tmp_path / "raw/HEK/Pos0.ome.tif"),
        str(tmp_path / "raw/N2a/Pos2.ome.tif"),
    ]
    (read,) = readers.read_micrographs(found.files[1].path)
    np.testing.assert_array_equal(read.pixels, pixels(2))


@pytest.mark.parametrize("count", [1, 2])
def test_a_renamed_file_is_recognized_by_its_uuid(tmp_path, count):
    path = write_positions(tmp_path, count=count)[0]
    path = path.rename(tmp_path / "dish 1.ome.tif")
    (read,) = readers.read_micrographs(path)
    np.testing.assert_array_equal(read.pixels, pixels(0))


def test_renumbered_files_are_read_once_and_as_their_uuids_say(tmp_path):
    first, second, third = write_positions(tmp_path)
    # The first position was out of focus.
    first.unlink()
    second.rename(first)
    third.rename(second)
    for path, number in ((first, 1), (second, 2)):
        (found,) = readers.read_micrographs(path)
        np.testing.assert_array_equal(found.pixels, pixels(number))
        assert found.scene_name == f"Pos{number}"


def test_a_file_with_another_uuid_than_its_metadata_say_is_refused(tmp_path):
    (path,) = write_positions(tmp_path, count=1)
    xml = tifffile.tiffcomment(path).replace("urn:uuid:Pos0", "urn:uuid:Other", 1)
    tifffile.tiffcomment(path, xml.encode())
    with pytest.raises(InputError, match=r"Pos0\.ome\.tif, but with another UUID"):
        list(readers.read_micrographs(path))


def test_uuids_are_the_same_however_they_are_written(tmp_path):
    (path,) = write_positions(tmp_path, count=1)
    xml = tifffile.tiffcomment(path).replace("urn:uuid:Pos0.ome.tif", "POS0.OME.TIF", 1)
    tifffile.tiffcomment(path, xml.encode())
    (found,) = readers.read_micrographs(path)
    np.testing.assert_array_equal(found.pixels, pixels(0))


def test_channels_of_two_acquisitions_are_not_combined(tmp_path):
    first, second = write_a_file_a_channel(tmp_path, pixels(0))
    xml = tifffile.tiffcomment(second).replace("urn:uuid:", "urn:uuid:other-")
    write(second, pixels(1)[1], xml.encode())
    with pytest.raises(InputError, match=r"a_w2\.ome\.tif is named as a part of the"):
        list(readers.read_micrographs(first))
    with pytest.raises(InputError, match=r"a_w1\.ome\.tif is named as a part of the"):
        list(readers.read_micrographs(second))
    # A plain TIFF has no UUID that could differ.
    write(second, pixels(1)[1], b"")
    (found,) = readers.read_micrographs(first)
    np.testing.assert_array_equal(found.pixels, [pixels(0)[0], pixels(1)[1]])


def test_metadata_of_another_acquisition_are_refused(tmp_path):
    image = image_xml(0, [("a.ome.tif", 0), ("a.ome.tif", 1)])
    only = '<BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:companion"/>'
    write(tmp_path / "a.ome.tif", pixels(0), ome(only, "a.ome.tif"))
    (tmp_path / "a.companion.ome").write_bytes(ome(image, "companion"))
    (found,) = readers.read_micrographs(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(found.pixels, pixels(0))
    (tmp_path / "a.companion.ome").write_bytes(ome(image, "other"))
    with pytest.raises(InputError, match=r"a\.companion\.ome is named as a part of"):
        list(readers.read_micrographs(tmp_path / "a.ome.tif"))


def test_a_single_file_without_uuid_may_be_renamed(tmp_path):
    (path,) = write_positions(tmp_path, named=False, count=1)
    (read,) = readers.read_micrographs(path.rename(tmp_path / "b.ome.tif"))
    np.testing.assert_array_equal(read.pixels, pixels(0))


def test_one_of_several_files_without_uuid_must_not_be_renamed(tmp_path):
    path = write_positions(tmp_path, named=False)[0]
    path = path.rename(tmp_path / "b.ome.tif")
    with pytest.raises(InputError, match=r"only other files \(Pos0.*Rename the file"):
        list(readers.read_micrographs(path))


@pytest.mark.parametrize("where", ["companion", "tiff"])
def test_metadata_may_be_in_a_separate_file(tmp_path, where):
    planes, names = pixels(0), ("a_w1.ome.tif", "a_w2.ome.tif")
    image = image_xml(0, [(name, 0) for name in names])
    told = f"a.{where}.ome" if where == "companion" else "a_w1.ome.tif"
    only = f'<BinaryOnly MetadataFile="{told}" UUID="urn:uuid:{told}"/>'
    for name, plane in zip(names, planes, strict=True):
        write(tmp_path / name, plane, ome(only, name))
    if where == "companion":
        (tmp_path / told).write_bytes(ome(image, told))
    else:
        write(tmp_path / told, planes[0], ome(image, told))
    (found,) = readers.read_micrographs(tmp_path / names[0])
    np.testing.assert_array_equal(found.pixels, planes)
    files = {tmp_path / name for name in (*names, told)}
    assert set(map(str, files)) == set(found.file.split("|"))
    found = raw_files.find(tmp_path, "HEK", None)
    assert len(found.files) == 1
    assert "1 (a_w2.ome.tif)" in " ".join(found.notes)
    (tmp_path / told).unlink()
    with pytest.raises(InputError, match=f"{told} is missing"):
        list(readers.read_micrographs(tmp_path / names[1]))


def test_the_error_names_a_missing_file(tmp_path):
    first, second = write_a_file_a_channel(tmp_path, pixels(0))
    kept = second.rename(tmp_path / "kept")
    with pytest.raises(
        InputError, match=r"several files, and a_w2\.ome\.tif is missing"
    ):
        list(readers.read_micrographs(first))
    first.unlink()
    kept.rename(second)
    with pytest.raises(
        InputError, match=r"several files, and a_w1\.ome\.tif is missing"
    ):
        list(readers.read_micrographs(second))


@pytest.mark.parametrize("place", ["../../b.ome.tif", "{root}/b.ome.tif", "x/../../b"])
@pytest.mark.parametrize("inside", [True, False])
def test_nothing_outside_of_the_folder_is_read(tmp_path, place, inside):
    secret = tmp_path / "b.ome.tif"
    write(secret, pixels(5)[0], ome(""))
    name = place.format(root=tmp_path)
    files = [("a.ome.tif", 0), (name, 0)]
    path = tmp_path / "raw" / "HEK" / "a.ome.tif"
    image = image_xml(0, files if inside else files[::-1])
    write(path, pixels(0)[:1], ome(image, "a.ome.tif"))
    with pytest.raises(InputError, match="Files outside are not read"):
        list(readers.read_micrographs(path))
    only = f'<BinaryOnly MetadataFile="{name}" UUID="urn:uuid:x"/>'
    write(path, pixels(0)[:1], ome(only, "a"))
    with pytest.raises(InputError, match="Files outside are not read"):
        list(readers.read_micrographs(path))


def test_an_image_with_missing_planes_is_refused(tmp_path):
    # The metadata describe two images, and tifffile leaves out the one that it cannot find.
    content = image_xml(0, [("a.ome.tif", 0), ("a.ome.tif", 1)])
    content += image_xml(1, [("a.ome.tif", 7), ("a.ome.tif", 8)])
    write(tmp_path / "a.ome.tif", pixels(0), ome(content, "a.ome.tif"))
    with pytest.raises(InputError, match="describe 2 images, of which 1 can be read"):
        list(readers.read_micrographs(tmp_path / "a.ome.tif"))


def test_warnings_of_tifffile_are_not_shown(tmp_path, capfd):
    logging.getLogger("tifffile").setLevel(logging.WARNING)
    for path in write_positions(tmp_path, named=False):
        list(readers.read_micrographs(path))
        path.rename(path.with_name(f"{path.name}.old"))
    assert capfd.readouterr() == ("", "")


def test_cells_are_counted_once_and_traced_to_all_files(tmp_path, capsys):
    rng = np.random.default_rng(0)
    dish = looks.Dish.random(rng)
    drawn = field.simulate_field({"HEK": 1}, size_px=200, rng=rng, dish=dish)
    planes = drawn.pixels.astype(np.uint16)
    paths = write_a_file_a_channel(tmp_path / "raw" / "HEK", planes)
    outcome = cc.convert(tmp_path / "raw", tmp_path / "study")
    assert not outcome.failures
    (row,) = cc.Study.open(tmp_path / "study").rows()
    assert row.raw_file == "|".join(map(str, paths))
    assert row.nuclei_channel == "DAPI"
    assert row.stem == "HEK/a_w1"
    trace = cc.trace(row.stem, study=tmp_path / "study")
    raw = [link for link in trace.links if link.name == "raw file"]
    assert [link.state for link in raw] == ["same", "same"]
    # A change of any of the files changes the field.
    write(paths[1], planes[1][::-1], ome("", "a_w2.ome.tif"))
    raw = cc.trace(row.stem, study=tmp_path / "study").links
    assert [link.state for link in raw if link.name == "raw file"] == [
        "same",
        "changed",
    ]
