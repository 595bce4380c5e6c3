"""Tests of cellclass_tf.analysis.schemas: outputs of stages fit, and no other files do."""

import json

import jsonschema
import pytest

import cellclass_tf as cc
from cellclass_tf.analysis import evaluation
from cellclass_tf.analysis.spot_check import labels
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.run_record import RUN_FILE, PredictedImage, RunRecord
from tests.analysis.evaluation_test import _blocks, _study
from tests.analysis.mixture_test import predictions
from tests.metadata import model_metadata
from tests.predictions import write_predictions
from tests.spot_check import checked_predictions, rows_of, write_table


def check(path):
    """Asserts that a file fits, and does not fit with a key added or removed anywhere."""
    schema = json.loads(json.dumps(cc.json_schema(path.name)))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    content = json.loads(path.read_text(encoding="utf-8"))
    validator.validate(content)
    assert not validator.is_valid(content | {"unknown key": 1})
    for key in content:
        assert not validator.is_valid({k: content[k] for k in content if k != key})
    return validator, content


@pytest.mark.parametrize("confusions", [None, [[[45, 5], [10, 40]]] * 2])
def test_a_mixture_fits_its_schema(tmp_path, confusions):
    counts = [(20, 20), (22, 18), (30, 10), (0, 0)]
    folder = predictions(tmp_path, counts, groups=list("aabc"), confusions=confusions)
    cc.mixture(folder, expected="HEK=1,N2a=1")
    validator, content = check(folder / "mixture.json")
    content["estimates"][0]["types"]["HEK"]["unknown key"] = 1
    assert not validator.is_valid(content)


def test_a_mixture_that_is_withheld_fits_its_schema(tmp_path):
    folder = predictions(tmp_path, [(20, 20), (22, 18)])
    unlike = PredictedImage("mixed/0", "mixed/0.png", compared=True, unlike=("dim",))
    record = RunRecord(model_metadata=model_metadata(), images=(unlike,))
    record.write(folder / RUN_FILE)
    cc.mixture(folder)
    _, content = check(folder / "mixture.json")
    assert content["estimates"][0]["withheld"]


def test_a_mixture_with_a_spot_check_fits_its_schema(tmp_path):
    folder = checked_predictions(tmp_path)
    cc.spotcheck(folder, cells=40)
    drawn = labels.current_sample(Predictions(folder))
    for name, windows in (("Ana", 1), ("Ana", None), ("Ben", None)):
        rows = rows_of(drawn, name, windows=windows)
        labels.import_spotcheck(folder, write_table(tmp_path / f"{name}.csv", rows))
        found = cc.mixture(folder)["spot_check"]
        assert bool(found["reason"]) == (windows == 1)
        check(folder / "mixture.json")
    assert found["labellers"] == ["Ana", "Ben"]


@pytest.mark.parametrize("fields", [1, 5])
def test_an_evaluation_fits_its_schema(tmp_path, fields):
    true = {f"mixed/{n}": _blocks(["HEK", "N2a", "unknown"]) for n in range(fields)}
    true["HEK/b"] = _blocks(["HEK"])
    found = {stem: _blocks(["HEK", "HEK", "N2a"], skip=[1]) for stem in true}
    study = _study(tmp_path / "study", true)
    cc.evaluate(write_predictions(tmp_path / "found", found), study.root)
    _, content = check(tmp_path / "found" / evaluation.EVALUATION_FILE)
    assert (content["intervals"] is None) == (fields == 1)


def test_a_record_fits_its_schema(tmp_path):
    record = RunRecord(
        model_metadata=model_metadata([[[3, 1], [0, 4]]]),
        settings={"input": "raw", "nuclei": None},
        images=(PredictedImage("a", "mixed/a.png", pixel_size_um=0.5),),
    )
    record.write(tmp_path / RUN_FILE)
    validator, content = check(tmp_path / RUN_FILE)
    # Those of a model's metadata, and of an image, are strict too.
    for changes in ({"images": [{}]}, {"model_metadata": {"more": 1}}):
        assert not validator.is_valid(content | changes)
    content["images"][0]["more"] = 1
    assert not validator.is_valid(content)


def test_schemas_are_named_after_their_files(tmp_path):
    written = cc.write_schemas(tmp_path / "new")
    assert [path.name for path in written] == [
        "run.schema.json",
        "mixture.schema.json",
        "evaluation.schema.json",
    ]
    assert json.loads(written[0].read_text()) == cc.json_schema("run.json")
    with pytest.raises(cc.InputError, match=r"run\.json, mixture\.json"):
        cc.json_schema("cells.csv")
