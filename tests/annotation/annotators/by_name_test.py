"""Tests of cellclass_tf.annotation.annotators.by_name."""

import pytest

from cellclass_tf.annotation.annotators import by_name
from cellclass_tf.errors import InputError
from tests.annotation.cellpose_networks import MAJOR


def test_the_watershed_is_made_with_its_diameter():
    annotator = by_name.make_annotator("watershed", by_name.Settings(diameter=33))
    assert annotator.name == "watershed"
    other = by_name.make_annotator("watershed", by_name.Settings(diameter=34))
    assert annotator.fingerprint != other.fingerprint


def test_an_unknown_annotator_is_refused_with_a_list_of_the_known():
    with pytest.raises(InputError, match="'stardist'; known are cellpose, watershed"):
        by_name.make_annotator("stardist", by_name.Settings())


def test_the_error_names_missing_weights(tmp_path):
    missing = tmp_path / "weights"
    with pytest.raises(InputError, match=str(missing)):
        by_name.make_annotator("cellpose", by_name.Settings(missing))


def test_precision_is_passed_to_cellpose(own_weights):
    settings = by_name.Settings(own_weights, 30, device="cpu", bfloat16=True)
    if MAJOR == 3:
        with pytest.raises(InputError, match="bfloat16 is for version 4"):
            by_name.make_annotator("cellpose", settings)
    else:
        assert "bfloat16" in by_name.make_annotator("cellpose", settings).settings
