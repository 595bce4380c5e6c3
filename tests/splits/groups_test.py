"""Tests of cellclass_tf.splits.groups."""

import unicodedata

import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.splits import groups


@pytest.mark.parametrize(
    ("pattern", "group"),
    [
        (r"dish\d+", "dish2"),
        (r"(dish\d+)_", "dish2"),
        (r"(?P<well>[A-H]\d\d)", "B07"),
    ],
)
def test_the_last_match_names_the_group(pattern, group):
    found = groups.pattern_of(pattern)
    assert found.group_in("dish1/dish2_B07.tif", "x.tif") == group


@pytest.mark.parametrize("pattern", ["slide", "(slide)?"])
def test_a_name_without_a_group_is_rejected(pattern):
    with pytest.raises(InputError, match=r"x.tif: --group=.* does not match this name"):
        groups.pattern_of(pattern).group_in("dish1.tif", "x.tif")


def test_an_invalid_pattern_is_rejected_and_no_pattern_gives_none():
    with pytest.raises(InputError, match="not a valid regular expression"):
        groups.pattern_of("(")
    assert groups.pattern_of(None) is groups.pattern_of("") is None


def test_names_that_look_the_same_are_one_group():
    composed, decomposed = (
        unicodedata.normalize(f, "Schäle 1") for f in ("NFC", "NFD")
    )
    assert composed != decomposed
    for pattern in (composed, decomposed, r"Sch.le \d"):
        for text in (composed, decomposed):
            assert groups.pattern_of(pattern).group_in(text, "x.tif") == composed
    assert groups.normalized(decomposed) == composed
