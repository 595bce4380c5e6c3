"""Measures how well unfamiliar fields are distinguished from familiar ones.

    python -m experiments.benchmarks.familiarity --model=MODEL --study=STUDY \
        --images=FOLDER --raw=FILE,FILE --output=docs/familiarity.png

Familiar fields are the validation and mixed fields of the study that the model was trained on.
Unfamiliar fields are hand-drawn ones (see `fields.drawn_by_hand`) and microscope files with two
channels (nuclei first). Each measure is drawn as a ROC curve over fields, and the result of the
model's own limits as a point.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np
from absl import app, flags

import cellclass_tf as cc
from cellclass_tf.core.study import MIXED
from cellclass_tf.maskrcnn import familiarity
from experiments.benchmarks.fields import drawn_by_hand

_MODEL = flags.DEFINE_string("model", None, "Exported model.", required=True)
_STUDY = flags.DEFINE_string(
    "study", None, "Study that the model was trained on.", required=True
)
_IMAGES = flags.DEFINE_string(
    "images", None, "Folder of fields with hand-drawn masks.", required=True
)
_RAW = flags.DEFINE_list("raw", [], "Microscope files with two channels.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Picture of the curves to write.", required=True
)


def known_fields() -> Iterator[tuple[str, np.ndarray, float | None]]:
    """Yields name, image and pixel size of the familiar fields."""
    study = cc.Study.open(_STUDY.value)
    for row in study.rows():
        if row.split == "validation" or row.cell_type == MIXED:
            yield row.stem, study.read_image(row), study.pixel_size_of(row)


def unknown_fields() -> Iterator[tuple[str, np.ndarray, float | None]]:
    """Yields name, image and None (the model's scale is assumed) of the unfamiliar fields."""
    for name, image, _ in drawn_by_hand(pathlib.Path(_IMAGES.value)):
        yield name, image, None
    for path in _RAW.value:
        micrograph = cc.read_micrograph(path)
        yield (
            pathlib.Path(path).name,
            cc.merge_channels(micrograph, nuclei=0, cytoplasm=1),
            None,
        )


def measured(predictor: cc.Predictor, image, size_um) -> tuple[dict[str, float], str]:
    """Returns the measures of a field (larger is less familiar), and the model's reasons."""
    cells = predictor.predict(image, pixel_size_um=size_um)
    look = familiarity.Look.of(image, cells, predictor.scale_for(size_um))
    judged = predictor.judge(image, cells, pixel_size_um=size_um)
    ranges = predictor.familiarity
    if judged is None or ranges is None:
        raise app.UsageError("The model has no statistics of its training cells.")
    values = {
        "distance of the cells": judged.distance,
        "mean difference of the cells": judged.shift,
        "size of the cells": _beyond(look.diameter_px, ranges.diameters_px),
        "brightness of the cytoplasm": _beyond(look.light[0], ranges.lights[:, 0]),
        "brightness of the nuclei": _beyond(look.light[1], ranges.lights[:, 1]),
        "nuclei outside of cells": look.nuclei_outside / max(look.nuclei, 1),
    }
    return values, "; ".join(judged.reasons)


def _beyond(value: float, span: np.ndarray) -> float:
    """Returns the factor by which a value is below or above a range; 1 within it."""
    if not np.isfinite(value):
        return 1.0
    low, high = span.tolist()
    return max(low / max(value, 1e-3), value / max(high, 1e-3), 1.0)


def roc(known: np.ndarray, unknown: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns false and true positive rates at each limit, and the area under the curve."""
    limits = np.concatenate([[np.inf], np.unique([*known, *unknown])[::-1]])
    false = np.array([(known >= limit).mean() for limit in limits])
    right = np.array([(unknown >= limit).mean() for limit in limits])
    wins = (unknown[:, np.newaxis] > known).mean()
    ties = (unknown[:, np.newaxis] == known).mean()
    return false, right, float(wins + ties / 2)


def main(_) -> None:
    """Prints the fields and the areas under the curves, and draws the curves."""
    from matplotlib import figure

    predictor = cc.Predictor.load(_MODEL.value)
    values: dict[str, list[dict[str, float]]] = {}
    flagged: dict[str, list[bool]] = {}
    print(
        "| field | like the training fields | distance of the cells | mean difference | "
        "why it is called unlike |"
    )
    print("|---|---|---|---|---|")
    ranges = predictor.familiarity
    if ranges is not None:
        limits = f"{ranges.field_limit:.2f} | {ranges.shift_limit:.2f}"
        print(f"| (limit) | | {limits} | |")
    for kind, fields in (("yes", known_fields()), ("no", unknown_fields())):
        for name, image, size_um in fields:
            found, why = measured(predictor, image, size_um)
            values.setdefault(kind, []).append(found)
            flagged.setdefault(kind, []).append(bool(why))
            distance = found["distance of the cells"]
            shift = found["mean difference of the cells"]
            told = f"{distance:.2f} | {shift:.2f} | {why}"
            print(f"| {name} | {kind} | {told} |", flush=True)
    page = figure.Figure(figsize=(5.4, 5), dpi=120, layout="constrained")
    axes = page.subplots()
    for measure in values["yes"][0]:
        known, unknown = (
            np.array([found[measure] for found in values[kind]])
            for kind in ("yes", "no")
        )
        false, right, area = roc(known, unknown)
        print(f"{measure}: area under the curve {area:.3f}")
        axes.plot(false, right, label=f"{measure} ({area:.3f})", drawstyle="steps-post")
    point = [np.mean(flagged[kind]) for kind in ("yes", "no")]
    axes.plot(*point, "k*", markersize=12, label="limits of the model")
    print(
        f"Called unlike: {point[0]:.0%} of the familiar and {point[1]:.0%} of the "
        "unfamiliar fields"
    )
    axes.set(
        xlabel="fraction of familiar fields called unlike",
        ylabel="fraction of unfamiliar fields called unlike",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )
    axes.legend(
        title="measure (area under the curve)",
        fontsize="small",
        title_fontsize="small",
        loc="center right",
        bbox_to_anchor=(1.0, 0.45),
    )
    page.savefig(_OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
