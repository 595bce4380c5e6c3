"""Fixtures for tests of the network."""

import pytest

import tfds_builders


@pytest.fixture(scope="session")
def prepared(make_simulated_study, tmp_path_factory):
    """Prepares the dataset of a tiny study; tests must not change it."""
    root = make_simulated_study(tmp_path_factory.mktemp("prepared"), size=224)
    tfds_builders.dataset(root)
    return root


@pytest.fixture
def task(prepared):
    """Returns the task of that study, with a network for tiles of 64 px."""
    from cellclass_tf.maskrcnn import config, data_facts

    params = config.cellclass_maskrcnn_small()
    for data in (params.task.train_data, params.task.validation_data):
        data.tfds_name, data.tfds_data_dir = "cell_types/study", str(prepared / "tfds")
    found = data_facts.facts_of_dataset("cell_types/study", str(prepared / "tfds"))
    data_facts.apply_facts(params, found)
    params.task.model.input_size = [64, 64, 3]
    params.task.validation_data.global_batch_size = 4
    return params.task
