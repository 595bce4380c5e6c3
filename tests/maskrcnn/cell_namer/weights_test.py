"""Tests of cellclass_tf.maskrcnn.cell_namer.weights."""

import numpy as np
import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import config, runs
from cellclass_tf.maskrcnn.cell_namer import finished, network, weights

TYPES = ("HEK", "N2a")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A run with a namer of two types, which has random weights."""
    folder = tmp_path_factory.mktemp("earlier")
    model = network.build(len(TYPES))
    model.set_weights([w + 0.25 for w in model.get_weights()])
    (folder / runs.PARAMS_FILE).write_text("")
    record = finished.NamerTraining(TYPES, 1.0, False, steps=1, seed=0)
    finished.save(model, record, folder)
    return folder, model


def type_layer(model):
    return model.get_layer(network.TYPE_LAYER).get_weights()


def test_the_shipped_weights_fit_a_namer_of_any_types():
    model = network.build(5)
    before = type_layer(model)
    weights.load(model, tuple("abcde"), config.SIMULATED)
    named = network.named(model)
    with np.load(weights.SIMULATED_FILE, allow_pickle=False) as arrays:
        assert named.keys() == arrays.keys()
        for name, variable in named.items():
            np.testing.assert_array_equal(variable, arrays[name].astype(np.float32))
    assert len(named) == len(model.weights) - 2
    for values, expected in zip(type_layer(model), before, strict=True):
        np.testing.assert_array_equal(values, expected)
    assert weights.SIMULATED_FILE.stat().st_size < 1e6


@pytest.mark.parametrize("types", [TYPES, ("N2a", "HEK"), ("a", "b", "c")])
def test_the_type_layer_is_taken_only_from_a_run_with_the_same_types(earlier, types):
    folder, donor = earlier
    model = network.build(len(types))
    before = type_layer(model)
    weights.load(model, types, str(folder))
    given = network.named(donor)
    for name, variable in network.named(model).items():
        np.testing.assert_array_equal(variable, given[name])
    expected = type_layer(donor) if types == TYPES else before
    for values, wanted in zip(type_layer(model), expected, strict=True):
        np.testing.assert_array_equal(values, wanted)


def test_without_a_source_the_weights_stay_random():
    model = network.build(2)
    before = model.get_weights()
    weights.load(model, TYPES, "")
    for values, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(values, expected)


def test_a_run_whose_namer_is_gone_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no namer to start from.*--init=random"):
        weights.load(network.build(2), TYPES, str(tmp_path))


def test_a_namer_starts_from_the_run_that_the_detector_starts_from(
    earlier, tmp_path, monkeypatch
):
    folder, _ = earlier
    assert weights.source_for(str(folder), "other") == str(folder)
    (folder / "ckpt-3.index").write_text("")
    assert weights.source_for(str(folder / "ckpt-3"), "other") == str(folder)
    # Not runs, or without a namer.
    assert weights.source_for(str(tmp_path), "other") == "other"
    (tmp_path / runs.PARAMS_FILE).write_text("")
    assert weights.source_for(str(tmp_path), "other") == "other"
    # The name of weights is not taken for a file in the working directory.
    monkeypatch.chdir(folder)
    for name in ("", config.SIMULATED, "imagenet"):
        assert weights.source_for(name, "other") == "other"
