"""Fixtures for tests of cellpose."""

import pytest

from tests.annotation import cellpose_networks


@pytest.fixture(scope="module")
def own_weights(tmp_path_factory):
    """Writes untrained weights of the right shape."""
    import torch

    path = tmp_path_factory.mktemp("weights") / "mine"
    with cellpose_networks.small():
        network = cellpose_networks.make()
        network.diam_labels.data[:] = 24
        torch.save(network.state_dict(), path)
        yield path
