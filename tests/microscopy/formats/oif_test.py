"""Tests of cellclass_tf.microscopy.formats.oif."""

import io
import struct

import numpy as np
import oiffile
import pytest
import tifffile

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers


@pytest.fixture
def oib(assets):
    return assets / "microscope_files" / "oib" / "test.oib"


@pytest.fixture
def oif_path(oib, tmp_path):
    oiffile.oib2oif(oib, tmp_path, verbose=0)
    return tmp_path / "Cell 1 mitoEGFP.oif"


def planes(path):
    """Returns the TIFFs in a file, read by tifffile."""
    with oiffile.OifFile(path) as file:
        names = (f"s_C00{c}.tif" for c in (1, 2, 3))
        return [tifffile.imread(io.BytesIO(file.open_file(n).read())) for n in names]


def test_planes_names_emission_and_pixel_size(oib):
    (field,) = readers.read_micrographs(oib)
    np.testing.assert_array_equal(field.pixels, planes(oib))
    assert field.channel_names == ("CH1", "CH2 Alexa Fluor 546", "TD1")
    assert field.emissions_nm == (None, 572, None)
    assert field.pixel_size_um == 0.177


def test_an_oif_with_its_folder_is_the_same_field(oib, oif_path):
    (field,) = readers.read_micrographs(oif_path)
    np.testing.assert_array_equal(field.pixels, planes(oib))
    assert field.channel_names == ("CH1", "CH2 Alexa Fluor 546", "TD1")


def test_pixels_that_are_not_square_are_reported(oif_path):
    text = oif_path.read_bytes().decode("utf-16")
    assert "HeightConvertValue=0.177" in text
    text = text.replace("HeightConvertValue=0.177", "HeightConvertValue=0.354")
    oif_path.write_bytes(text.encode("utf-16"))
    (field,) = readers.read_micrographs(oif_path)
    assert field.pixel_size_um is None
    assert field.pixel_size_problem == "0.177 x 0.354 µm, pixels that are not square"


def test_an_oif_without_its_folder_says_which_to_copy(oif_path, tmp_path):
    (tmp_path / "alone").mkdir()
    alone = oif_path.rename(tmp_path / "alone" / oif_path.name)
    with pytest.raises(InputError, match=r"mitoEGFP\.oif\.files, which is not beside"):
        readers.read_micrograph(alone)


def test_time_and_depth_of_planes_come_from_their_names(oif_path):
    folder = oif_path.with_name(oif_path.name + ".files")
    (folder / "s_C003.tif").unlink()
    for c in (1, 2):
        plane = tifffile.imread(folder / f"s_C00{c}.tif")
        (folder / f"s_C00{c}.tif").unlink()
        for t in (1, 2):
            for z in (1, 2, 3):
                name = folder / f"s_C00{c}Z00{z}T00{t}.tif"
                tifffile.imwrite(name, plane + 1000 * t + 100 * z)
    first = planes_of(folder)
    fields = list(readers.read_micrographs(oif_path))
    assert [field.time for field in fields] == [0, 1]
    for field in fields:
        # The brightest of three planes is the last.
        expected = [first[f"s_C00{c}Z003T00{field.time + 1}"] for c in (1, 2)]
        np.testing.assert_array_equal(field.pixels, expected)


def planes_of(folder):
    return {path.stem: tifffile.imread(path) for path in folder.glob("*.tif")}


def test_a_missing_plane_is_reported(oif_path):
    folder = oif_path.with_name(oif_path.name + ".files")
    (folder / "s_C002.tif").unlink()
    with pytest.raises(
        InputError, match="2 planes are there of 1 time points x 1 depths x 3"
    ):
        readers.read_micrograph(oif_path)


def test_a_lambda_scan_is_refused(oif_path):
    folder = oif_path.with_name(oif_path.name + ".files")
    (folder / "s_C001.tif").rename(folder / "s_C001L001.tif")
    (folder / "s_C002.tif").rename(folder / "s_C001L002.tif")
    with pytest.raises(InputError, match="other axes: L"):
        readers.read_micrograph(oif_path)


def test_a_scan_in_x_and_z_is_refused(oif_path):
    text = oif_path.read_text("utf-16")
    oif_path.write_text(text.replace('AxisOrder="XYC"', 'AxisOrder="XZY"'), "utf-16")
    with pytest.raises(InputError, match="scanned along XZY"):
        readers.read_micrograph(oif_path)


def test_a_plane_of_another_size_is_refused(oif_path):
    folder = oif_path.with_name(oif_path.name + ".files")
    tifffile.imwrite(folder / "s_C002.tif", np.zeros((300, 300), np.uint16))
    with pytest.raises(InputError, match=r"s_C002.tif has \(300, 300\) px"):
        readers.read_micrograph(oif_path)


def compound_document(path, circular=False):
    """Returns an empty compound document: header, table of sectors and directory."""
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
    header += struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    end, free = 0xFFFFFFFE, 0xFFFFFFFF
    header += struct.pack("<9I", 0, 1, 1, 0, 4096, end, 0, end, 0)
    header += struct.pack("<109I", 0, *[free] * 108)
    # Sector 0 is the table itself and sector 1 the directory.
    table = struct.pack("<128I", 0xFFFFFFFD, 1 if circular else end, *[free] * 126)
    path.write_bytes(header + table + bytes(512))


def test_other_compound_documents_are_named(tmp_path):
    compound_document(tmp_path / "letter.doc")
    with pytest.raises(InputError, match="compound document, but no Olympus OIB"):
        readers.read_micrograph(tmp_path / "letter.doc")


def test_a_circular_table_of_sectors_is_refused(tmp_path):
    compound_document(tmp_path / "a.oib", circular=True)
    with pytest.raises(InputError, match="table of sectors is circular"):
        readers.read_micrograph(tmp_path / "a.oib")


def test_an_oib_file_with_the_ending_oif_is_refused_with_advice(oib, tmp_path):
    (tmp_path / "a.oif").write_bytes(oib.read_bytes())
    with pytest.raises(InputError, match=r"Rename it to \.oib"):
        readers.read_micrograph(tmp_path / "a.oif")
