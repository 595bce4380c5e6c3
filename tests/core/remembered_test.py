"""Tests of cellclass_tf.core.remembered."""

import pytest

from cellclass_tf.core import remembered
from cellclass_tf.errors import InputError

BEFORE = {"contrast": "group", "nuclei": None}


def check(images=3, change=False, **given):
    remembered.check(BEFORE, given, images=images, change=change)


def test_what_is_not_given_stays_and_what_was_not_set_can_be_set():
    check(contrast=None, nuclei="DAPI")
    check(contrast="group")


def test_a_change_is_told_and_has_to_be_meant():
    with pytest.raises(InputError, match=r"3 images .* contrast from group to field"):
        check(contrast="field")
    with pytest.raises(InputError, match="contrast from group to nothing"):
        check(contrast="")
    check(contrast="field", change=True)
    # Without images nothing is lost.
    check(contrast="field", images=0)
