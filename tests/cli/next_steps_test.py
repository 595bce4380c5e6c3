"""Tests of cellclass_tf.cli.next_steps."""

import json
import shlex

import pytest

import cellclass_tf as cc
from cellclass_tf.cli import main, next_steps
from cellclass_tf.core.study import ImageRow, Study
from tests.workflows.run_test import SHARES


@pytest.fixture
def study(tmp_path):
    made = Study.create(tmp_path / "study", ("HEK", "N2a"))
    made.update(
        [
            ImageRow("HEK/a.png", "HEK", verdict="accepted", cells=7),
            ImageRow(
                "HEK/b.png", "HEK", verdict="rejected", reason="blurred: slope -9"
            ),
            ImageRow("N2a/c.png", "N2a", verdict="accepted", cells=3),
            ImageRow("mixed/d.png", "mixed", verdict="accepted", cells=5),
        ]
    )
    return made


def test_images_are_counted_by_type_and_verdict(study):
    assert next_steps.images_in_words(study.rows()) == (
        "4 images: 1 HEK, 1 N2a, 1 mixed; 1 rejected: 1 blurred."
    )
    assert next_steps.images_in_words([]) == "0 images: none accepted."


def test_every_command_names_the_next_one(study):
    values = {"study": str(study.root)}
    converted = next_steps.lines_after("convert", values)
    assert converted[0].startswith("4 images")
    assert "annotate" in converted[-1]
    annotated = next_steps.lines_after("annotate", values)
    assert (
        annotated[0] == "15 cells: 7 in HEK fields, 3 in N2a fields, 5 in mixed fields."
    )
    assert annotated[-1] == f"Next: cellclass dataset --study={study.root}"
    study.review_queue_path.parent.mkdir()
    study.review_queue_path.write_text("image,minutes\na,2.5\nb,1.5\n")
    annotated = next_steps.lines_after("annotate", values)
    assert "2 images have doubtful cells" in annotated[1]
    assert "4 minutes: a, b" in annotated[1]
    assert "cellclass train" in next_steps.lines_after("dataset", values)[0]
    assert next_steps.lines_after("import", {"study": None}) == []
    assert next_steps.lines_after("report", {}) == []
    exported = {"study": "study", "output": "gui", "format": "cellpose"}
    (told,) = next_steps.lines_after("export", exported)
    assert "cellclass import --study=study --format=cellpose --source=gui" in told
    assert next_steps.lines_after("export", exported | {"format": "coco"}) == []


def test_names_with_spaces_are_quoted_in_the_next_command():
    told = next_steps.next_is("predict", model="my model", input="a'b", tile=3)
    assert shlex.split(told) == [
        "Next:",
        "cellclass",
        "predict",
        "--model=my model",
        "--input=a'b",
        "--tile=3",
    ]
    values = {"study": "my study", "output": "to correct", "format": "cellpose"}
    for name in ("import", "dataset", "export"):
        assert "--study='my study'" in next_steps.lines_after(name, values)[-1]


def test_predict_prints_the_proportions(tmp_path):
    values = {"output": str(tmp_path)}
    assert next_steps.lines_after("predict", values) == []
    (tmp_path / "mixture.json").write_text(json.dumps(SHARES))
    told = next_steps.lines_after("predict", values)
    assert told[:2] == [
        "Proportions (corrected) of 4 dishes:",
        "  HEK: 40.0 % (30.0 to 50.0)",
    ]
    assert "report.html" in told[3]
    assert "cellclass spotcheck" in told[4]


def test_output_of_a_command_ends_with_the_next_command(tmp_path, capsys):
    root = tmp_path / "study"
    numbers = ["--images_per_type=2", "--mixed=0", "--size=224", "--processes=1"]
    assert main.run(["simulate", f"--study={root}", *numbers]) == main.DONE
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"Next: cellclass convert --input={root}/raw --study={root} "
        r"--group='[^/]+_dish\d+'"
    )
    # A command that had nothing to do does not name the next one.
    empty = cc.Study.create(tmp_path / "empty", ("HEK", "N2a"))
    assert main.run(["annotate", f"--study={empty.root}"]) == main.USAGE
    assert "Next" not in capsys.readouterr().out
