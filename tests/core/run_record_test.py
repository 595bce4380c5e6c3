"""Tests of cellclass_tf.core.run_record."""

import json
import pathlib

import pytest

from cellclass_tf.core.run_record import PredictedImage, RunRecord
from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError
from tests.metadata import model_metadata

RECORD = RunRecord(
    folder="/then/out",
    study="/then/out/converted",
    model="/models/m",
    model_sha256="f",
    model_metadata=model_metadata((((3, 1), (0, 4)),)),
    settings={"input": "/then/raw", "nuclei": None},
    versions={"numpy": "2.0"},
    finished="2026-01-01",
    images=(PredictedImage("a", "mixed/a.png", pixel_size_um=0.5),),
)


def content_of_version_1(image="mixed/a.png", **changes):
    content = RECORD.as_content()
    del content["format"]
    content["images"] = [{"image": image, "sha256": "s"}]
    return content | changes


def test_a_record_survives_a_round_trip(tmp_path):
    RECORD.write(tmp_path / "run.json")
    assert RunRecord.read(tmp_path / "run.json") == RECORD


@pytest.mark.parametrize(
    ("changes", "stem"),
    [
        ({}, "a"),
        # A study that happens to have this name.
        ({"settings": {"input": "/then/out/converted"}}, "mixed/a"),
        ({"study": "/then/study"}, "mixed/a"),
    ],
)
def test_images_of_version_1_get_their_stems(changes, stem):
    record = RunRecord.parse(content_of_version_1(**changes), "run.json")
    assert record.images == (PredictedImage(stem, "mixed/a.png", "s"),)


def test_values_that_an_older_version_did_not_record_are_empty():
    assert RunRecord.parse({}, "run.json") == RunRecord()
    assert RunRecord.parse({"model_metadata": {}}, "r").model_metadata is None


@pytest.mark.parametrize("image", ["../../x.png", "/x.png", "..\\x.png", "", 7, None])
def test_a_path_in_a_record_cannot_lead_out_of_the_study(image):
    for content in (
        content_of_version_1(image),
        RECORD.as_content() | {"images": [{"stem": "x", "image": image}]},
        RECORD.as_content() | {"images": [{"stem": image, "image": "x"}]},
    ):
        with pytest.raises(InputError, match=r"run.json"):
            RunRecord.parse(content, "run.json")


def test_a_converted_study_is_searched_beside_the_predictions(tmp_path):
    places = RECORD.places_of_study(tmp_path)
    assert places[0] == tmp_path / "converted"
    assert pathlib.Path("/then/out/converted") in places
    assert RECORD.find_study(tmp_path) is None
    made = Study.create(tmp_path / "converted")
    assert RECORD.find_study(tmp_path) == made


def test_the_written_record_is_standard_json(tmp_path):
    RECORD.write(tmp_path / "run.json")
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["format"] == "cellclass_tf predictions 2"
    assert content["model_metadata"]["format"] == "cellclass_tf Mask R-CNN 5"
    assert content["images"][0]["stem"] == "a"
