"""Tests of fine-tuning: rounds, the choice of the best one, resuming, and outputs."""

import dataclasses
import json

import numpy as np
import pytest

from cellclass_tf.annotation.annotators.cellpose import CellposeAnnotator
from cellclass_tf.annotation.annotators.protocol import Outlines
from cellclass_tf.annotation.finetuning import material, tuning, verdict
from cellclass_tf.annotation.finetuning.rounds import Rounds
from cellclass_tf.core.cells import Cells
from cellclass_tf.errors import InputError
from cellclass_tf.storage import digests, png
from tests.annotation import cellpose_networks


@pytest.fixture
def output(tmp_path):
    return tmp_path / "tuned"


@pytest.fixture
def scores(monkeypatch):
    """Replaces the scores of the base weights and of each round."""
    given = [0.5, 0.6, 0.7, 0.65]
    iterator = iter(given)
    monkeypatch.setattr(verdict, "score_part", lambda *_, **__: next(iterator))
    return given


@pytest.fixture
def rounds(monkeypatch):
    """Replaces training: round n sets the last bias to n. Returns the calls."""
    trained = []

    def train(network, pieces, folder, epochs, settings, number, caption):
        trained.append((number, epochs))
        cellpose_networks.last_bias(network).data[:] = number

    monkeypatch.setattr(tuning, "_train_round", train)
    return trained


def _bias(path):
    import torch

    return torch.load(path, weights_only=True)[cellpose_networks.LAST_BIAS][0].item()


def _read(output):
    return json.loads(output.with_name("tuned.json").read_text())


def test_best_round_is_kept_and_everything_is_written(
    study, output, own_weights, scores, rounds
):
    result = tuning.finetune(study, output, model=own_weights, epochs=50)
    assert rounds == [(1, 20), (2, 20), (3, 10)]
    assert result.scores == tuple(scores)
    assert _bias(output) == 2
    content = _read(output)
    assert content["best_round"] == 2
    assert content["held_out"] == ["HEK/d2.png", "N2a/d2.png"]
    assert content["base_sha256"] == digests.sha256_of_file(own_weights)
    # A square of 8 px has the area of a disc of 9.03 px.
    assert content["diameters_px"] == {"HEK": 9.03, "N2a": 9.03}
    assert content["verdict"]["text"] in str(result)
    assert png.read_png(result.picture).shape[2] == 3
    assert not output.with_name("tuned.rounds").exists()
    # The weights' own diameter is that of the training fields.
    network = CellposeAnnotator(output).network
    network = network if cellpose_networks.MAJOR == 3 else network.net
    assert float(network.diam_labels) == pytest.approx(9.03)


def test_base_is_kept_if_no_round_is_better(
    study, output, own_weights, rounds, monkeypatch
):
    worse = iter([0.5, 0.4, 0.3, 0.2])
    monkeypatch.setattr(verdict, "score_part", lambda *_, **__: next(worse))
    result = tuning.finetune(study, output, model=own_weights, epochs=200)
    # Training stops after three rounds without improvement.
    assert len(rounds) == 3
    assert not result.verdict.is_better
    assert result.verdict.text.startswith("not better: keep the base")
    assert output.read_bytes() == own_weights.read_bytes()


def test_killed_run_continues_with_its_round(
    study, output, own_weights, scores, rounds, monkeypatch
):
    original = tuning._train_round

    def killed(*args):
        if args[5] == 2:
            raise KeyboardInterrupt
        original(*args)

    monkeypatch.setattr(tuning, "_train_round", killed)
    with pytest.raises(KeyboardInterrupt):
        tuning.finetune(study, output, model=own_weights, epochs=60)
    assert not output.exists()
    monkeypatch.setattr(tuning, "_train_round", original)
    tuning.finetune(study, output, model=own_weights, epochs=60)
    assert [number for number, _ in rounds] == [1, 2, 3]
    assert _read(output)["scores_of_rounds"] == scores


def test_killed_run_with_other_settings_starts_again(
    study, output, own_weights, rounds, monkeypatch
):
    monkeypatch.setattr(verdict, "score_part", lambda *_, **__: 0.5)
    opened = Rounds.open(output, {"epochs": 60})
    opened.begin(own_weights)
    opened.add(0.9)
    tuning.finetune(study, output, model=own_weights, epochs=20)
    assert _read(output)["scores_of_rounds"] == [0.5, 0.5]


def test_folder_with_other_files_is_not_changed(study, output, own_weights):
    folder = output.with_name("tuned.rounds")
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"tuned\.rounds already exists, and holds"):
        tuning.finetune(study, output, model=own_weights)
    assert (folder / "mine.txt").read_text() == "mine"


def test_output_must_not_be_the_base_weights(study, tmp_path, own_weights):
    with pytest.raises(InputError, match="it is the weights to start from"):
        tuning.finetune(study, own_weights, model=own_weights)
    with pytest.raises(InputError, match="it is a folder"):
        tuning.finetune(study, tmp_path, model=own_weights)


def test_broken_corrections_are_left_out(
    study, output, own_weights, scores, rounds, caplog
):
    row = study.rows()[0]
    Cells.from_labels(np.ones((9, 9), int), study.cell_types).write(
        study.cells_path(row)
    )
    tuning.finetune(study, output, model=own_weights, epochs=20)
    assert [image for image, *_ in _read(output)["train"]] == [
        "HEK/d1.png",
        "N2a/d0.png",
        "N2a/d1.png",
    ]
    assert "expected the image's size (40, 80)" in caplog.text


