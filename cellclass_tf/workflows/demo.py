"""The whole way on simulated cultures: train on pure fields, name cells of mixed ones."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from cellclass_tf import batch, errors, process_state
from cellclass_tf.core.study import MIXED, Study
from cellclass_tf.maskrcnn import hardware
from cellclass_tf.storage import csv_json, ledger, lock, png

EXPERIMENT = "cellclass_maskrcnn_small"


@dataclasses.dataclass(frozen=True)
class Demo:
    """What the demo found.

    Attributes:
      annotation_ap50: mean over the fields of TP / (TP + FP + FN) at IoU 0.5, of the
        embedded annotator against the simulated truth.
      evaluation: what `evaluate` says of the mixed fields.
      seconds: by stage.
      pictures: truth and prediction side by side, of three mixed fields.
    """

    annotation_ap50: float
    evaluation: dict[str, Any]
    seconds: dict[str, float]
    pictures: tuple[pathlib.Path, ...]


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
    """Runs every stage in order on simulated cultures, without a network.

    The simulated truth stands in for the person who corrects the annotation; how good
    the annotation was before is measured first. A run that was killed goes on.

    Args:
      output: folder for study, training, model and predictions.
      images_per_type: number of simulated fields of each pure culture.
      mixed: number of simulated fields of the mixed culture, on which the model is tested.
      size: width and height of a field in pixels.
      steps: number of training steps; the experiment's own number if not given.
      seed: seed of the simulation.
      precision: number format in which the network computes during training; 'auto' takes
        the fastest that the machine multiplies in hardware.
      processes: number of worker processes for simulation, conversion and annotation.

    Raises:
      InputError: if a stage failed for a file, or `output` holds another demo.
    """
    errors.require("cellclass demo", *errors.FOR_TRAINING)
    import cellclass_tf as cc
    import tfds_builders
    from cellclass_tf.datasets import simulation
    from cellclass_tf.maskrcnn import export, training

    output = pathlib.Path(output)
    root, model = output / "study", output / "model"
    numbers = {"images_per_type": images_per_type, "mixed": mixed, "seed": seed}
    numbers |= {"size": size}
    _check_settings(output, numbers | {"steps": steps, "precision": precision})
    seconds: dict[str, float] = {}
    with _stage("simulate", seconds):
        _check(cc.simulate(root, **numbers, processes=processes))
    with _stage("convert", seconds):
        pattern = simulation.GROUP_PATTERN
        _check(cc.convert(root / "raw", root, group=pattern, processes=processes))
    with _stage("annotate", seconds):
        _check(cc.annotate(root, annotator="watershed", processes=processes))
        quality = _annotation_quality(output, Study.open(root))
    with _stage("import", seconds):
        _check(cc.import_masks(root, root / "truth"))
    with _stage("dataset", seconds):
        tfds_builders.dataset(root)
    with _stage("train", seconds):
        training.train(
            EXPERIMENT,
            output / "training",
            study=root,
            mode="train",
            steps=steps,
            precision=precision,
            # Drawn cells are told apart without it, and it would take minutes.
            namer=False,
        )
    with _stage("export", seconds):
        export.export(EXPERIMENT, output / "training", model)
    with _stage("predict", seconds):
        _check(cc.predict(model, root, output / "predictions", cell_type=MIXED))
    with _stage("evaluate", seconds):
        evaluation = cc.evaluate(output / "predictions", root)
    return Demo(quality, evaluation, seconds, _pictures(output, Study.open(root)))


def summary(result: Demo) -> str:
    """Says in a short table what the demo found."""
    scores, lines = result.evaluation, []
    true, found = scores["share_true"], scores["share_predicted"]
    lines.append("Mixed fields, of which the network saw none in training:")
    lines.append(f"  mask AP (COCO)        {format_score(scores['AP'])}")
    lines.append(f"  mask AP50             {format_score(scores['AP50'])}")
    lines.append(f"  type accuracy         {format_score(scores['type_accuracy'])}")
    for name in true:
        lines.append(
            f"  share of {name:<12} {format_score(found[name])}  (true {format_score(true[name])})"
        )
    lines.append(
        f"  cells                 {scores['cells_predicted']} "
        f"(true {scores['cells_true']})"
    )
    lines.append(
        f"The embedded annotator scored {result.annotation_ap50:.3f} (TP / (TP + FP + FN) "
        "at IoU 0.5) before the simulated truth replaced its outlines, as a person's "
        "corrections would."
    )
    total = sum(result.seconds.values())
    parts = ", ".join(f"{stage} {t:.0f}" for stage, t in result.seconds.items())
    lines.append(f"Seconds: {total:.0f} ({parts}).")
    lines.append("Pictures worth opening:")
    lines.extend(f"  {path}" for path in result.pictures)
    return "\n".join(lines)


_SAYINGS = {
    "simulate": "draw pure and mixed cultures, as a microscope would write them",
    "convert": "merge the channels, one contrast a dish",
    "annotate": "outline the cells with the embedded annotator",
    "import": "put the exact truth in place of a person's corrections",
    "dataset": "prepare the TFDS dataset",
    "train": "train on pure fields alone",
    "export": "export the network",
    "predict": "name the cells of the mixed fields",
    "evaluate": "compare with the truth",
}


def format_score(score: float | None) -> str:
    """A score as a person reads it; '-' where there was nothing to score."""
    if score is None:
        return "-"
    return f"{score:.3f}" if isinstance(score, float) else str(score)


@contextlib.contextmanager
def _stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    number = list(_SAYINGS).index(name) + 1
    print(f"[{number}/{len(_SAYINGS)}] {_SAYINGS[name]}", file=sys.stderr, flush=True)
    start = time.monotonic()
    yield
    seconds[name] = time.monotonic() - start


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
            pixel_size_um=row.pixel_size_um,
        )
        ledger.write_bytes(output, path, png.encode_png(picture), overwrite=True)
        paths.append(path)
    return tuple(paths)


def _check_settings(output: pathlib.Path, settings: dict[str, Any]) -> None:
    """A killed demo goes on; one of other settings would mix two."""
    path = output / "demo.json"
    if not path.exists():
        csv_json.write_json(path, settings)
        return
    # What earlier versions did not record was always so.
    before = {"size": 512, "precision": "auto"}
    if before | json.loads(path.read_text(encoding="utf-8")) != settings:
        raise errors.InputError(
            f"{output} holds a demo of other settings ({path.name}); choose a new folder."
        )


def _annotation_quality(output: pathlib.Path, study: Study) -> float:
    """Measures the annotation once, since the truth replaces it afterwards."""
    from cellclass_tf.core.cells import read_labels
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
