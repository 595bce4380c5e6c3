"""Tests of cellclass_tf.errors."""

import shlex

import pytest

from cellclass_tf import errors


def test_an_input_error_is_caught_as_a_value_error():
    with pytest.raises(ValueError, match=r"^a\.png: no pixels\.$"):
        raise errors.InputError("a.png: no pixels.")


def test_a_message_names_the_first_and_says_whether_there_are_more():
    assert errors.first_names([]) == "none"
    assert errors.first_names(("b", "a")) == "b, a"
    assert errors.first_names({"a": 1, "b": 2, "c": 3}, 2) == "a, b, …"
    assert errors.first_names({"a"}, 1) == "a"


@pytest.mark.parametrize("text", ["", "HEK/d2 a.tif", "µm, Zelle ä, 細胞", r"C:\new"])
def test_text_of_one_line_is_not_changed(text):
    assert errors.one_line(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\r\n", r"one\ntwo\r\n"),
        ("a\tb\x1b[31m\x00", r"a\tb\x1b[31m\x00"),
        # Line breaks of Unicode, and a character that reverses the direction of text.
        ("a\x85b\u2028c\u202ed", r"a\x85b\u2028c\u202ed"),
        # A byte in the name of a file that is not UTF-8.
        (b"a\xff.png".decode("utf-8", "surrogateescape"), r"a\udcff.png"),
    ],
)
def test_line_breaks_and_control_characters_become_escape_sequences(text, expected):
    assert errors.one_line(text) == expected


def test_a_command_in_a_message_can_be_copied_into_a_shell():
    told = errors.command("export-model", training="my run", output="it's")
    assert shlex.split(told) == [
        "cellclass",
        "export-model",
        "--training=my run",
        "--output=it's",
    ]
    assert (
        errors.command("check", dataset="a/1.0.0")
        == "cellclass check --dataset=a/1.0.0"
    )
