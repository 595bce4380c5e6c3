"""Tests of cellclass_tf.maskrcnn.classifiers."""

import pathlib

import pytest

from cellclass_tf.core.model_metadata import CellposeFeaturesRecord, NamerRecord
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import classifiers
from tests.metadata import model_metadata

PATH = pathlib.Path("model")


def test_a_model_has_the_classifiers_of_its_metadata():
    assert classifiers.of_model(PATH, {}, model_metadata()) == {}
    metadata = model_metadata(
        namer=NamerRecord(0.5),
        cellpose_features=CellposeFeaturesRecord(0.8),
        grayscale=True,
    )
    signatures = {
        name: name.upper for name in ("name_crops", "encode", "name_features")
    }
    found = classifiers.of_model(PATH, signatures, metadata)
    assert list(found) == ["namer", "cellpose_features"]
    namer, features = found.values()
    assert (namer.scale, features.scale) == (0.5, 0.8)
    assert namer.grayscale
    assert features.grayscale
    assert (namer.name_crops(), features.encode()) == ("NAME_CROPS", "ENCODE")
    del signatures["encode"]
    with pytest.raises(
        InputError, match=r"model: .*a signature encode.*the network has"
    ):
        classifiers.of_model(PATH, signatures, metadata)
