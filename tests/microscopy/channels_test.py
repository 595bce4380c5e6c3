"""Tests of cellclass_tf.microscopy.channels."""

import numpy as np
import pytest

from cellclass_tf import errors
from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.microscopy import channels


def field(*names, emissions=(), pixels=None, is_rgb=False):
    if pixels is None:
        pixels = np.zeros((len(names), 16, 20), np.uint16)
    return Micrograph(pixels, names, emissions, file="a.tif", is_rgb=is_rgb)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("DAPI", "GFP"), (0, 1, "name")),
        (("FITC confocal", "Hoechst 33342"), (1, 0, "name")),
        (("brightfield", "EGFP", "DAPI"), (2, 1, "name")),
        (("DAPI", "Alexa Fluor 488"), (0, 1, "name")),
        (("AF488-T1", "H2B-mCherry"), (1, 0, "name")),
    ],
)
def test_channels_are_found_by_name(names, expected):
    assert channels.choose_channels(field(*names)) == expected


def test_channels_are_found_by_emission_if_no_name_matches():
    stained = field("Cam1", "Cam2", "Cam3", emissions=(None, 461.0, 525.0))
    assert channels.choose_channels(stained) == (1, 2, "emission")
    mixed = field("DAPI", "Cam2", emissions=(None, 517.0))
    assert channels.choose_channels(mixed) == (0, 1, "name+emission")


def test_names_take_precedence_over_emissions():
    # The second channel has the emission of GFP, but the first one has its name.
    both = field("GFP", "Hoechst", emissions=(700.0, 520.0))
    assert channels.choose_channels(both) == (1, 0, "name")


def test_emission_ranges_of_the_study_are_used():
    stained = field("a", "b", emissions=(568.0, 517.0))
    ranges = {"nuclei": (560, 620), "cytoplasm": (500, 550)}
    assert channels.choose_channels(stained, emission_nm=ranges) == (0, 1, "emission")


@pytest.mark.parametrize(
    ("names", "emissions"),
    [
        (("", ""), ()),
        (("DAPI", "Hoechst"), ()),
        (("a", "b", "DAPI"), ()),
        # The other channel may be transmitted light, so that it is not identified.
        (("DAPI", "Camera 2"), ()),
        (("5-FAM", "FM 4-64"), (525.0, 700.0)),
        (("FITC", "FITC", "FITC"), (536.0, 536.0, 536.0)),
        (("H2B-GFP", "GFP-actin"), ()),
        # Two channels in one range, and no name.
        (("", "", ""), (450.0, 461.0, 520.0)),
    ],
)
def test_ambiguous_channels_are_refused_and_listed(names, emissions):
    with pytest.raises(
        channels.ChannelDoubt, match=r"a.tif: which channel is which.*0: .*--nuclei"
    ):
        channels.choose_channels(field(*names, emissions=emissions))


def test_channels_named_by_the_user_take_precedence():
    choose = channels.choose_channels
    dapi = field("DAPI", "GFP")
    assert choose(dapi, nuclei="gfp", cytoplasm=0) == (1, 0, "user")
    assert choose(field("", ""), nuclei="1", cytoplasm="0") == (1, 0, "user")
    numbers = field("488", "405")
    assert choose(numbers, nuclei=405, cytoplasm=488) == (1, 0, "user")
    sets = field("w1 FITC", "w2 FITC", "w3 FITC")
    assert choose(sets, nuclei="w3", cytoplasm="w1") == (2, 0, "user")
    with pytest.raises(errors.InputError, match="no channel 'Cy5'; it has 0: DAPI"):
        choose(dapi, nuclei="Cy5")


def test_a_number_that_is_an_index_and_a_word_of_another_name_is_refused():
    choose = channels.choose_channels
    numbered = field("Channel 1", "Channel 2", "Channel 3")
    for number in ("1", 2):
        with pytest.raises(
            errors.InputError,
            match=r"a.tif: (1|2) is a word of 'Channel \1', .* 2: Channel 3.* whole name",
        ):
            choose(numbered, nuclei=number, cytoplasm=0)
    # There is no channel of index 3, and none with the word 0.
    assert choose(numbered, nuclei=0, cytoplasm="3") == (0, 2, "user")
    assert choose(numbered, nuclei="channel 2", cytoplasm=0) == (1, 0, "user")
    from_zero = field("Channel 0", "Channel 1")
    assert choose(from_zero, nuclei=1, cytoplasm=0) == (1, 0, "user")
    lines = field("CSU 488", "CSU 405")
    assert choose(lines, nuclei=405, cytoplasm=488) == (1, 0, "user")


@pytest.mark.parametrize(
    ("names", "wanted", "expected"),
    [
        (("DAPI", "GFP"), 1, True),
        (("DAPI", "GFP"), "0", True),
        (("DAPI", "GFP"), "DAPI", False),
        (("DAPI", "GFP"), None, False),
        (("488", "405"), 405, False),
        (("Channel 0", "Channel 1"), 1, False),
    ],
)
def test_an_index_is_told_apart_from_a_name(names, wanted, expected):
    assert channels.is_index(field(*names), wanted) is expected


def test_if_the_user_names_one_of_two_channels_the_other_is_taken_too():
    unnamed = field("", "")
    assert channels.choose_channels(unnamed, nuclei=1) == (1, 0, "user+remaining")
    with pytest.raises(channels.ChannelDoubt):
        channels.choose_channels(field("", "", ""), nuclei=1)


def test_one_channel_is_refused():
    with pytest.raises(errors.InputError, match="expected two channels"):
        channels.choose_channels(field("DAPI"))


def test_a_colour_image_with_red_pixels_is_refused():
    pixels = np.ones((3, 4, 5), np.uint8)
    with pytest.raises(channels.ChannelDoubt, match="red channel is not empty"):
        channels.choose_channels(
            field("red", "green", "blue", pixels=pixels, is_rgb=True)
        )
