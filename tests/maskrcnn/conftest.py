"""What tests of the network share."""

import pytest

import tfds_builders


@pytest.fixture(scope="session")
def prepared(make_simulated_study, tmp_path_factory):
    """A tiny study with a prepared dataset; not to be changed."""
    root = make_simulated_study(tmp_path_factory.mktemp("prepared"), size=224)
    tfds_builders.dataset(root)
    return root
