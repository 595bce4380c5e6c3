"""Tests of cellclass_tf.core.type_names."""

import unicodedata

import pytest

from cellclass_tf.core import type_names


@pytest.mark.parametrize(
    "name",
    ["HEK", "HEK 293", "N2a(2)", "Zellen ä", "3T3", "C2C12+", "β-cells", "HeLa'"],
)
def test_names_that_people_use_are_valid_types(name):
    assert type_names.problem_of([name]) == ""
    assert type_names.type_name(name) == name == type_names.safe_type_name(name)


def test_letters_are_composed_and_mixed_becomes_lower_case():
    assert type_names.type_name(unicodedata.normalize("NFD", " Zellen ä")) == "Zellen ä"
    for name in ("mixed", "Mixed", "MIXED"):
        assert type_names.type_name(name) == "mixed"


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "at least one"),
        (["Mixed"], "is a reserved name"),
        (["unknown"], "is a reserved name"),
        (["Uncertain"], "is a reserved name"),
        (["con"], "cannot be the name of a folder on Windows"),
        (["Lpt1.x"], "cannot be the name of a folder on Windows"),
        (["HEK", "hek"], "differ only in upper and lower case"),
        (["HEK", "HEK"], "are the same"),
        (["a/b"], "contains '/'"),
        (["a,b=c"], "contains ',', '='"),
        ([".."], "does not begin with a letter"),
        (["HEK."], "ends with a dot"),
        ([" HEK"], "begins or ends with a space"),
        (["x" * 61], "longer than 60"),
        (["a\nb"], r"contains '\n'"),
    ],
)
def test_names_that_folders_or_tables_do_not_allow_are_rejected(names, reason):
    assert reason in type_names.problem_of(names)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a/b: c", "a-b- c"),
        ("../x", "type ..-x"),
        ("HEK.", "HEK"),
        ("uncertain", "type uncertain"),
        ("Missed", "type Missed"),
        ("incorrect stage",) * 2,
    ],
)
def test_names_of_other_programs_become_valid(text, name):
    assert type_names.safe_type_name(text) == name
    assert type_names.problem_of([name]) == ""
