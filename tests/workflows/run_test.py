"""Tests of cellclass_tf.workflows.run; trainings only record their calls."""

import json
import shutil

import pytest

import cellclass_tf as cc
from cellclass_tf import batch
from cellclass_tf.annotation.annotators.watershed import WatershedAnnotator
from cellclass_tf.core.encoder_weights import EncoderWeights
from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError
from cellclass_tf.interchange import cellpose_gui
from cellclass_tf.maskrcnn import export, runs, training
from cellclass_tf.storage import csv_json
from cellclass_tf.workflows import predict, run_steps
from tests.metadata import model_metadata  # noqa: F401 - loads what training needs.

SHARES = {
    "spot_check": None,
    "estimates": [
        {
            "withheld": "",
            "interval_reason": "",
            "corrected_reason": "",
            "unit": "dish",
            "units": 4,
            "labels_for_width": {"as_held_out": 120, "twice_as_many": 200},
            "types": {
                "HEK": {"corrected": 0.4, "corrected_low": 0.3, "corrected_high": 0.5},
                "N2a": {"corrected": 0.6, "corrected_low": 0.5, "corrected_high": 0.7},
            },
        }
    ],
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Makes raw files of two types, and of mixed fields."""
    root = tmp_path_factory.mktemp("drawn")
    cc.simulate(root, images_per_type=4, mixed=1, size=224)
    return root / "raw"


@pytest.fixture
def calls(monkeypatch):
    """Replaces training, export and prediction; returns their calls."""
    done = []

    def train(experiment, folder, **options):
        folder.mkdir(parents=True)
        done.append(("train", folder.name, options["steps"]))

    def export_model(experiment, folder, output, annotators, encoder_weights):
        output.mkdir(parents=True, exist_ok=True)
        done.append(("export", folder.name, len(annotators), encoder_weights))

    def predict_fields(model, study, output, **options):
        output.mkdir(exist_ok=True)
        (output / "mixture.json").write_text(json.dumps(SHARES))
        done.append(("predict", options["cell_type"], options["outlines"]))
        return batch.Outcome(done={"mixed/a": {}})

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(export, "export", export_model)
    monkeypatch.setattr(predict, "predict", predict_fields)
    return done


def options(drawn, tmp_path):
    from cellclass_tf.datasets import simulation

    return {
        "input": drawn,
        "study": tmp_path / "study",
        "annotator": "watershed",
        "group": simulation.GROUP_PATTERN,
        "steps": 7,
    }


def test_the_plan_does_nothing(drawn, tmp_path, calls):
    planned = cc.run(tmp_path / "out", **options(drawn, tmp_path), plan=True)
    assert not (tmp_path / "study").exists()
    assert not calls
    text = str(planned)
    assert "1. merge the channels of 9 raw files" in text
    assert "minutes" in text
    assert "GB of disk space" in text
    assert "correct" not in text


def test_a_run_stops_once_for_a_person_and_then_finishes(drawn, tmp_path, calls):
    out = tmp_path / "out"
    asked = cc.run(out, **options(drawn, tmp_path))
    assert asked.questions
    assert not asked.passed
    assert not calls
    assert "images have doubtful cells" in str(asked)
    assert "--yes" in str(asked)
    assert "run again with --corrections=gui" in str(asked)
    # The settings are known by now, and so are the questions.
    found = cc.run(out)
    assert [call[0] for call in calls] == ["train", "export", "predict"]
    assert calls[0] == ("train", "2.0.0", 7)
    assert calls[2] == (
        "predict",
        "mixed",
        "network",
    )
    assert found.passed
    assert found.shares["HEK"] == (0.4, 0.3, 0.5)
    text = str(found)
    assert "HEK: 40.0 % (30.0 to 50.0)" in text
    assert "of 4 dishes" in text
    assert "label about 120 cells" in text.splitlines()[-1]
    assert "report.html" in text


def test_a_run_stops_again_for_something_new(drawn, tmp_path, calls):
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(drawn, raw)
    assert cc.run(out, **options(raw, tmp_path)).questions
    (raw / "HEK" / "broken_dish9.tif").write_bytes(b"II*")
    (broken, *_) = cc.run(out).questions
    assert "broken_dish9.tif" in broken
    assert not calls
    assert cc.run(out).passed


def test_a_dataset_of_the_same_version_but_other_content_is_trained_on(
    drawn, tmp_path, calls, monkeypatch
):
    out, train = tmp_path / "out", training.train

    def recorded(experiment, folder, study, **rest):
        train(experiment, folder, **rest)
        info = cc.dataset(study).info
        record = runs.TrainingRecord(
            experiment, dataset_fingerprint=info.metadata["fingerprint"]
        )
        record.write(folder / runs.RECORD_FILE)

    monkeypatch.setattr(training, "train", recorded)
    cc.run(out, **options(drawn, tmp_path), yes=True)
    study = Study.open(tmp_path / "study")
    # Datasets look as if they could be made again at any time.
    shutil.rmtree(study.root / "tfds")
    calls.clear()
    cc.run(out, yes=True)
    assert [call[0] for call in calls] == ["predict"]
    row = next(row for row in study.rows() if row.split == "train")
    lines = csv_json.read_csv(study.manifest_path)
    (line,) = [line for line in lines if line["image"] == row.image]
    line["verdict"] = "rejected"
    csv_json.write_csv(study.manifest_path, line, lines)
    shutil.rmtree(study.root / "tfds")
    calls.clear()
    cc.run(out, yes=True)
    assert [call[0] for call in calls] == ["train", "export", "predict"]
    assert calls[0][1].startswith("2.0.0_")
    calls.clear()
    cc.run(out, yes=True)
    assert [call[0] for call in calls] == ["predict"]


def test_a_model_is_exported_again_for_another_annotator_or_diameter(
    drawn, tmp_path, calls, monkeypatch
):
    out = tmp_path / "out"
    # With corrections of all fields, the dataset does not depend on the annotator.
    monkeypatch.setattr(run_steps.Steps, "annotate", lambda _: batch.Outcome())
    given = options(drawn, tmp_path) | {"corrections": drawn.parent / "truth"}
    cc.run(out, **given, yes=True)
    calls.clear()
    cc.run(out, diameter=40.0, yes=True)
    assert [call[0] for call in calls] == ["export", "predict"]


def test_only_what_has_changed_is_done_again(drawn, tmp_path, calls):
    out = tmp_path / "out"
    cc.run(out, **options(drawn, tmp_path), yes=True)
    calls.clear()
    cc.run(out, yes=True)
    assert [call[0] for call in calls] == ["predict"]
    study = Study.open(tmp_path / "study")
    row = next(row for row in study.rows() if row.split == "train")
    study.cells_path(row).unlink()
    calls.clear()
    cc.run(out, yes=True)
    # The field is annotated again, alike, and there is nothing to train.
    assert [call[0] for call in calls] == ["predict"]
    lines = csv_json.read_csv(study.manifest_path)
    (line,) = [line for line in lines if line["image"] == row.image]
    line["verdict"] = "rejected"
    csv_json.write_csv(study.manifest_path, line, lines)
    calls.clear()
    cc.run(out, yes=True)
    assert [call[0] for call in calls] == ["train", "export", "predict"]
    assert calls[0][1] != "2.0.0"
    assert (out / "training" / "2.0.0").exists()


@pytest.mark.parametrize("outlines", ["network", "watershed"])
def test_a_model_gets_the_encoder_of_the_annotator_whoever_outlines(
    drawn, tmp_path, calls, monkeypatch, outlines
):
    chosen = options(drawn, tmp_path) | {"outlines": outlines}
    encoder = EncoderWeights({}, 30.0, "5a5a")
    monkeypatch.setattr(WatershedAnnotator, "encoder_weights", lambda _: encoder)
    cc.run(tmp_path / "out", **chosen, yes=True)
    assert calls[1] == ("export", "2.0.0", int(outlines == "watershed"), encoder)


def test_a_training_of_other_settings_is_not_continued(drawn, tmp_path, calls):
    out = tmp_path / "out"
    cc.run(out, **options(drawn, tmp_path), yes=True)
    with pytest.raises(InputError, match="a training with other settings"):
        cc.run(out, steps=8, yes=True)


def test_a_killed_training_is_continued(drawn, tmp_path, calls, monkeypatch):
    out, train = tmp_path / "out", training.train

    def killed(experiment, folder, **rest):
        train(experiment, folder, **rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        cc.run(out, **options(drawn, tmp_path), yes=True)
    seen = []
    monkeypatch.setattr(training, "train", lambda *a, **k: seen.append(a[1].name))
    cc.run(out, yes=True)
    assert seen == ["2.0.0"]


def test_without_mixed_fields_only_a_model_is_made(drawn, tmp_path, calls):
    raw = tmp_path / "raw"
    for name in ("HEK", "N2a"):
        (raw / name).parent.mkdir(exist_ok=True)
        (raw / name).symlink_to(drawn / name)
    found = cc.run(tmp_path / "out", **options(raw, tmp_path), yes=True)
    assert found.shares is None
    assert "There are no mixed fields" in str(found)
    assert [call[0] for call in calls] == ["train", "export"]


def test_corrections_are_read_from_label_images_too(drawn, tmp_path, calls):
    out = tmp_path / "out"
    # The simulated truth lies beside the raw files.
    truth = drawn.parent / "truth"
    cc.run(out, **options(drawn, tmp_path), corrections=truth, yes=True)
    study = Study.open(tmp_path / "study")
    assert {row.annotator for row in study.accepted_rows()} == {"import"}
    cc.run(out, yes=True)
    assert [call[0] for call in calls] == ["train", "export", "predict", "predict"]


def test_a_folder_of_corrections_that_does_not_exist_is_an_error(drawn, tmp_path):
    given = options(drawn, tmp_path)
    with pytest.raises(
        InputError, match=r"guii is not a folder.*--corrections="
    ) as told:
        cc.run(tmp_path / "out", **given, corrections=tmp_path / "guii")
    assert not (tmp_path / "out").exists()
    assert str(tmp_path) in str(told.value)
    planned = cc.run(tmp_path / "out", **given, corrections="", plan=True)
    assert "correct" not in str(planned)


def test_corrections_of_two_kinds_are_not_left_out_silently(drawn, tmp_path, calls):
    out, gui, given = tmp_path / "out", tmp_path / "gui", options(drawn, tmp_path)
    cc.run(out, **given)
    cellpose_gui.export_cellpose(tmp_path / "study", gui)
    first, second, *_ = sorted((gui / "HEK").glob("*_seg.npy"))
    masks = sorted((drawn.parent / "truth" / "HEK").glob("*.tif"))
    # cellpose itself writes such a file beside its own.
    shutil.copy(masks[0], first.with_name(first.name.replace("_seg.npy", "_masks.tif")))
    lone = second.with_name(second.name.replace("_seg.npy", "_cp_masks.tif"))
    shutil.copy(masks[1], lone)
    second.unlink()
    asked = cc.run(out, corrections=gui).questions
    assert [line for line in asked if "failed" in line] == [
        f"failed: {lone}: not read, since {gui} has files of cellpose (…_seg.npy), and "
        "`run` reads one kind of file. Move it to another folder, and import it with "
        "`cellclass import --format=masks`."
    ]


def test_failures_are_told_each_time_and_new_ones_are_asked_about(
    drawn, tmp_path, calls, capsys
):
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(drawn, raw)
    for number in range(6):
        (raw / "HEK" / f"broken{number}.tif").write_bytes(b"II*")
    assert cc.run(out, **options(raw, tmp_path), yes=True).passed
    assert "broken4.tif" in capsys.readouterr().err
    # All failures were told, but the last one by number only.
    assert cc.run(out).passed
    told = capsys.readouterr().err
    assert "broken4.tif" in told
    assert "and 1 more that failed" in told
    # As many files fail as before, but another one.
    (raw / "HEK" / "broken5.tif").unlink()
    (raw / "HEK" / "broken6.tif").write_bytes(b"II*")
    assert "and 1 more that failed" in cc.run(out).questions


def test_precision_is_a_setting_of_the_training(drawn, tmp_path, calls):
    out = tmp_path / "out"
    cc.run(out, **options(drawn, tmp_path), yes=True)
    with pytest.raises(InputError, match="a training with other settings"):
        cc.run(out, precision="bfloat16", yes=True)


def test_the_studys_own_folder_and_a_missing_input_are_refused(drawn, tmp_path):
    given = options(drawn, tmp_path)
    with pytest.raises(InputError, match="a folder of their own"):
        cc.run(given["study"], **given)
    with pytest.raises(InputError, match="does not exist"):
        cc.run(tmp_path / "out", **given | {"input": tmp_path / "none"})


def test_a_single_dish_and_files_that_failed_are_asked_about(drawn, tmp_path, calls):
    raw = tmp_path / "raw"
    (raw / "HEK").mkdir(parents=True)
    first = min((drawn / "HEK").iterdir())
    (raw / "HEK" / first.name).write_bytes(first.read_bytes())
    (raw / "N2a").symlink_to(drawn / "N2a")
    (raw / "HEK" / "broken_dish9.tif").write_bytes(b"II*")
    found = cc.run(tmp_path / "out", **options(raw, tmp_path))
    text = str(found)
    assert "HEK: there is one dish only" in text
    assert "broken_dish9.tif" in text
    assert not calls
    # Whoever continues gets a model whose errors for this type are not known.
    found = cc.run(tmp_path / "out")
    assert [call[0] for call in calls] == ["train", "export"]
    assert "There are no mixed fields" in str(found)
