"""Fine-tunes cellpose on corrected fields, and judges the result on other fields."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cellclass_tf import process_state
from cellclass_tf.annotation import cell_files
from cellclass_tf.annotation.annotators import cellpose_adapter, cellpose_library
from cellclass_tf.annotation.annotators.cellpose import CellposeAnnotator
from cellclass_tf.annotation.finetuning import material, verdict
from cellclass_tf.annotation.finetuning.rounds import (
    Rounds,
    rounds_folder,
    sha256s_of_run,
)
from cellclass_tf.core.manifest import REJECTED, SPLIT
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.messages import logger, progress_bar
from cellclass_tf.storage import atomic, csv_json, digests, lock, png

# Makes the annotator of a name or file of weights.
_AnnotatorMaker = Callable[[str | os.PathLike], CellposeAnnotator]

# A call of cellpose's training cannot be resumed, so that a killed run repeats its round.
# The learning rate warms up in the first ten epochs of each round.
EPOCHS_A_ROUND = 20
# Smallest number of images in an epoch.
_FEWEST_DRAWS = 8


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """The result of fine-tuning.

    Attributes:
      weights: file of the tuned weights.
      verdict: whether they are better than the base weights.
      picture: picture of corrected outlines, and those of base and tuned weights, on
        held-out fields.
      scores: scores of the base weights and after each round, by which the best round was
        chosen.
    """

    weights: pathlib.Path
    verdict: verdict.Verdict
    picture: pathlib.Path
    scores: tuple[float, ...]

    def __str__(self) -> str:
        return (
            f"{self.verdict.text}\n{self.weights} holds the tuned weights, "
            f"{self.weights.name}.json in the same folder the numbers, "
            f"{self.picture.name} the outlines."
        )


@process_state.keep()
@lock.writes("study")
def finetune(
    study: str | os.PathLike | Study,
    output: str | os.PathLike,
    *,
    model: str | os.PathLike = "cyto3",
    epochs: int = 100,
    learning_rate: float | None = None,
    hand_weight: float = 1.0,
    flow_threshold: float = 0.4,
    device: str = "auto",
) -> FineTuning:
    """Fine-tunes cellpose on corrected fields, with cellpose's own training.

    Some groups are always held out: they are used neither for training nor to choose the
    best round, and base and tuned weights are scored on them at the end. Splits are those
    of the dataset (see `material.roles_of`), and are recorded. Both weights are scored
    with the same diameter: the mean over the training fields' cells of that type. The
    size model of the base does not fit the tuned weights: give `annotate` a diameter with
    them, or it uses the mean diameter of the training fields.

    Writes OUTPUT (the weights), OUTPUT.json and OUTPUT.png. A run that was killed
    continues with the round that it was in; OUTPUT.rounds holds the finished rounds until
    the run is done.

    Args:
      study: folder of the study with corrected fields.
      output: file for the tuned weights.
      model: weights to start from: name of a cellpose model, or path to its weights.
      epochs: largest number of passes over the training fields, in rounds of 20.
      learning_rate: learning rate. If not given, 0.05 with cellpose 3 (stochastic gradient
        descent, momentum 0.9, weight decay 1e-5), and 0.00001 with cellpose 4 (AdamW, weight
        decay 0.1).
      hand_weight: how many times as often cells that a person drew are shown.
      flow_threshold: cellpose's flow threshold when both weights are scored.
      device: device that cellpose runs on: 'auto' (a GPU if there is one), 'cpu', 'cuda',
        'cuda:1' or 'mps'.

    Raises:
      InputError: if there are no corrected fields of at least two groups, or a number or
        the weights are not valid.
    """
    study = Study.open(study)
    output = pathlib.Path(output)
    if learning_rate is None:
        learning_rate = cellpose_adapter.installed().learning_rate
    if epochs < 1 or not learning_rate > 0 or not hand_weight >= 1:
        raise InputError(
            "Expected epochs from 1, a learning rate above 0 and a hand weight from 1 "
            f"on; got {epochs}, {learning_rate} and {hand_weight}."
        )
    rows, every = _corrected_rows(study)
    roles, rows = material.roles_of(study, rows, every)
    # Every call is given a diameter. This one only prevents loading the size model.
    annotator_of = functools.partial(
        CellposeAnnotator,
        diameter_px=30.0,
        flow_threshold=flow_threshold,
        device=device,
    )
    base = annotator_of(model)
    _check_output(output, base.weights)
    settings = {
        "base": base.name,
        "base_sha256": base.weights_sha256,
        "base_settings": base.settings,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "hand_weight": hand_weight,
        "train": [[*_version(study, row), row.by_hand] for row in roles.train],
        "choose": [_version(study, row) for row in roles.choose],
    }
    study.update(rows, SPLIT, seen=every)
    rounds = Rounds.open(output, settings)
    diameters = _diameters(study, roles.train)
    rounds.begin(base.weights)
    pieces = material.prepare(
        study, roles, rounds.folder, hand_weight, base.network.device
    )
    _train(study, roles, pieces, rounds, diameters, settings, annotator_of)
    best = int(np.argmax(rounds.scores))
    result = _judge(study, roles, rounds, best, output, diameters, annotator_of)
    # Training took hours, in which another file may have been written there.
    _check_output(output, base.weights)
    with atomic.atomic_path(output) as temporary:
        shutil.copyfile(rounds.weights(best), temporary)
    csv_json.write_json(
        _record_path(output),
        settings
        | {
            "sha256": digests.sha256_of_file(rounds.weights(best)),
            "held_out": [row.image for row in roles.held_out],
            "diameters_px": diameters,
            "scores_of_rounds": rounds.scores,
            "best_round": best,
            "verdict": verdict.as_json(result),
        },
    )
    shutil.rmtree(rounds.folder)
    picture = _picture_path(output)
    return FineTuning(output, result, picture, tuple(rounds.scores))


def _record_path(output: pathlib.Path) -> pathlib.Path:
    return output.with_name(f"{output.name}.json")


def _picture_path(output: pathlib.Path) -> pathlib.Path:
    return output.with_name(f"{output.name}.png")


def _check_output(output: pathlib.Path, base: pathlib.Path) -> None:
    """Raises InputError if there is a file that fine-tuning did not write."""
    if output.is_dir() or (output.exists() and output.samefile(base)):
        raise InputError(
            f"{output}: expected a new file for the tuned weights; it is "
            f"{'a folder' if output.is_dir() else 'the weights to start from'}."
        )
    files = (output, _record_path(output), _picture_path(output))
    there = [path for path in files if os.path.lexists(path)]
    record = csv_json.read_json_object(_record_path(output))
    known = {record.get("sha256"), *sha256s_of_run(output)}
    # Earlier versions did not record the SHA-256.
    is_own = "best_round" in record and "sha256" not in record
    if os.path.lexists(output):
        is_own = is_own or digests.sha256_of_file(output) in known
    else:
        is_own = "best_round" in record or rounds_folder(output).exists()
    if there and not is_own:
        raise InputError(
            f"{there[0]} already exists, and is not as fine-tuning wrote it. Move it "
            "away, or choose another output."
        )


def _version(study: Study, row: ImageRow) -> list[str]:
    """Returns the name of the image, and the SHA-256s of image, cells and types."""
    return [*cell_files.version_of_image(study, row), *cell_files.state_of(study, row)]


def _corrected_rows(study: Study) -> tuple[list[ImageRow], list[ImageRow]]:
    """Returns rows of the corrected fields that can be read, and of all accepted ones."""
    settled, failures, _ = cell_files.settle(study)
    every = [row for row in settled if row.verdict != REJECTED]
    rows = []
    for row in every:
        if not row.corrected or not study.has_cells(row):
            continue
        try:
            study.read_field(row)
            rows.append(row)
        except InputError as error:
            failures[row.image] = str(error)
    for failure in failures.values():
        logger.warning("Left out: %s", failure)
    if not rows:
        raise InputError(
            f"{study.manifest_path}: expected fields that were corrected by hand; there "
            "are none. Correct some, and read them with `cellclass import`."
        )
    return rows, every


def _diameters(study: Study, rows: Sequence[ImageRow]) -> dict[str, float]:
    """Returns the mean cell diameter in px by cell type; that of all types for the rest."""
    by_type: dict[str, list[np.ndarray]] = {}
    for row in rows:
        diameters = study.read_cells(row).diameters_px
        if len(diameters):
            by_type.setdefault(row.cell_type, []).append(diameters)
    means = {name: np.concatenate(found).mean() for name, found in by_type.items()}
    if not means:
        raise InputError(
            f"{study.root}: the corrected fields hold no cells to train on."
        )
    rest = float(np.mean(list(means.values())))
    names = {row.cell_type for row in study.rows()}
    return {name: round(float(means.get(name, rest)), 2) for name in sorted(names)}


def _train(
    study: Study,
    roles: material.Roles,
    pieces: Sequence[material.TrainingImage],
    rounds: Rounds,
    diameters: dict[str, float],
    settings: dict[str, Any],
    annotator_of: _AnnotatorMaker,
) -> None:
    """Trains round by round, and scores each round on images that are not trained on."""
    import torch

    mean_px = float(np.mean([diameters[row.cell_type] for row in roles.train]))
    rows, right_part = roles.choose or roles.train, not roles.choose

    def add() -> None:
        annotator = annotator_of(rounds.weights(len(rounds.scores)))
        rounds.add(
            verdict.score_part(annotator, study, rows, diameters, right_part=right_part)
        )

    if not rounds.scores:
        add()
    total = math.ceil(settings["epochs"] / EPOCHS_A_ROUND)
    while len(rounds.scores) <= total and not rounds.are_hopeless:
        number = len(rounds.scores)
        # Loaded again, since a network that cellpose has used cannot be trained.
        model = annotator_of(rounds.weights(number - 1)).network
        done = EPOCHS_A_ROUND * (number - 1)
        epochs = min(EPOCHS_A_ROUND, settings["epochs"] - done)
        caption = f"round {number} of {total}"
        _train_round(
            model.net, pieces, rounds.folder, epochs, settings, number, caption
        )
        model.net.diam_labels.data = torch.tensor([mean_px], device=model.device)
        rounds.save(model.net)
        add()


def _train_round(
    network: Any,
    pieces: Sequence[material.TrainingImage],
    folder: pathlib.Path,
    epochs: int,
    settings: dict[str, Any],
    number: int,
    caption: str,
) -> None:
    cellpose = cellpose_adapter.installed()
    # cellpose seeds an epoch with its number. Another order in each round combines the
    # same random rotations and scales with other pieces.
    order = np.random.default_rng(number).permutation(len(pieces))
    pieces = [pieces[index] for index in order]
    weights = np.array([piece.weight for piece in pieces])
    # An epoch draws as many fields as there are, and windows in addition.
    fields = [piece for piece in pieces if not piece.is_window]
    draws = round(len(fields) / sum(piece.weight for piece in fields))
    draws = max(_FEWEST_DRAWS, draws)
    if draws == len(pieces) and np.ptp(weights):
        # With as many draws as pieces, cellpose would ignore the weights.
        draws += 1
    batches = epochs * math.ceil(draws / cellpose.batch_size)
    with (
        process_state.keep_random_numbers(),
        cellpose_library.contain_effects(),
        progress_bar(description=caption, total=batches, unit="batche") as bar,
    ):
        hook = network.register_forward_hook(lambda *_: bar.update() and None)
        try:
            cellpose.train(
                network,
                cellpose_library.TrainingRun(
                    images=[os.fspath(piece.image) for piece in pieces],
                    flows=[os.fspath(piece.flows) for piece in pieces],
                    weights=weights,
                    folder=folder,
                    epochs=epochs,
                    learning_rate=settings["learning_rate"],
                    draws=draws,
                    seed=number,
                ),
            )
        finally:
            hook.remove()


def _judge(
    study: Study,
    roles: material.Roles,
    rounds: Rounds,
    best: int,
    output: pathlib.Path,
    diameters: dict[str, float],
    annotator_of: _AnnotatorMaker,
) -> verdict.Verdict:
    """Scores base and tuned weights on the held-out fields, and draws two of them."""
    base, tuned = (annotator_of(rounds.weights(number)) for number in (0, best))
    scores: list[verdict.FieldScore] = []
    shown: dict[str, tuple[float, ImageRow, np.ndarray, dict[str, np.ndarray]]] = {}
    for row in progress_bar(roles.held_out, "held out"):
        image, true = study.read_field(row)
        found = {
            "base": base.annotate(image, diameters[row.cell_type]).labels,
            "tuned": tuned.annotate(image, diameters[row.cell_type]).labels,
        }
        score = verdict.score_field(true, found["base"], found["tuned"], row.image)
        scores.append(score)
        gain = score.tuned[0] - score.base[0]
        # The fields with the largest and the smallest gain are drawn.
        for name, is_further in (("most", gain.__gt__), ("least", gain.__lt__)):
            if name not in shown or is_further(shown[name][0]):
                shown[name] = (gain, row, true.labels, found)
    fields = {row.image: (row, true, found) for _, row, true, found in shown.values()}
    rows = [
        verdict.draw(study.read_image(row), true, found, name)
        for name, (row, true, found) in fields.items()
    ]
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(r, [(0, 0), (0, width - r.shape[1]), (0, 0)]) for r in rows]
    png.write_png(_picture_path(output), np.concatenate(rows))
    return verdict.judge(scores)
