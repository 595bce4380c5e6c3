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
        (0.25, "micrometers", 0.25),
        (0.25, "micrometre", 0.25),
        (250, "nanometre", 0.25),
        (250, "nanometres", 0.25),
        (2500, "Å", 0.25),
        (2500, "\u212b", 0.25),
        (250_000, "pm", 0.25),
        (0.0001, "inch", 2.54),
        (0.0001, "in.", 2.54),
        (0.1, "mil", 2.54),
        (0.1, "thou", 2.54),
        (0.001, "li", 25.4 / 12),
        (0.00025, "MM", 0.25),
        (2.5e-13, "Mm", 0.25),
        (2.5e-10, "kilometres", 0.25),
        (0.01, "pt", 25_400 / 7200),
        (1e-6, "yd", 0.9144),
    ],
)
def test_lengths_in_all_units_are_converted_to_micrometres(value, unit, expected):
    found = base.pixel_size(value, value, unit, unit)
    assert found.um == pytest.approx(expected)
    assert not found.problem


@pytest.mark.parametrize("unit", ["furlong", "µm/px", "microm", "mikrometer"])
def test_an_unknown_unit_is_reported(unit):
    found = base.pixel_size(0.25, 0.25, unit, unit)
    assert found == (None, f"0.25 {unit}, a unit that is not known")


@pytest.mark.parametrize(
    ("value", "unit", "um"),
    [
        # 72 and 300 dots per inch, a nanometre, a value in nm without its unit, and kilometres.
        (1 / 72, "inch", "352.8"),
        (1 / 300, "in", "84.67"),
        (1, "nm", "0.001"),
        (325, "µm", "325"),
        (1, "km", "1e+09"),
    ],
)
def test_a_size_that_no_light_microscope_has_is_reported(value, unit, um):
    found = base.pixel_size(value, value, unit, unit)
    assert found.um is None
    assert found.problem.startswith(f"{um} µm, which no light microscope has")


@pytest.mark.parametrize("dots_per_inch", [600, 720, 1200, 2400])
@pytest.mark.parametrize(
    ("unit", "per_inch"), [("inch", 1), ("cm", 2.54), ("µm", 25_400)]
)
def test_a_resolution_for_printing_is_reported(dots_per_inch, unit, per_inch):
    size = per_inch / dots_per_inch
    found = base.pixel_size(size, size, unit, unit)
    assert found.um is None
    assert f"or {dots_per_inch} dots per inch, which is a resolution" in found.problem


def test_the_coarsest_microscope_images_keep_their_size():
    assert base.pixel_size(9.9, 9.9, "µm", "µm") == (9.9, "")


@pytest.mark.parametrize("unit", ["\u00b5m", "\u03bcm", "\\u00B5m"])
def test_all_characters_for_micro_are_recognized(unit):
    assert base.pixel_size(0.25, 0.25, unit, unit).um == 0.25


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
        (1.0, "Pixels"),
        (0.25, "reference frame"),
    ],
)
def test_values_that_are_not_lengths_give_no_pixel_size(value, unit):
    assert base.pixel_size(value, value, unit, unit) == (None, "")


@pytest.mark.parametrize(
    ("sides", "units"), [((0.3, 0.6), "µm"), ((0.6, 0.3), "µm"), ((0.3, 0.3045), "µm")]
)
def test_pixels_that_are_not_square_have_no_size(sides, units):
    told = " x ".join(f"{side:.4g}" for side in sides)
    expected = (None, f"{told} µm, pixels that are not square")
    assert base.pixel_size(*sides, units, units) == expected


def test_the_sides_of_a_pixel_may_have_different_units():
    assert base.pixel_size(0.3, 300, "µm", "nm").um == 0.3
    assert base.pixel_size(0.3, 0.3, "µm", "nm").problem.startswith("0.0003 µm, which")


@pytest.mark.parametrize("height", [None, 0, "", 0.3005])
def test_a_height_that_is_missing_or_nearly_the_width_gives_the_width(height):
    assert base.pixel_size(0.3, height, "µm", "µm") == (0.3, "")


def test_a_height_alone_is_no_pixel_size():
    assert base.pixel_size(None, 0.3, "µm", "µm") == base.NO_PIXEL_SIZE


def test_channels_that_a_file_does_not_describe_have_no_name():
    channels = [base.Channel("DAPI", 460.0), base.Channel("GFP")]
    assert base.channels_of(channels, 3) == (*channels, base.Channel())
    assert base.channels_of(channels, 1) == (channels[0],)
    assert base.channels_of((), 2) == (base.Channel(), base.Channel())


def test_the_samples_of_a_channel_share_its_description():
    channels = [base.Channel("DAPI", 460.0), base.Channel()]
    names = [(c.name, c.emission_nm) for c in base.channels_of(channels, 2, ("r", "g"))]
    assert names == [("DAPI r", 460), ("DAPI g", 460), ("r", None), ("g", None)]
    # The file describes every plane.
    assert base.channels_of(channels, 1, ("r", "g")) == tuple(channels)


def test_impossible_wavelengths_are_not_used():
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
def test_a_channel_name_joins_name_and_dye_without_repetition(own, dye, expected):
    assert base.channel_name(own, dye) == expected


@pytest.mark.parametrize(
    ("x", "y", "units", "expected"),
    [
        ("1200.5", "-3", ("µm", "µm"), (1200.5, -3)),
        (0.0012, 0.01, ("m", "mm"), (1200, 10)),
        # Without a unit, or with OME's default, µm are meant.
        (5, 7, ("", "reference frame"), (5, 7)),
        (0, 0, ("µm", "µm"), (0, 0)),
    ],
)
def test_positions_of_the_stage_are_converted_to_micrometres(x, y, units, expected):
    assert base.stage_um(x, y, *units) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("x", "unit"),
    [
        (None, "µm"),
        ("", "µm"),
        ("left", "µm"),
        (float("nan"), "µm"),
        ("inf", "µm"),
        (10**400, "µm"),
        (1.1, "m"),
        (5, "furlong"),
        (5, "pixel"),
    ],
)
def test_invalid_and_absurd_positions_are_unknown(x, unit):
    assert base.stage_um(x, 1.0, unit, "µm") is None
    assert base.stage_um(1.0, x, "µm", unit) is None
