"""Tests of cellclass_tf.core.model_metadata."""

import dataclasses
import json

import pytest

from cellclass_tf.core.model_metadata import (
    Bin,
    CalibrationRecord,
    CellposeFeaturesRecord,
    ModelMetadata,
    NamerRecord,
)
from cellclass_tf.errors import InputError
from tests.metadata import model_metadata

BOTH = ("detector", "namer")


def test_metadata_survive_a_round_trip(tmp_path):
    metadata = model_metadata([[[3, 1], [0, 4]]] * 2)
    # Counts may be given as lists.
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


def content_of_version(version):
    content = model_metadata().as_content()
    for name in ("named_by", "log_likelihoods", "cellpose_features"):
        del content[name]
    return content | {"format": f"cellclass_tf Mask R-CNN {version}"}


def test_models_of_version_2_have_only_the_detector():
    content = content_of_version(2)
    del content["namer"]
    found = ModelMetadata.parse(content, "cellclass.json")
    assert found.namer is None
    assert found.classifiers == found.named_by == ("detector",)


@pytest.mark.parametrize(
    ("named_by", "expected"),
    [("detector", ("detector",)), ("namer", ("namer",)), ("both", BOTH)],
)
def test_models_of_version_4_tell_whether_the_namer_classifies(named_by, expected):
    namer = {"scale": 0.5, "named_by": named_by, "log_likelihoods": None}
    measured = {
        "outlines": "dataset",
        "score_threshold": 0.1,
        "temperature": 3.0,
        "calibration": dataclasses.asdict(CalibrationRecord((), (), 0.1)),
    }
    content = content_of_version(4) | {
        "namer": namer,
        "temperature": 2.0,
        "naming": [measured],
    }
    found = ModelMetadata.parse(content, "cellclass.json")
    assert found.named_by == expected
    assert found.namer == NamerRecord(0.5)
    assert found.log_likelihoods is None
    assert found.classifiers == BOTH
    # The probabilities of two classifiers were combined in another way.
    assert found.temperature == (2 * 2**0.5 if expected == BOTH else 2.0)
    assert found.naming[0].temperature == (3 * 2**0.5 if expected == BOTH else 3.0)
    namer["log_likelihoods"] = {"detector": -0.2, "namer": -0.3, "both": -0.1}
    found = ModelMetadata.parse(content, "cellclass.json")
    assert found.log_likelihoods == {
        "detector": -0.2,
        "namer": -0.3,
        "detector+namer": -0.1,
    }
    # Once more, since the record of a prediction holds the metadata too.
    again = ModelMetadata.upgraded(found.as_content(), 2)
    assert again["named_by"] == expected
    assert again["log_likelihoods"] == found.log_likelihoods


def test_classifiers_of_a_model_are_kept(tmp_path):
    every = ("detector", "namer", "cellpose_features")
    named = model_metadata(
        namer=NamerRecord(0.5),
        cellpose_features=CellposeFeaturesRecord(0.8, "ab" * 32, 300),
        named_by=every,
        log_likelihoods={"+".join(every): -0.1},
    )
    named.write(tmp_path / "cellclass.json")
    assert ModelMetadata.read(tmp_path / "cellclass.json") == named
    assert named.classifiers == every


def test_bins_of_earlier_versions_are_read():
    content = model_metadata([[[1, 0], [0, 1]]]).as_content()
    old = {"from": 0.8, "to": 0.9, "calls": 8, "right": 1.0, "mean": 0.86}
    content["calibration"]["bins"] = [old]
    found = ModelMetadata.parse(content, "cellclass.json")
    assert found.calibration.bins == (Bin(0.8, 0.9, 0.86, 1.0, 8),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type_names": ()}, "at least one cell type"),
        ({"type_names": ("HEK", "HEK")}, "are the same"),
        ({"type_names": ("HEK", "../../N2a")}, "does not begin with a letter"),
        ({"type_names": ("mixed", "N2a")}, "is a reserved name"),
        ({"tile_px": 0}, "tile_px: expected 16 to 4096, got 0"),
        ({"tile_px": 10**9}, "tile_px"),
        ({"scale": 0.0}, r"scale: expected 0\.01 to 20"),
        ({"scale": 1e9}, "scale"),
        ({"scale": float("nan")}, "scale: .*got nan"),
        ({"model_diameter_px": 65.0}, "model_diameter_px: expected 1 to 64"),
        ({"model_diameter_px": float("inf")}, "model_diameter_px"),
        ({"cell_diameter_px": -1.0}, "cell_diameter_px"),
        ({"pixel_size_um": 0.0}, "pixel_size_um"),
        ({"mask_threshold": 1.5}, "mask_threshold: expected 0 to 1"),
        ({"score_threshold": float("nan")}, "score_threshold"),
        ({"temperature": 0.0}, "temperature"),
        ({"namer": {"scale": 0.0}}, "namer.scale: expected"),
        ({"cellpose_features": {"scale": 99.0}}, "cellpose_features.scale: expected"),
        ({"named_by": ("namer",)}, "named_by: expected some of detector, in this"),
        ({"named_by": ()}, "named_by: .* got none"),
        (
            {"namer": {"scale": 1.0}, "named_by": ("namer", "detector")},
            "named_by: .*in this order; got namer, detector",
        ),
    ],
)
def test_numbers_out_of_range_are_rejected(tmp_path, changes, message):
    path = tmp_path / "cellclass.json"
    content = model_metadata().as_content() | changes
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"cellclass\.json: .*{message}"):
        ModelMetadata.read(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"confusion": [[1, 0]]},
        {"confusion": [[1], [1]]},
        {"confusion": [[1, 2], [3, -1]]},
        {"missed": [1]},
        {"invented": [1, 2, 3]},
        {"area": -1.0},
        {"area": float("nan")},
    ],
)
def test_held_out_counts_must_match_the_number_of_types(changes):
    content = model_metadata([[[1, 0], [0, 1]]]).as_content()
    (field,) = content["calibration"]["held_out"]
    content["calibration"]["held_out"] = [field | changes]
    with pytest.raises(InputError, match="expected 2 x 2 numbers of cells"):
        ModelMetadata.parse(content, "cellclass.json")


def test_models_of_version_3_have_no_missed_cells(tmp_path):
    content = model_metadata([[[9, 1], [2, 8]]]).as_content()
    del content["calibration"]["held_out"]
    content["calibration"]["confusions"] = [[[9, 1], [2, 8]]]
    named = {
        "outlines": "dataset",
        "score_threshold": 0.1,
        "temperature": 1.0,
        "calibration": content["calibration"],
    }
    old = content | {"format": "cellclass_tf Mask R-CNN 3", "naming": [named]}
    (tmp_path / "cellclass.json").write_text(json.dumps(old))
    found = ModelMetadata.read(tmp_path / "cellclass.json")
    for record in (found.calibration, found.naming[0].calibration):
        (field,) = record.held_out
        assert field.confusion == ((9, 1), (2, 8))
        assert field.missed == (0, 0)
        assert field.area == 0
        assert not field.group


def test_an_area_is_converted_to_cells():
    metadata = model_metadata(pixel_size_um=0.5, scale=0.5)
    # A median cell is 8 px wide in the network's input, and 16 px in training images.
    assert metadata.area_in_cells(160 * 160, 0.5) == pytest.approx(100)
    assert metadata.area_in_cells(80 * 80, 1.0) == pytest.approx(100)
    assert metadata.area_in_cells(160 * 160, None) == pytest.approx(100)
