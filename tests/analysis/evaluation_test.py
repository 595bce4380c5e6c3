"""Tests of evaluation."""

import dataclasses
import json

import numpy as np
import pytest

from cellclass_tf.analysis.evaluation import evaluate
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.run_record import PredictedImage, RunRecord
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from tests.predictions import write_predictions

TYPES = ("HEK", "N2a")


def _blocks(types, type_names=TYPES, size=4, skip=()):
    """Returns a row of squares, 6 px apart, one per type; those in `skip` are left out."""
    labels = np.zeros((8, 6 * len(types) + 2), np.int32)
    kept = [i for i in range(len(types)) if i not in skip]
    for i in kept:
        labels[2 : 2 + size, 6 * i + 2 : 6 * i + 2 + size] = i + 1
    return Cells.from_labels(labels, type_names, [types[i] for i in kept])


def _study(root, fields, **details):
    study = Study.create(root, TYPES)
    for stem, cells in fields.items():
        cell_type = stem.split("/")[0]
        row = ImageRow(f"{stem}.png", cell_type, **details)
        study.update([row])
        cells.write(study.cells_path(row), types_csv=cell_type == "mixed")
    return study


def _evaluate(tmp_path, true, predicted, **details):
    study = _study(tmp_path / "study", true, **details)
    return evaluate(write_predictions(tmp_path / "predictions", predicted), study.root)


def test_ground_truth_compared_with_itself_has_perfect_scores(tmp_path):
    fields = {
        "mixed/a": _blocks(["HEK", "N2a", "HEK"]),
        "HEK/b": _blocks(["HEK"] * 4),
    }
    result = _evaluate(tmp_path, fields, fields)
    perfect = ("AP", "AP50", "AP75", "AP_cells", "AP50_cells", "PQ", "type_accuracy")
    assert {result[key] for key in perfect} == {1}
    assert {result[k] for k in ("precision", "recall", "average_precision_50")} == {1}
    assert result["PQ_per_type"] == {"HEK": 1, "N2a": 1}
    assert result["images"] == 2
    assert result["cells_true"] == 7
    assert result["share_fields"] == "mixed"
    assert result["share_error_points"] == {"HEK": 0, "N2a": 0}


def test_more_than_a_hundred_cells_all_count(tmp_path):
    cells = _blocks(["HEK", "N2a"] * 60)
    result = _evaluate(tmp_path, {"mixed/a": cells}, {"mixed/a": cells})
    assert result["AP"] == 1
    assert result["AP_cells"] == 1


def test_errors_of_every_kind_are_counted(tmp_path):
    # Four cells; the 2nd is called N2a, the 3rd is missed, a 5th is invented.
    true = _blocks(["HEK", "HEK", "N2a", "N2a", "N2a"], skip=[4])
    predicted = _blocks(["HEK", "N2a", "HEK", "N2a", "N2a"], skip=[2])
    result = _evaluate(tmp_path, {"mixed/a": true}, {"mixed/a": predicted})
    assert result["confusion"] == {
        "HEK": {"HEK": 1, "N2a": 1, "missed": 0},
        "N2a": {"HEK": 0, "N2a": 1, "missed": 1},
        "invented": {"HEK": 0, "N2a": 1},
    }
    # 3 of 4 on either side; 2 of the 3 have their type; 3 / (3 + 1 + 1).
    assert result["precision"] == result["recall"] == 0.75
    assert result["type_accuracy"] == pytest.approx(2 / 3)
    assert result["average_precision_50"] == 0.6
    # IoU is 1 in all pairs. All: 3 / ((4 + 4) / 2). HEK: 1 / ((2 + 1) / 2).
    # N2a: 1 / ((2 + 3) / 2).
    assert result["PQ"] == 0.75
    assert result["PQ_per_type"] == {"HEK": pytest.approx(2 / 3), "N2a": 0.4}
    assert result["share_true"] == {"HEK": 0.5, "N2a": 0.5}
    assert result["share_predicted"] == {"HEK": 0.25, "N2a": 0.75}
    assert result["share_error_points"] == {"HEK": -25, "N2a": 25}
    assert result["per_type"]["N2a"]["cells_predicted"] == 3


def test_evaluation_is_written_as_plain_json(tmp_path):
    # There is no N2a, so its scores are undefined: null, and never NaN.
    fields = {"HEK/a": _blocks(["HEK"] * 2)}
    result = _evaluate(tmp_path, fields, fields)
    text = (tmp_path / "predictions" / "evaluation.json").read_text()
    assert json.loads(text) == result
    assert "NaN" not in text
    assert result["per_type"]["N2a"]["AP"] is None
    assert result["PQ_per_type"]["N2a"] is None
    assert result["AP"] == 1
    assert result["share_fields"] == "all"


def test_fields_of_partly_known_types_count_only_without_types(tmp_path, caplog):
    part = _blocks(["HEK", "unknown"])
    whole = _blocks(["HEK", "N2a"])
    true = {"mixed/a": part, "mixed/b": whole}
    result = _evaluate(tmp_path, true, {"mixed/a": whole, "mixed/b": whole})
    assert result["images_partly_typed"] == 1
    assert "have cells of unknown type" in caplog.text
    assert result["per_type"]["N2a"]["cells_true"] == 1
    assert result["cells_true"] == 4
    assert result["AP_cells"] == 1
    assert result["confusion"]["unknown"] == {"HEK": 0, "N2a": 1, "missed": 0}
    # Three matched cells have a known type, and all got it.
    assert result["type_accuracy"] == 1


