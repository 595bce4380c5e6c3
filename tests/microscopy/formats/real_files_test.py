"""Tests of every real file; docs/formats.md describes the same results."""

import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers

ALEXA = ("LED555 Alexa Fluor 555", "LED470 Alexa Fluor 488")
EMBRYO = tuple(f"c:{c}/3 - EmbryoTorax2D-HR #1" for c in (1, 2))
RGB = ("red", "green", "blue")
NO_EMISSION = (None, None, None)

# Path: fields, pixels of the first (C, Y, X), names, emissions, µm.
READ = {
    "czi/CellDivision_T3_Z5_CH2_X240_Y170.czi": (
        *(3, (2, 170, 240), ALEXA, (568, 517), 0.0905767),
    ),
    "czi/CellDivision_T3_Z5_CH2_X240_Y170_comp1.czi": (
        *(3, (2, 170, 240), ("", ""), (None, None), None),
    ),
    "czi/S3_1Pos_2Mosaic_T2_Z3_CH2_sm.czi": (
        *(56, (2, 64, 64), ("DAPI", "EGFP"), (465, 509), 1.6),
    ),
    "czi/WellD6-7_S2.czi": (
        *(2, (1, 440, 544), ("AF488 Alexa Fluor 488",), (517,), 0.1),
    ),
    "czi/nuc_small.czi": (
        *(1, (1, 240, 320), ("AF568 Alexa Fluor 568",), (603,), 0.457151),
    ),
    "czi/s_1_t_1_c_1_z_1.czi": (
        *(1, (1, 325, 475), ("TL Brightfield",), (None,), 1.083333),
    ),
    "dv/toxo.dv": (1, (2, 128, 128), ("", ""), (525, 632), 0.13262),
    "imagexpress/Projection-Mix_E08_s2_w1B38C01F5-0D36-4A29-9F5A-BE62B6F7F73F.tif": (
        *(1, (1, 512, 512), ("FITC_05",), (536,), 1.3668),
    ),
    "imagexpress/Projection-Mix_E08_s2_w266923EBB-9960-4952-8955-D1721D112EE2.tif": (
        *(1, (1, 512, 512), ("FITC_05",), (536,), 1.3668),
    ),
    "imagexpress/Projection-Mix_E08_s2_w3CCE83D85-0912-429E-9F18-716A085BB5BC.tif": (
        *(1, (1, 512, 512), ("FITC_05",), (536,), 1.3668),
    ),
    "nd2/cluster.nd2": (
        *(3, (2, 31, 38), ("5-FAM/pH 9.0", "FM 4-64/2% CHAPS"), (525, 700), 0.167809),
    ),
    "nd2/example-cerevisiae.nd2": (
        *(1, (2, 256, 256), ("DIC", "FITC BP"), (None, 512), 0.108333),
    ),
    "nd2/example-pbmc.nd2": (
        1,
        (4, 256, 256),
        ("Mono", "DAPI", "FITC BP", "TRITC BP"),
        (None, 450, 512, 595),
        0.646781,
    ),
    "nd2/example-timelapse.nd2": (53, (1, 64, 64), ("GFP 488 nm",), (512,), 0.325),
    "nd2/example-zstack.nd2": (1, (1, 128, 128), ("FITC BP",), (512,), 0.32339),
    "oib/test.oib": (
        *(1, (3, 256, 256), ("CH1", "CH2 Alexa Fluor 546", "TD1")),
        *((None, 572, None), 0.177),
    ),
    "stk/test.stk": (1, (1, 64, 64), ("Laser4054BD4BP",), (450,), 3.626062),
    "tif/MetamorphImage.tif": (1, (1, 520, 696), ("Cy5",), (675,), 0.645),
    "tif/NikonTIF.tif": (1, (3, 731, 805), RGB, NO_EMISSION, None),
    "tif/cellprofiler_largeimg.ome.tiff": (
        *(1, (2, 512, 512), ("", ""), (None, None), None),
    ),
    "tif/hela-cells.tif": (1, (3, 512, 672), RGB, NO_EMISSION, 0.0514931),
    "tif/sample_EmbryoTorax_multichannel.tif": (
        *(1, (2, 512, 512), EMBRYO, (None, None), 0.103783),
    ),
}
REFUSED = {
    "lif/LeicaLASX_wavelength-sweep_example.lif": "'x_y_lambdaEmi': a lambda scan",
    "lif/testdata_2channel_xz.lif": "'xz': its planes are ZX, not Y and X",
}


def test_no_file_is_forgotten(assets):
    folder = assets / "microscope_files"
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    # Some of them cannot be fetched, and are missing in most checkouts.
    assert found
    assert found <= {*READ, *REFUSED}


@pytest.mark.parametrize("name", READ)
def test_real_files_are_read_with_names_and_sizes(assets, name):
    count, shape, names, emissions, pixel_size_um = READ[name]
    fields = list(readers.read_micrographs(assets / "microscope_files" / name))
    assert len(fields) == count
    assert fields[0].pixels.shape == shape
    assert fields[0].channel_names == names
    assert fields[0].emissions_nm == emissions
    assert fields[0].pixel_size_um == (
        pixel_size_um and pytest.approx(pixel_size_um, rel=1e-4)
    )
    assert all(field.pixels.any() for field in fields)


@pytest.mark.parametrize("name", REFUSED)
def test_real_files_without_fields_are_refused(assets, name):
    with pytest.raises(InputError, match=REFUSED[name]):
        list(readers.read_micrographs(assets / "microscope_files" / name))
