"""Tests of cellclass_tf.core.model_metadata."""

import pytest

from cellclass_tf.core.model_metadata import Bin, ModelMetadata
from cellclass_tf.errors import InputError
from tests.metadata import model_metadata


def test_metadata_come_back_as_they_were(tmp_path):
    metadata = model_metadata([[[3, 1], [0, 4]]] * 2)
    # From lists, as the network's own counts are.
    metadata.write(tmp_path / "cellclass.json")
    back = ModelMetadata.read(tmp_path / "cellclass.json")
    assert back == model_metadata((((3, 1), (0, 4)),) * 2)


def test_models_of_version_1_have_to_be_exported_again():
    content = model_metadata().as_content()
    for text in ("cellclass_tf Mask R-CNN 1", None):
        content["format"] = text
        with pytest.raises(InputError, match="Export the model again"):
            ModelMetadata.parse(content, "cellclass.json")
    del content["format"]
    with pytest.raises(InputError, match="Export the model again"):
        ModelMetadata.parse(content, "cellclass.json")


def test_bins_of_earlier_models_are_read():
    content = model_metadata([[[1, 0], [0, 1]]]).as_content()
    old = {"from": 0.8, "to": 0.9, "calls": 8, "right": 1.0, "mean": 0.86}
    content["calibration"]["bins"] = [old]
    found = ModelMetadata.parse(content, "cellclass.json")
    assert found.calibration.bins == (Bin(0.8, 0.9, 0.86, 1.0, 8),)
