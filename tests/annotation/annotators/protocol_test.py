"""Tests of cellclass_tf.annotation.annotators.protocol."""

import inspect
import math

import numpy as np
import pytest

from cellclass_tf.annotation.annotators import protocol
from cellclass_tf.annotation.annotators.cellpose import CellposeAnnotator
from cellclass_tf.annotation.annotators.watershed import WatershedAnnotator
from cellclass_tf.errors import InputError


@pytest.mark.parametrize("diameter", [0, -3, math.inf, -math.inf, math.nan])
def test_a_diameter_that_no_cell_has_is_refused(diameter):
    with pytest.raises(InputError, match=f"above 0 px, or none.*; got {diameter}"):
        protocol.check_diameter(diameter)


@pytest.mark.parametrize("diameter", [None, 0.5, 30, np.float32(12)])
def test_positive_diameters_and_none_are_accepted(diameter):
    protocol.check_diameter(diameter)


def test_the_watershed_has_the_attributes_of_an_annotator():
    annotator = WatershedAnnotator()
    for name in protocol.Annotator.__annotations__:
        assert isinstance(getattr(annotator, name), str), name
    # Only weights may be missing, and their hash.
    assert not annotator.weights_sha256
    assert annotator.name
    assert annotator.fingerprint
    assert annotator.size_fingerprint


@pytest.mark.parametrize("annotator", [CellposeAnnotator, WatershedAnnotator])
def test_all_annotators_have_the_same_signatures(annotator):
    for name in ("annotate", "estimate_diameter_px"):
        expected = inspect.signature(getattr(protocol.Annotator, name)).parameters
        parameters = inspect.signature(getattr(annotator, name)).parameters
        assert list(parameters) == list(expected)
        for own, other in zip(parameters.values(), expected.values(), strict=True):
            assert own.default == other.default
            assert own.kind == other.kind


def test_outlines_need_no_probabilities():
    labels = np.zeros((3, 4), np.int32)
    outlines = protocol.Outlines(labels, 20.0)
    assert outlines.probabilities is None
    found, diameter, _ = outlines
    assert found is labels
    assert diameter == 20.0
