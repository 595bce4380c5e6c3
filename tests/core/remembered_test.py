"""Tests of cellclass_tf.core.remembered."""

import pytest

from cellclass_tf.core import remembered
from cellclass_tf.errors import InputError

BEFORE = {"contrast": "group", "nuclei": None}


def settle(images=3, change=False, **given):
    return remembered.settle(BEFORE, given, images=images, change=change)


def test_what_is_not_given_stays_and_what_was_not_set_can_be_set():
    assert settle(contrast=None, nuclei="DAPI") == {
        "contrast": "group",
        "nuclei": "DAPI",
    }
    assert settle(contrast="group") == BEFORE


def test_a_change_is_told_and_has_to_be_meant():
    with pytest.raises(InputError, match=r"3 images .* contrast from group to field"):
        settle(contrast="field")
    with pytest.raises(InputError, match="contrast from group to nothing"):
        settle(contrast="")
    assert settle(contrast="field", change=True)["contrast"] == "field"
    # Without images nothing is lost.
    assert settle(contrast="field", images=0)["contrast"] == "field"
