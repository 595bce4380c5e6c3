"""Tests of cellclass_tf.core.type_names."""

import unicodedata

import pytest

from cellclass_tf.core import type_names


@pytest.mark.parametrize(
    "name",
    ["HEK", "HEK 293", "N2a(2)", "Zellen ä", "3T3", "C2C12+", "β-cells", "HeLa'"],
)
def test_names_of_people_are_names_of_types(name):
    assert type_names.problem_of([name]) == ""
    assert type_names.type_name(name) == name == type_names.safe_type_name(name)


def test_letters_are_composed_and_mixed_is_one_word():
    assert type_names.type_name(unicodedata.normalize("NFD", " Zellen ä")) == "Zellen ä"
    for name in ("mixed", "Mixed", "MIXED"):
        assert type_names.type_name(name) == "mixed"


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "at least one"),
        (["Mixed"], "means something else"),
        (["unknown"], "means something else"),
        (["con"], "no name of a folder on Windows"),
        (["Lpt1.x"], "no name of a folder on Windows"),
        (["HEK", "hek"], "differ in capitals alone"),
        (["HEK", "HEK"], "are one"),
        (["a/b"], "has '/' in it"),
        (["a,b=c"], "has ',', '=' in it"),
        ([".."], "begins with no letter"),
        (["HEK."], "ends with a dot"),
        ([" HEK"], "spaces around"),
        (["x" * 61], "longer than 60"),
        (["a\nb"], r"has '\n' in it"),
    ],
)
def test_what_folders_and_tables_cannot_bear_is_told(names, reason):
    assert reason in type_names.problem_of(names)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a/b: c", "a-b- c"),
        ("../x", "type ..-x"),
        ("HEK.", "HEK"),
        ("incorrect stage",) * 2,
    ],
)
def test_names_of_other_programs_are_made_fit(text, name):
    assert type_names.safe_type_name(text) == name
    assert type_names.problem_of([name]) == ""
