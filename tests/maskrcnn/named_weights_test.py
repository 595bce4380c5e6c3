"""Tests of cellclass_tf.maskrcnn.named_weights."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import config, data_facts, named_weights, network
from tests.maskrcnn.facts import facts


def network_of(types=("HEK", "N2a"), size=64, filters=48):
    """A network of few layers."""
    params = config.cellclass_maskrcnn_small()
    options = params.task.model
    options.backbone.resnet.model_id, options.max_level = 10, 3
    options.decoder.fpn.num_filters, options.mask_head.num_convs = filters, 1
    counts = (9,) * len(types)
    data_facts.apply_facts(
        params, dataclasses.replace(facts(), type_names=types, cells_by_type=counts)
    )
    return network.build_model(params.task, size)


@pytest.fixture(scope="module")
def donor():
    return network_of()


@pytest.fixture(scope="module")
def file(donor, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.npz"
    named_weights.write(named_weights.named(donor), path)
    return path


def test_weights_are_loaded_for_another_input_size_and_other_types(file):
    model = network_of(types=("a", "b", "c"), size=128)
    types = {
        v.ref(): v.numpy()
        for v in model.variables
        if named_weights.TYPE_LAYER in v.name
    }
    # The names are the same if the backbone is frozen.
    model.backbone.trainable = False
    named_weights.assign(named_weights.named(model), file)
    with np.load(file, allow_pickle=False) as arrays:
        assert {arrays[name].dtype for name in arrays} == {np.dtype(np.float16)}
        found = named_weights.named(model)
        assert found.keys() == arrays.keys()
        for name, variable in found.items():
            np.testing.assert_array_equal(variable, arrays[name].astype(np.float32))
    assert len(found) + len(types) == len(model.variables)
    assert len(types) == 2
    for variable in model.variables:
        if variable.ref() in types:
            np.testing.assert_array_equal(variable, types[variable.ref()])


def test_another_network_is_refused_and_not_changed(file):
    model = network_of(filters=32)
    before = [variable.numpy() for variable in model.variables]
    with pytest.raises(InputError, match=r"weights are of another network \(\w+/\w+/0"):
        named_weights.assign(named_weights.named(model), file)
    for variable, values in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, values)


def test_a_file_without_weights_is_refused(donor, tmp_path):
    path = tmp_path / "weights.npz"
    for content in (b"", b"no archive"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            named_weights.assign(named_weights.named(donor), path)
    np.savez(path, array=np.array([{}], object))
    with pytest.raises(InputError, match="cannot be read"):
        named_weights.assign(named_weights.named(donor), path)
    with pytest.raises(InputError, match="cannot be read"):
        named_weights.assign(named_weights.named(donor), tmp_path / "none.npz")
