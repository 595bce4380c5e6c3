"""Tests of cellclass_tf.annotation.annotation_settings."""

import pytest

from cellclass_tf.annotation import annotation_settings
from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError


def test_settings_are_kept_unless_change_settings_is_given(tmp_path):
    study = Study.create(tmp_path)

    def settle(images=2, change=False, **given):
        return annotation_settings.settle(study, given, images=images, change=change)

    first = settle(annotator="watershed", diameter=30.0, model=None)
    assert (first.annotator, first.model, first.diameter_by) == (
        *("watershed", "cyto3"),
        "group",
    )
    annotation_settings.remember(study, first)
    assert settle() == first
    with pytest.raises(InputError, match="annotator from watershed to cellpose"):
        settle(annotator="cellpose")
    assert settle(annotator="cellpose", change=True).annotator == "cellpose"
    # A model implies cellpose, since only cellpose has models.
    with pytest.raises(InputError, match="model from cyto3 to cyto2, annotator from"):
        settle(model="cyto2")
    with pytest.raises(InputError, match="bfloat16 from False to True"):
        settle(bfloat16=True)
    assert settle(bfloat16=True, change=True).bfloat16 is True
    # Only `remember` changes the record.
    assert settle(images=0, diameter=0.0).diameter == 0
    assert settle() == first