def test_epoch_draws_every_field_for_all_weights_of_hand_drawn_cells(
    monkeypatch, tmp_path
):
    from cellpose import train

    seen = {}
    monkeypatch.setattr(train, "train_seg", lambda *_, **options: seen.update(options))
    network = type("Net", (), {"register_forward_hook": lambda *_: _Hook()})()
    fields = [material.TrainingImage(tmp_path, tmp_path, 1 / 30) for _ in range(10)]
    windows = [
        material.TrainingImage(tmp_path, tmp_path, 1 / 3, True) for _ in range(2)
    ]
    settings = {"learning_rate": 0.1}
    tuning._train_round(network, [*fields, *windows], tmp_path, 1, settings, 1, "")
    # Fields have a third of the draws, and each is to be seen once.
    assert seen["nimg_per_epoch"] == 30


class _Hook:
    def remove(self):
        pass


def test_splits_are_recorded_in_the_manifest(
    study, output, own_weights, scores, rounds
):
    study.update(dataclasses.replace(row, split="") for row in study.rows())
    tuning.finetune(study, output, model=own_weights, epochs=20)
    found = {row.image: row.split for row in study.rows()}
    assert set(found.values()) == {"train", "validation"}
    held_out = [image for image, split in found.items() if split == "validation"]
    assert _read(output)["held_out"] == held_out


def test_cellpose_own_training_runs_and_changes_the_weights(
    study, output, own_weights, monkeypatch
):
    """There is one epoch of one batch, and the scores are computed."""
    state = np.random.get_state()[1].copy()
    original = tuning._train_round
    trained = []

    def watched(network, pieces, *rest):
        bias = cellpose_networks.last_bias(network)
        before = bias.detach().clone()
        original(network, pieces, *rest)
        trained.append(bool((bias != before).all()))

    monkeypatch.setattr(tuning, "_train_round", watched)
    result = tuning.finetune(study, output, model=own_weights, epochs=1, device="cpu")
    assert len(result.scores) == 2
    assert [field.image for field in result.verdict.fields] == [
        "HEK/d2.png",
        "N2a/d2.png",
    ]
    # The first epoch of cellpose's warm-up has a rate of 0: batch norms alone move.
    assert trained == [False]
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_only_corrected_fields_are_used(study, output, own_weights):
    study.update(
        dataclasses.replace(row, corrected=False, annotator="watershed")
        for row in study.rows()
    )
    with pytest.raises(InputError, match="expected fields that were corrected by hand"):
        tuning.finetune(study, output, model=own_weights)


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"learning_rate": 0.0}, {"hand_weight": 0.5}]
)
def test_numbers_out_of_range_are_refused(study, output, own_weights, options):
    with pytest.raises(InputError, match="Expected epochs from 1"):
        tuning.finetune(study, output, model=own_weights, **options)


def test_only_the_part_kept_out_of_training_is_scored(study):
    row = study.rows()[0]

    class Finder:
        """Finds only the cells in the right quarter."""

        def annotate(self, image, diameter):
            labels = study.read_cells(row).labels.copy()
            labels[:, : material.first_kept_out(80)] = 0
            return Outlines(Cells.from_labels(labels, ("HEK",)).labels, diameter)

    def score(right_part):
        return verdict.score_part(
            Finder(), study, [row], {"HEK": 9.0}, right_part=right_part
        )

    assert score(True) == 1
    # Two cells of six.
    assert score(False) == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", ["tuned", "tuned.json", "tuned.png"])
def test_files_of_a_person_are_not_overwritten(
    study, output, own_weights, rounds, name
):
    path = output.with_name(name)
    path.write_text("mine")
    with pytest.raises(InputError, match=f"{name} already exists, and is not as"):
        tuning.finetune(study, output, model=own_weights)
    assert path.read_text() == "mine"
    assert not rounds


def test_weights_of_earlier_runs_are_replaced_unless_they_were_changed(
    study, output, own_weights, rounds, monkeypatch
):
    monkeypatch.setattr(verdict, "score_part", lambda *_, **__: 0.5)
    for epochs in (20, 40):
        tuning.finetune(study, output, model=own_weights, epochs=epochs)
    record = _read(output)
    assert record["sha256"] == digests.sha256_of_file(output)
    # An earlier version left such a record.
    del record["sha256"]
    output.with_name("tuned.json").write_text(json.dumps(record))
    tuning.finetune(study, output, model=own_weights, epochs=20)
    output.write_bytes(b"mine")
    with pytest.raises(InputError, match="tuned already exists"):
        tuning.finetune(study, output, model=own_weights)


def test_files_written_during_training_are_not_overwritten(
    study, output, own_weights, rounds, monkeypatch
):
    monkeypatch.setattr(verdict, "score_part", lambda *_, **__: 0.5)
    judge = tuning._judge

    def slow(*args):
        output.write_text("mine")
        return judge(*args)

    monkeypatch.setattr(tuning, "_judge", slow)
    with pytest.raises(InputError, match="Move it away"):
        tuning.finetune(study, output, model=own_weights, epochs=20)
    assert output.read_text() == "mine"
    output.unlink()
    monkeypatch.setattr(tuning, "_judge", judge)
    tuning.finetune(study, output, model=own_weights, epochs=20)
    # The rounds were not trained again.
    assert [number for number, _ in rounds] == [1]
