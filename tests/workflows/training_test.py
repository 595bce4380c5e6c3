"""Tests of cellclass_tf.workflows.training."""

import inspect
import pathlib

import pytest

import cellclass_tf as cc
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import export, runs, training


@pytest.fixture
def called(monkeypatch):
    """Replaces the functions that load TensorFlow; returns their calls."""
    found = []

    def note(name):
        return lambda *args, **options: found.append((name, args, options))

    monkeypatch.setattr(training, "train", note("train"))
    monkeypatch.setattr(export, "export", note("export"))
    monkeypatch.setattr(runs, "experiment_of", lambda folder: "recorded")
    return found


def test_defaults_agree_with_the_functions_that_are_called():
    for function, other, renamed in (
        (cc.train, training.train, {"experiment", "study", "output"}),
        (cc.export_model, export.export, {"training", "output"}),
    ):
        own = inspect.signature(function).parameters
        others = inspect.signature(other).parameters
        for name in own.keys() & others.keys() - renamed:
            assert own[name].default == others[name].default, name


def test_every_option_reaches_the_training(called):
    options = {
        name: f"<{name}>"
        for name, parameter in inspect.signature(cc.train).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    cc.train("study", "out", **options)
    assert called == [
        ("train", (options.pop("experiment"), "out"), options | {"study": "study"})
    ]


@pytest.mark.parametrize(
    ("given", "folders"),
    [
        ("a,b", ["a", "b"]),
        (pathlib.Path("a,b"), [pathlib.Path("a,b")]),
        (["a", "b,c"], ["a", "b,c"]),
    ],
)
def test_one_or_several_runs_become_a_model_of_their_experiment(called, given, folders):
    cc.export_model(given, "out", outlines="watershed", views=4)
    ((_, arguments, options),) = called
    assert arguments == ("recorded", folders, "out")
    assert [a.name for a in options["annotators"]] == ["watershed"]
    assert options["views"] == 4
    assert options["calibrate"]


def test_dataset_of_a_study_without_images_gives_one_clear_error(tmp_path):
    cc.Study.create(tmp_path / "s")
    with pytest.raises(InputError, match="no annotated images"):
        cc.dataset(tmp_path / "s")
