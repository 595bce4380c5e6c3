"""Tests of cellclass_tf.core.study_settings: what people write into study.yaml."""

import pytest

from cellclass_tf.core.study import Study
from cellclass_tf.core.study_settings import ChannelRules
from cellclass_tf.errors import InputError


def opened(folder, text):
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    return Study.open(folder)


def test_missing_and_empty_settings_get_their_defaults(tmp_path):
    study = opened(tmp_path, "cell_types: [A, B]\nchannels:\npixel_size_um: ''\n")
    assert study.cell_types == ("A", "B")
    assert study.pixel_size_um is None
    assert study.channel_rules["nuclei"] == ChannelRules().nuclei


def test_numbers_may_be_names_and_texts_may_be_numbers(tmp_path):
    text = "cell_types: [293, B]\npixel_size_um: '0.325'\n"
    text += "channels: {nuclei: [405], cytoplasm: [488]}\n"
    study = opened(tmp_path, text)
    assert study.cell_types == ("293", "B")
    assert study.pixel_size_um == 0.325
    assert study.channel_rules == {"nuclei": ("405",), "cytoplasm": ("488",)}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a mapping"),
        ("cell_types: [", "while parsing a flow"),
        ("cell_types: HEK", "cell_types"),
        ("pixel_size_um: 1", "cell_types"),
        ("cell_types: [A]\npixel_size_um: 0,325", "pixel_size_um"),
        ("cell_types: [A]\nchannels: {nuclei: dapi}", "channels.nuclei"),
        (
            "cell_types: [A]\nchannels: {nuclei: ['(']}",
            "not a valid regular expression",
        ),
        ("cell_types: [A]\nemission_nm: {nuclei: [420]}", "emission_nm.nuclei"),
        ("format: cellclass_tf study 9\ncell_types: [A]", "Update cellclass_tf"),
    ],
)
def test_invalid_settings_are_rejected_with_the_reason(tmp_path, text, why):
    with pytest.raises(InputError, match=f"(?s)study.yaml.*{why}"):
        opened(tmp_path, text)
