"""Runs all steps on simulated cultures, and compares the result with the truth."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np

from cellclass_tf import batch, errors, process_state
from cellclass_tf.core.study import Study
from cellclass_tf.maskrcnn import hardware
from cellclass_tf.storage import csv_json, ledger, lock, png
from cellclass_tf.workflows import run_settings, run_steps

_IN_WORDS = {
    "simulate": "draw pure and mixed cultures, as a microscope would write them",
    "convert": "merge the channels, with one contrast per dish",
    "annotate": "outline the cells with the embedded annotator",
    "corrections": "replace the outlines by the simulated truth, as a person's corrections would",
    "dataset": "prepare the TFDS dataset",
    "train": "train on the pure fields alone",
    "export": "export and calibrate the network",
    "predict": "outline and classify the cells of the mixed fields, and write the report",
    "evaluate": "compare with the truth",
}


@dataclasses.dataclass(frozen=True)
class Demo:
    """What the demo found; its `str` is a short table.

    Attributes:
      annotation_ap50: mean over the fields of TP / (TP + FP + FN) at IoU 0.5, of the
        embedded annotator against the simulated truth.
      evaluation: scores of the mixed fields, see `evaluate`.
      seconds: wall time of each stage.
      pictures: truth and prediction side by side, of three mixed fields.
    """

    annotation_ap50: float
    evaluation: dict[str, Any]
    seconds: dict[str, float]
    pictures: tuple[pathlib.Path, ...]

    def __str__(self) -> str:
        scores, total = self.evaluation, sum(self.seconds.values())
        parts = ", ".join(f"{stage} {t:.0f}" for stage, t in self.seconds.items())
        shares = [
            f"  share of {name:<12} {format_score(scores['share_predicted'][name])}  "
            f"(true {format_score(true)})"
            for name, true in scores["share_true"].items()
        ]
        lines = [
            "Mixed fields, none of which the network saw in training:",
            f"  mask AP (COCO)        {format_score(scores['AP'])}",
            f"  mask AP50             {format_score(scores['AP50'])}",
            f"  type accuracy         {format_score(scores['type_accuracy'])}",
            *shares,
            f"  cells                 {scores['cells_predicted']} "
            f"(true {scores['cells_true']})",
            f"The embedded annotator scored {self.annotation_ap50:.3f} (TP / (TP + FP + FN) "
            "at IoU 0.5) before the simulated truth replaced its outlines, as a person's "
            "corrections would.",
            f"Seconds: {total:.0f} ({parts}).",
            "Pictures worth opening:",
            *(f"  {path}" for path in self.pictures),
        ]
        return "\n".join(lines)


@process_state.keep()
@lock.writes("output", creates=True)
def demo(
    output: str | os.PathLike,
    *,
    images_per_type: int = 24,
    mixed: int = 8,
    size: int = 512,
    steps: int | None = None,
    seed: int = 0,
    precision: hardware.Precision = hardware.AUTO,
    processes: int = 1,
) -> Demo:
    """Runs all steps of `cellclass run` on simulated cultures, without any download.

    The simulated truth takes the place of a person's corrections; the quality of the
    annotation is measured before. A demo that was killed continues. `cellclass run
    --output=OUTPUT` continues with the same settings, which are in OUTPUT/run.yaml.

    Args:
      output: folder for study, training, model and predictions.
      images_per_type: number of simulated fields of each pure type.
      mixed: number of simulated mixed fields, on which the model is tested.
      size: width and height of a field in pixels.
      steps: number of training steps; 600 or 1,200 by the number of training cells if not
        given.
      seed: seed of the simulation.
      precision: number format in which the network computes during training; 'auto' takes
        the fastest that the machine multiplies in hardware.
      processes: number of worker processes for simulation, conversion and annotation.

    Raises:
      InputError: if a stage failed for a file, or `output` holds another demo.
    """
    errors.require("cellclass demo", *errors.FOR_TRAINING)
    import cellclass_tf as cc
    from cellclass_tf.datasets import simulation

    output = pathlib.Path(output)
    root = output / "study"
    numbers = {"images_per_type": images_per_type, "mixed": mixed, "seed": seed}
    numbers |= {"size": size}
    _check_settings(output, numbers | {"steps": steps, "precision": precision})
    stages = run_steps.Stages(_IN_WORDS)
    with stages("simulate"):
        _check(cc.simulate(root, **numbers, processes=processes))
    settings = run_settings.settle(
        output,
        {
            "input": os.fspath(root / "raw"),
            "study": os.fspath(root),
            "group": simulation.GROUP_PATTERN,
            "annotator": "watershed",
            "corrections": os.fspath(root / "truth"),
            "steps": steps,
            # Simulated cells are told apart without it, and it would take minutes.
            "namer": False,
            "precision": precision,
        },
    )
    run_settings.write(output, settings)
    # No scores are needed during training: the mixed fields are the test.
    work = run_steps.Steps(settings, output, stages, processes, mode="train")
    _check(work.convert())
    _check(work.annotate())
    quality = _annotation_quality(output, Study.open(root))
    _check(work.correct())
    work.train()
    work.predict()
    with stages("evaluate"):
        evaluation = cc.evaluate(output / "predictions", root)
    pictures = _pictures(output, Study.open(root))
    return Demo(quality, evaluation, stages.seconds, pictures)


def format_score(score: float | None) -> str:
    """Returns a score as text; '-' if there was nothing to score."""
    if score is None:
        return "-"
    return f"{score:.3f}" if isinstance(score, float) else str(score)


def _check(outcome: batch.Outcome) -> None:
    if outcome.failures:
        name, reason = next(iter(sorted(outcome.failures.items())))
        raise errors.InputError(
            f"{len(outcome.failures)} files failed, the first is {name}: {reason}"
        )


def _pictures(output: pathlib.Path, study: Study) -> tuple[pathlib.Path, ...]:
    from cellclass_tf.core import predictions
    from cellclass_tf.drawing import overlay

    found = predictions.Predictions(output / "predictions")
    paths = []
    for row in [row for row in study.rows() if row.stem in found.stems][:3]:
        path = output / "pictures" / f"{pathlib.PurePath(row.stem).name}.png"
        picture = overlay.comparison(
            study.read_image(row),
            study.read_cells(row),
            found.read(row.stem),
            name=row.stem,
            pixel_size_um=study.pixel_size_of(row),
        )
        ledger.write_bytes(output, path, png.encode_png(picture), overwrite=True)
        paths.append(path)
    return tuple(paths)


def _check_settings(output: pathlib.Path, settings: dict[str, Any]) -> None:
    """Refuses to continue a demo that was begun with other settings."""
    path = output / "demo.json"
    if not path.exists():
        csv_json.write_json(path, settings)
        return
    # Settings that earlier versions did not record had these values.
    before = {"size": 512, "precision": "auto"}
    if before | json.loads(path.read_text(encoding="utf-8")) != settings:
        raise errors.InputError(
            f"{output} holds a demo of other settings ({path.name}); choose a new folder."
        )


def _annotation_quality(output: pathlib.Path, study: Study) -> float:
    """Measures the annotation once, since the truth replaces it afterwards."""
    from cellclass_tf.core.label_files import read_labels
    from cellclass_tf.labels import matching

    path = output / "annotation.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))["average_precision_50"]
    scores = [
        matching.threat_score(
            read_labels(study.root / "truth" / f"{row.stem}.tif").astype(np.int32),
            study.read_cells(row).labels,
            0.5,
        )
        for row in study.accepted_rows()
    ]
    csv_json.write_json(path, {"average_precision_50": float(np.mean(scores))})
    return float(np.mean(scores))
