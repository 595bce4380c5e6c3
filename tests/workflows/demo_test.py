"""Tests of cellclass_tf.workflows.demo; a whole demo takes minutes, and .ci/run runs it."""

import pathlib

import pytest

from cellclass_tf import batch
from cellclass_tf.errors import InputError
from cellclass_tf.workflows import demo

SETTINGS = {"images_per_type": 2, "size": 512, "precision": "auto"}


def test_a_demo_of_other_settings_is_not_mixed_with_an_earlier_one(tmp_path):
    demo._check_settings(tmp_path, SETTINGS)
    demo._check_settings(tmp_path, SETTINGS)
    with pytest.raises(InputError, match="a demo of other settings"):
        demo._check_settings(tmp_path, SETTINGS | {"images_per_type": 3})


def test_settings_that_earlier_versions_did_not_record_are_the_defaults(tmp_path):
    (tmp_path / "demo.json").write_text('{"images_per_type": 2}')
    demo._check_settings(tmp_path, SETTINGS)
    with pytest.raises(InputError, match="other settings"):
        demo._check_settings(tmp_path, SETTINGS | {"precision": "bfloat16"})


def test_a_stage_that_failed_for_a_file_ends_the_demo_and_names_it():
    demo._check(batch.Outcome(done={"a": 1}))
    with pytest.raises(InputError, match="2 files failed, the first is a: broken"):
        demo._check(batch.Outcome(failures={"b": "gone", "a": "broken"}))


def test_the_summary_shows_found_beside_true_and_what_was_not_scored():
    scores = {
        "AP": 0.79412,
        "AP50": None,
        "type_accuracy": 1.0,
        "share_true": {"HEK": 0.5},
        "share_predicted": {"HEK": 0.25},
        "cells_predicted": 7,
        "cells_true": 8,
    }
    path = pathlib.Path("out/a.png")
    text = str(demo.Demo(0.9, scores, {"train": 3.4, "export": 1.1}, (path,)))
    assert "mask AP (COCO)        0.794" in text
    assert "mask AP50             -" in text
    assert "0.250  (true 0.500)" in text
    assert "7 (true 8)" in text
    assert "Seconds: 4 (train 3, export 1)." in text
    assert str(path) in text
