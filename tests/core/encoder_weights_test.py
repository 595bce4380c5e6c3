"""Tests of cellclass_tf.core.encoder_weights."""

import dataclasses

import pytest

from cellclass_tf.core.encoder_weights import EncoderWeights


def test_weights_cannot_be_exchanged():
    weights = EncoderWeights({}, 30.0, "5a5a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        weights.diameter_px = 17.0
