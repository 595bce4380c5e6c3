"""Tests of cellclass_tf.workflows.run_settings."""

import os

import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.workflows import run_settings

GIVEN = {"input": "raw", "study": "study", "annotator": "watershed"}


def test_settings_are_kept_and_a_later_call_changes_those_that_it_names(tmp_path):
    first = run_settings.settle(tmp_path, GIVEN | {"minutes": None})
    assert first.input == os.path.abspath("raw")
    assert first.minutes is None
    run_settings.write(tmp_path, first)
    again = run_settings.settle(tmp_path, {"minutes": 3})
    assert again.annotator == "watershed"
    assert again.minutes == 3
    assert again.study == first.study


def test_settings_that_a_person_wrote_are_read(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("input: raw\nstudy: /s\nminutes: '2.5'\nnuclei: 1\nnamer: false\n")
    found = run_settings.settle(tmp_path, {})
    assert found.minutes == 2.5
    assert found.nuclei == 1
    assert not found.namer


def test_what_a_person_wrote_into_the_file_is_not_lost(tmp_path):
    run_settings.write(tmp_path, run_settings.settle(tmp_path, GIVEN))
    path = tmp_path / "run.yaml"
    noted = path.read_text(encoding="utf-8") + "# dish 3 was left out\n"
    path.write_text(noted, encoding="utf-8")
    run_settings.write(tmp_path, run_settings.settle(tmp_path, {}))
    assert path.read_text(encoding="utf-8") == noted
    # Another setting needs another file; the noted one is kept.
    run_settings.write(tmp_path, run_settings.settle(tmp_path, {"seed": 3}))
    assert run_settings.settle(tmp_path, {}).seed == 3
    (kept,) = (tmp_path / ".trash").rglob("run.yaml")
    assert kept.read_text(encoding="utf-8") == noted


def test_a_new_limit_of_the_training_replaces_the_former_one(tmp_path):
    run_settings.write(tmp_path, run_settings.settle(tmp_path, GIVEN | {"steps": 9}))
    assert run_settings.settle(tmp_path, {}).steps == 9
    timed = run_settings.settle(tmp_path, {"minutes": 3.0})
    assert (timed.steps, timed.minutes) == (None, 3.0)
    run_settings.write(tmp_path, timed)
    assert run_settings.settle(tmp_path, {"steps": 5}).minutes is None
    with pytest.raises(InputError, match="got 5 steps and 3 minutes"):
        run_settings.settle(tmp_path, {"steps": 5, "minutes": 3.0})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "input: a\nstudy: b\nminuts: 3\n",
            "unknown setting 'minuts'. Did you mean minutes",
        ),
        ("input: a\nstudy: b\nq: 3\n", "unknown setting 'q'. Remove it"),
        ("input: a\nstudy: b\nminutes: soon\n", "minutes"),
        ("input: a\n", "--study is missing"),
        ("study: a\n", "--input is missing"),
        ("- a\n", "one `name: value` per line. Correct it"),
        ("input: [", "expected YAML"),
        ("format: cellclass_tf run 99\ninput: a\nstudy: b\n", "Update cellclass_tf"),
        ("input: a\nstudy: b\nminutes: 3\nsteps: 4\n", "either steps or minutes"),
        (
            "input: a\nstudy: b\noutlines: watershed\n",
            "expected 'network', or 'cellpose'",
        ),
    ],
)
def test_invalid_settings_are_refused(tmp_path, text, words):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        run_settings.settle(tmp_path, {})
