"""Tests of cellclass_tf.microscopy.formats.base."""

import pytest

from cellclass_tf.microscopy.formats import base


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (2.5e-7, "m", 0.25),
        (2.5e-5, "cm", 0.25),
        (0.00025, "mm", 0.25),
        (0.25, "micron", 0.25),
        (250, "nm", 0.25),
        ("0.25", "um", 0.25),
        (0.25, " Micrometer ", 0.25),
    ],
)
def test_a_length_of_any_unit_is_given_in_micrometres(value, unit, expected):
    assert base.size_um(value, unit) == pytest.approx(expected)


@pytest.mark.parametrize("unit", ["\u00b5m", "\u03bcm", "\\u00B5m"])
def test_every_mu_is_one(unit):
    assert base.size_um(0.25, unit) == 0.25


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (0, "µm"),
        (-0.25, "µm"),
        (float("inf"), "µm"),
        (float("nan"), "µm"),
        (None, "µm"),
        ("wide", "µm"),
        (1.0, "pixel"),
        (1.0, ""),
    ],
)
def test_what_is_no_length_is_unknown(value, unit):
    assert base.size_um(value, unit) is None


def test_light_that_no_microscope_records_is_unknown():
    assert base.wavelength_nm(461) == 461
    assert base.wavelength_nm("525.5") == 525.5
    for value in (0, "0", -1, 200, 2000, None, "", "DAPI", float("nan")):
        assert base.wavelength_nm(value) is None


@pytest.mark.parametrize(
    ("own", "dye", "expected"),
    [
        ("LED555", "Alexa Fluor 555", "LED555 Alexa Fluor 555"),
        ("DAPI", "dapi", "DAPI"),
        ("w1 DAPI", "DAPI", "w1 DAPI"),
        ("GFP", "EGFP", "EGFP"),
        ("", "GFP", "GFP"),
        (" Cam1 ", None, "Cam1"),
        (None, None, ""),
    ],
)
def test_a_channel_is_called_by_its_name_and_its_dye_but_by_nothing_twice(
    own, dye, expected
):
    assert base.channel_name(own, dye) == expected
