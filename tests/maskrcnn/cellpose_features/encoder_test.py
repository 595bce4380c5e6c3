"""Tests of cellclass_tf.maskrcnn.cellpose_features.encoder."""

import numpy as np
import pytest

from cellclass_tf.maskrcnn.cellpose_features.encoder import Encoder
from tests.annotation import cellpose_networks

pytestmark = cellpose_networks.needs_3


@pytest.fixture(scope="module")
def network():
    """A U-net whose batch normalisation has other means and variances than 0 and 1."""
    import torch

    made = cellpose_networks.make().eval()
    for name, values in made.state_dict().items():
        if name.endswith(("running_mean", "running_var", "0.weight", "0.bias")):
            values += torch.rand(values.shape)
    return made


def encoder_of(network):
    tensors = network.state_dict().items()
    return Encoder({k: v.numpy() for k, v in tensors if k.startswith("downsample.")})


@pytest.mark.parametrize("shape", [(1, 64, 96), (2, 8, 8)])
def test_features_equal_those_of_cellpose(network, shape):
    import torch

    planes = np.random.default_rng(0).normal(0, 1, (*shape, 2)).astype(np.float32)
    with torch.no_grad():
        expected = network.downsample(torch.tensor(planes.transpose(0, 3, 1, 2)))
    encoder = encoder_of(network)
    found = encoder.encode(planes)
    assert sorted(found) == [f"level_{number}" for number in range(4)]
    for name, level in zip(sorted(found), expected, strict=True):
        np.testing.assert_allclose(
            found[name], level.numpy().transpose(0, 2, 3, 1), atol=1e-4, rtol=1e-4
        )


def test_weights_are_variables_so_that_they_are_saved(network):
    made = encoder_of(network)
    # Four levels of a shortcut and four convolutions: gain, shift, kernel and bias.
    assert len(made.variables) == 4 * 5 * 4
    assert not made.trainable_variables
