"""Tests of OME-Zarr plates, read as microscope files and by libraries of the format."""

import numpy as np
import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.interchange.ome_zarr_plate import (
    PlateField,
    Well,
    well_of,
    write_plate,
)
from cellclass_tf.microscopy import readers


@pytest.mark.parametrize(
    ("group", "well"),
    [
        ("A01", Well("plate", "A", "01")),
        ("plate1_B2", Well("plate1", "B", "02")),
        ("raw/exp 3/P24-day7", Well("raw_exp_3_day7", "P", "24")),
        ("AF48", Well("plate", "AF", "48")),
        ("Platte δ_B02", Well("Platte_δ", "B", "02")),
        ("板一_B02", Well("板一", "B", "02")),
        # The ü consists of two characters.
        ("Mu\u0308ller_B02", Well("M\u00fcller", "B", "02")),
    ],
)
def test_plate_and_well_are_found_in_the_name_of_a_group(group, well):
    assert well_of(group) == well


@pytest.mark.parametrize(
    "group", ["", "dish1", "N2a", "Q01", "A00", "A49", "XA01", "βA01"]
)
def test_a_group_without_a_well_is_rejected(group):
    with pytest.raises(InputError, match=r"names no well; expected one, such as A01"):
        well_of(group)


def test_a_group_with_two_wells_is_rejected():
    with pytest.raises(InputError, match="several wells"):
        well_of("A01_B02")


@pytest.fixture
def plate(tmp_path, cells):
    """Writes two fields in B02, one in A10 and none in C01, in the order B02, A10."""
    pytest.importorskip("zarr", reason="no zarr for Python 3.10")

    def field(name, grey):
        image = np.full((90, 120, 3), grey, np.uint8)
        return PlateField(name, cells, image, 0.5)

    wells = {
        Well("p", "B", "02"): iter([field("mixed/a", 10), field("mixed/b", 20)]),
        Well("p", "A", "10"): iter([field("HEK/a", 30)]),
        Well("p", "C", "01"): iter([]),
    }
    write_plate(tmp_path / "p.ome.zarr", "p", wells)
    return tmp_path / "p.ome.zarr"


def test_a_plate_is_read_like_microscope_files(plate):
    fields = list(readers.read_micrographs(plate))
    assert [f.scene_name for f in fields] == ["A/10/0", "B/02/0", "B/02/1"]
    assert [int(f.pixels.max()) for f in fields] == [30, 10, 20]
    assert {f.pixel_size_um for f in fields} == {0.5}
    assert fields[0].channel_names == ("cytoplasm", "nuclei")
    assert [path.name for path in plate.parent.iterdir()] == ["p.ome.zarr"]


def test_a_plate_has_labels_and_names_of_fields(plate, cells):
    import zarr

    group = zarr.open_group(plate, mode="r")
    assert [row["name"] for row in group.attrs["plate"]["rows"]] == ["A", "B"]
    np.testing.assert_array_equal(group["B/02/1/labels/cells/0"][...], cells.labels)
    assert group["B/02/1"].attrs["multiscales"][0]["name"] == "mixed/b"


def test_the_metadata_of_a_plate_are_valid(plate):
    hcs = pytest.importorskip("ome_zarr_models.v04.hcs")
    well = pytest.importorskip("ome_zarr_models.v04.well")
    import zarr

    group = zarr.open_group(plate, mode="r")
    told = hcs.HCSAttrs.model_validate(dict(group.attrs)).plate
    # A row and a column of a well are those of its path.
    for found in told.wells:
        row, column = told.rows[found.rowIndex], told.columns[found.columnIndex]
        assert found.path == f"{row.name}/{column.name}"
        well.WellAttrs.model_validate(dict(group[found.path].attrs))


def test_ngio_and_ome_zarr_read_a_plate(plate, cells):
    ngio = pytest.importorskip("ngio")
    reader, io = (pytest.importorskip(f"ome_zarr.{name}") for name in ("reader", "io"))
    opened = ngio.open_ome_zarr_plate(plate)
    assert opened.wells_paths() == ["A/10", "B/02"]
    field = opened.get_images()["B/02/1"]
    assert field.get_image().pixel_size.x == 0.5
    assert field.channel_labels == ["cytoplasm", "nuclei"]
    found = field.get_label("cells").get_as_numpy()
    np.testing.assert_array_equal(np.squeeze(found), cells.labels)
    # It lays the first fields of the wells side by side, two rows by two columns.
    (node, *_) = reader.Reader(io.parse_url(str(plate)))()
    assert node.data[0].shape[-2:] == (2 * 90, 2 * 120)


def test_a_plate_without_a_field_is_not_written(tmp_path):
    pytest.importorskip("zarr", reason="no zarr for Python 3.10")
    with pytest.raises(InputError, match="no field of this plate"):
        write_plate(tmp_path / "p.ome.zarr", "p", {Well("p", "A", "01"): iter([])})
    assert not list(tmp_path.iterdir())
