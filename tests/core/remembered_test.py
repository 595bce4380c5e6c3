"""Tests of cellclass_tf.core.remembered."""

import pytest

from cellclass_tf.core import remembered
from cellclass_tf.errors import InputError

BEFORE = {"contrast": "group", "nuclei": None}


def check(images=3, change=False, **given):
    remembered.check(BEFORE, given, images=images, change=change)


def test_settings_not_given_are_kept_and_unset_ones_can_be_set():
    check(contrast=None, nuclei="DAPI")
    check(contrast="group")


def test_a_changed_setting_is_an_error_unless_requested():
    with pytest.raises(InputError, match=r"3 images .* contrast from group to field"):
        check(contrast="field")
    with pytest.raises(InputError, match="contrast from group to nothing"):
        check(contrast="")
    with pytest.raises(InputError, match="bfloat16 from True to False"):
        remembered.check(
            {"bfloat16": True}, {"bfloat16": False}, images=1, change=False
        )
    check(contrast="field", change=True)
    # Without images there is nothing to lose.
    check(contrast="field", images=0)