def test_predicted_cells_of_unknown_type_are_no_typed_detections(tmp_path):
    true = {"mixed/a": _blocks(["HEK", "N2a"])}
    predicted = {"mixed/a": _blocks(["HEK", "unknown"])}
    result = _evaluate(tmp_path, true, predicted)
    assert result["AP_cells"] == 1
    assert result["type_accuracy"] == 0.5
    assert result["per_type"]["N2a"]["AP"] == 0
    assert result["confusion"]["N2a"]["unknown"] == 1
    # The only N2a was matched, and not called N2a.
    assert result["confusion_rates"] == {
        "HEK": {"HEK": 1, "N2a": 0},
        "N2a": {"HEK": 0, "N2a": 0},
    }


def test_types_are_compared_by_name_not_by_number(tmp_path):
    types = ["HEK", "N2a", "N2a"]
    true = {"mixed/a": _blocks(types)}
    result = _evaluate(
        tmp_path, true, {"mixed/a": _blocks(types, ("N2a", "CHO", "HEK"))}
    )
    assert result["AP"] == 1
    assert result["type_accuracy"] == 1
    assert list(result["per_type"]) == ["HEK", "N2a", "CHO"]


def test_types_that_differ_only_by_case_are_refused(tmp_path):
    true = {"mixed/a": _blocks(["HEK", "N2a"])}
    other = {"mixed/a": _blocks(["hek", "N2a"], ("hek", "N2a"))}
    with pytest.raises(InputError, match=r"'hek', and .*study.yaml has 'HEK'"):
        _evaluate(tmp_path, true, other)


def test_images_without_truth_are_left_out_and_counted(tmp_path):
    cells = _blocks(["HEK"])
    predicted = {"HEK/a": cells, "HEK/b": cells, "c": cells}
    result = _evaluate(tmp_path, {"HEK/a": cells}, predicted, split="test")
    assert result["images"] == 1
    assert result["images_without_truth"] == 2
    assert result["images_by_split"] == {"test": 1}


def test_a_name_without_folder_finds_its_image_if_it_is_unique(tmp_path):
    cells = _blocks(["HEK"])
    result = _evaluate(tmp_path, {"HEK/a": cells}, {"a": cells})
    assert result["images"] == 1


def test_a_name_that_occurs_in_two_folders_is_ambiguous(tmp_path):
    cells = _blocks(["HEK"])
    with pytest.raises(InputError, match=r"none of its 1 images.* the study has HEK/a"):
        _evaluate(tmp_path, {"HEK/a": cells, "N2a/a": cells}, {"a": cells})


def test_another_image_of_the_same_name_is_left_out(tmp_path):
    cells, study = _blocks(["HEK"]), Study.create(tmp_path / "study", TYPES)
    for name in "abc":
        row = ImageRow(f"HEK/{name}.png", "HEK", image_sha256="1" * 64)
        # The raw file of b was converted anew; that of c is not recorded.
        row = dataclasses.replace(row, raw_sha256="" if name == "c" else "2" * 64)
        study.update([row])
        cells.write(study.cells_path(row))
    run = write_predictions(tmp_path / "run", dict.fromkeys(["a", "b", "c"], cells))
    images = tuple(
        PredictedImage(stem, f"mixed/{stem}.png", sha256, raw_sha256=raw, raw_file=stem)
        for stem, sha256, raw in (
            ("a", "3" * 64, "4" * 64),
            ("b", "3" * 64, "2" * 64),
            ("c", "", "4" * 64),
        )
    )
    RunRecord(images=images).write(run / "run.json")
    result = evaluate(run, study)
    assert result["images"] == 2
    assert list(result["failures"]) == ["a"]
    assert "a was predicted in another image of that name" in result["failures"]["a"]


def test_one_split_can_be_evaluated_alone(tmp_path):
    cells = _blocks(["HEK"])
    study = _study(tmp_path / "study", {"HEK/a": cells, "HEK/b": cells}, split="train")
    study.update([ImageRow("HEK/b.png", "HEK", split="test")])
    folder = write_predictions(tmp_path / "p", {"HEK/a": cells, "HEK/b": cells})
    assert evaluate(folder, study, split="test")["images_by_split"] == {"test": 1}
    assert evaluate(folder, study)["images_by_split"] == {"test": 1, "train": 1}
    with pytest.raises(InputError, match="in the split 'validation'"):
        evaluate(folder, study, split="validation")


def test_label_images_of_two_sizes_are_refused(tmp_path):
    true = {"HEK/a": _blocks(["HEK"])}
    with pytest.raises(
        InputError, match=r"\(8, 14\) px, but the annotated cells .*\(8, 8\)"
    ):
        _evaluate(tmp_path, true, {"HEK/a": _blocks(["HEK", "HEK"])})


def test_fields_without_any_cell_have_no_scores(tmp_path):
    empty = {"HEK/a": _blocks(["HEK"], skip=[0])}
    result = _evaluate(tmp_path, empty, empty)
    assert result["cells_true"] == 0
    assert result["AP"] is None
    assert result["PQ"] is None
    assert result["precision"] is None
    assert result["type_accuracy"] is None
