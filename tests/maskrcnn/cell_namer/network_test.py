"""Tests of cellclass_tf.maskrcnn.cell_namer.network."""

import numpy as np

from cellclass_tf.maskrcnn.cell_namer import network


def test_the_network_returns_logits_and_features_for_any_number_of_crops():
    model = network.build(3)
    for count in (1, 2):
        found = model(np.zeros((count, 64, 64, 2), np.float32))
        assert found["logits"].shape == (count, 3)
        assert found["features"].shape == (count, 256)
