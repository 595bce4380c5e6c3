"""Tests of cellclass_tf.microscopy.conversion_settings."""

import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy.conversion_settings import (
    ConversionSettings,
    recall,
    remember,
)


def asked(tmp_path, source="raw", **given):
    settings = recall(tmp_path, tmp_path / source, given)
    remember(tmp_path, tmp_path / source, settings)
    return settings


def test_settings_not_given_are_kept_and_empty_ones_are_cleared(tmp_path, caplog):
    caplog.set_level("INFO", "cellclass_tf")
    assert asked(tmp_path) == ConversionSettings()
    first = asked(tmp_path, nuclei=0, cytoplasm="GFP", group="dish.", contrast="field")
    assert not caplog.messages
    assert asked(tmp_path, nuclei=None, group=None) == first
    assert "last conversion: contrast=field, cytoplasm=GFP, group=dish., nuclei=0" in (
        caplog.text
    )
    other = asked(tmp_path, group="", nuclei=1, contrast="group")
    assert other == ConversionSettings(1, "GFP", contrast="group")
    assert asked(tmp_path) == other


def test_channels_are_remembered_for_each_input_and_other_settings_for_the_study(
    tmp_path,
):
    of_raw = asked(tmp_path, nuclei=0, group="dish.")
    # A folder inside of the input.
    assert asked(tmp_path, "raw/HEK") == of_raw
    other = asked(tmp_path, "more", cytoplasm=2)
    assert other == ConversionSettings(cytoplasm=2, group="dish.")
    asked(tmp_path, "more", group="well.")
    assert asked(tmp_path, "raw") == of_raw
    assert asked(tmp_path, "third") == ConversionSettings(group="dish.")


def test_contrast_anew_applies_to_one_conversion(tmp_path):
    assert asked(tmp_path, contrast="anew").contrast == "anew"
    assert asked(tmp_path).contrast == "group"


def test_a_broken_record_is_refused(tmp_path):
    asked(tmp_path)
    (path,) = (tmp_path / ".journal").iterdir()
    path.write_text('{"inputs": {"/raw": {"group": 3}}}')
    with pytest.raises(InputError, match=r"conversions.json: expected .* Delete it"):
        asked(tmp_path)
