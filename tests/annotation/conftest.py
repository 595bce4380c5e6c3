"""What tests of cellpose share."""

import pytest


@pytest.fixture(scope="module")
def own_weights(tmp_path_factory):
    """Weights of the right shape that have learnt nothing."""
    import torch
    from cellpose import resnet_torch

    path = tmp_path_factory.mktemp("weights") / "mine"
    torch.manual_seed(0)
    network = resnet_torch.CPnet([2, 32, 64, 128, 256], 3, sz=3)
    network.diam_labels.data[:] = 24
    torch.save(network.state_dict(), path)
    return path
