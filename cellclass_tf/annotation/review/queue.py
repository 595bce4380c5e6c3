"""Writes a picture of each field's doubtful cells, and the queue of fields to correct."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cellclass_tf.annotation.review import doubts as doubting
from cellclass_tf.annotation.review.doubts import CUT, Doubt
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.manifest import REJECTED
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.drawing import caption, palette, picture
from cellclass_tf.errors import InputError, command
from cellclass_tf.storage import csv_json, ledger, png

# The measured share of cells with each reason that were wrong: between the values for
# cellpose's default thresholds and for lenient ones, in nine fields of three cell types with
# masks drawn by hand (experiments/benchmarks/README.md). Cells with two nuclei were too few
# for an estimate. A cut cell that is wrong mostly has another reason, too.
_CHANCE_OF_ERROR = {
    doubting.LOW_PROBABILITY: 0.35,
    doubting.TWO_NUCLEI: 0.3,
    doubting.NO_NUCLEUS: 0.8,
    doubting.ODD_SIZE: 0.4,
    CUT: 0.05,
}
# Rough times that a person needs to open a field, look at a doubtful cell, and redraw one.
_OPENING_S, _LOOKING_S, _REDRAWING_S = 20.0, 3.0, 20.0

_COLOURS = {
    doubting.LOW_PROBABILITY: palette.APRICOT,
    doubting.TWO_NUCLEI: palette.PINK,
    doubting.NO_NUCLEUS: palette.CREAM,
    doubting.ODD_SIZE: palette.VIOLET,
    CUT: palette.SKY_BLUE,
}
_SOUND = (130, 130, 130)
_INK, _HALO = palette.WHITE, palette.BLACK

_LIST_COLUMNS = (
    "cell",
    "reasons",
    "probability",
    "centroid_y_px",
    "centroid_x_px",
    "area_px",
)


def write_field(
    study: Study,
    row: ImageRow,
    image: np.ndarray,
    cells: Cells,
    doubts: Sequence[Doubt],
) -> None:
    """Writes a list and a picture of a field's doubtful cells to review/TYPE.

    A list that a person changed is first copied to STUDY/.trash/DATE.

    Args:
      study: the study.
      row: row of the image.
      image: (H, W, 3) uint8 merged image.
      cells: the cells of the field.
      doubts: the doubtful cells, in the order of the list.
    """
    path = study.review_path(row)
    table = csv_json.csv_text(_LIST_COLUMNS, map(_line, doubts))
    ledger.write_text(study.root, path, table)
    size_um = study.pixel_size_of(row)
    shown = draw(image, cells, doubts, name=row.image, pixel_size_um=size_um)
    content = png.encode_png(shown)
    ledger.write_picture(study.root, path.with_suffix(".png"), content)


def _forget_field(study: Study, row: ImageRow) -> None:
    """Removes the files of `write_field`, which show cells that have changed since."""
    path = study.review_path(row)
    ledger.remove(study.root, path)
    path.with_suffix(".png").unlink(missing_ok=True)


def draw(
    image: np.ndarray,
    cells: Cells,
    doubts: Sequence[Doubt],
    *,
    name: str = "",
    pixel_size_um: float | None = None,
) -> np.ndarray:
    """Draws the doubtful cells in the colour of their first reason, with their numbers.

    Other cells have thin grey outlines. Cells that are only cut by the border have dashed
    outlines.

    Args:
      image: (H, W, 3) uint8 merged image.
      cells: the cells of the field.
      doubts: the doubtful cells.
      name: text of the caption.
      pixel_size_um: width of a pixel in µm, for a scale bar; None draws none.

    Returns:
      (s * H + caption, s * W, 3) uint8 for the enlargement s of `picture.canvas_of`.
    """
    canvas, scale = picture.canvas_of(image)
    width = picture.outline_width((canvas.shape[0], canvas.shape[1]))
    sound = picture.Pen(_SOUND, max(1, width // 2))
    pens = {doubt.cell: _pen(doubt, width) for doubt in doubts}
    for index in range(len(cells)):
        pen = pens.get(index + 1, sound)
        picture.outline_cell(canvas, cells, index, scale, pen)
    canvas = _write_numbers(canvas, cells, doubts, scale)
    counts = doubting.counts_of(doubting.summary(doubts))
    entries = [
        caption.LegendEntry(f"{reason} {n}", _COLOURS[reason], reason == CUT)
        for reason, n in counts.items()
        if n
    ]
    entries.append(caption.LegendEntry(f"no doubt {len(cells) - len(doubts)}", _SOUND))
    size_um = None if pixel_size_um is None else pixel_size_um / scale
    return np.concatenate([canvas, caption.draw(canvas, name, entries, size_um)])


def write_queue(study: Study) -> None:
    """Writes review/queue.csv: the fields to correct, by expected errors per minute.

    It lists the annotated, accepted and not yet corrected fields with doubtful cells, by
    the manifest alone. `expected_errors` is the expected number of wrong cells, from the
    shares of wrong cells that were measured for each reason; `minutes` is a rough
    estimate of the time that a person needs for the field.

    The lists and pictures of fields that were corrected since, or have lost their cells,
    are removed; lists that a person changed are moved to STUDY/.trash/DATE.
    """
    lines = []
    for row in study.rows():
        if row.corrected or row.cells is None:
            with contextlib.suppress(InputError):
                _forget_field(study, row)
        counts = doubting.counts_of(row.doubts)
        if row.verdict == REJECTED or row.corrected or not any(counts.values()):
            continue
        lines.append({"image": row.image, "cells": row.cells, **_worth(counts)})
    lines.sort(key=lambda line: (-line["errors_per_minute"], line["image"]))
    columns = ("rank", "image", "cells", "errors_per_minute", "expected_errors")
    table = csv_json.csv_text(
        (*columns, "minutes", *map(_column, doubting.REASONS)),
        ({"rank": rank, **line} for rank, line in enumerate(lines, start=1)),
    )
    ledger.write_text(study.root, study.review_queue_path, table)


def read_queue(study: Study) -> list[str]:
    """Returns the images of the queue in its order; none if there is no queue."""
    if not study.review_queue_path.exists():
        return []
    return [line["image"] for line in csv_json.read_csv(study.review_queue_path)]


def worth_correcting(study: Study, most: int = 5) -> str:
    """Returns a text that says which fields to correct first, how, and how long it takes.

    Args:
      study: the study.
      most: largest number of fields to name.

    Returns:
      The text; '' if there are no fields to correct.
    """
    if not study.review_queue_path.exists():
        return ""
    lines = csv_json.read_csv(study.review_queue_path)
    first = lines[:most]
    if not first:
        return ""
    minutes = sum(float(line["minutes"]) for line in first)
    names = ", ".join(line["image"] for line in first)
    writing = command(
        "export", study=study.root, format="cellpose", output="gui", first=len(first)
    )
    return (
        f"{len(lines)} images have doubtful cells. Correcting the first {len(first)} takes "
        f"about {minutes:.0f} minutes: {names}. `{writing}` writes them for cellpose's "
        "window."
    )


def _worth(counts: dict[str, int]) -> dict[str, Any]:
    errors = sum(_CHANCE_OF_ERROR[reason] * n for reason, n in counts.items())
    seconds = _OPENING_S + _LOOKING_S * sum(counts.values()) + _REDRAWING_S * errors
    return {
        "expected_errors": round(errors, 1),
        "minutes": round(seconds / 60, 1),
        "errors_per_minute": round(60 * errors / seconds, 2),
        **{_column(reason): n for reason, n in counts.items()},
    }


def _column(reason: str) -> str:
    return reason.replace(" ", "_")


def _line(doubt: Doubt) -> dict[str, Any]:
    return {
        "cell": doubt.cell,
        "reasons": "; ".join(doubt.reasons),
        "probability": doubt.probability,
        "centroid_y_px": doubt.centroid_y_px,
        "centroid_x_px": doubt.centroid_x_px,
        "area_px": doubt.area_px,
    }


def _pen(doubt: Doubt, width: int) -> picture.Pen:
    if doubt.reasons == (CUT,):
        return picture.Pen(_COLOURS[CUT], max(1, width // 2), dash=6 * width)
    return picture.Pen(_COLOURS[doubt.reasons[0]], width)


def _write_numbers(
    canvas: np.ndarray, cells: Cells, doubts: Sequence[Doubt], scale: int
) -> np.ndarray:
    """Writes the numbers of doubtful cells above them, so that they hide no nucleus."""
    from PIL import Image, ImageDraw

    drawn = Image.fromarray(canvas)
    pen = ImageDraw.Draw(drawn)
    size = round(0.75 * caption.text_height(canvas.shape[1]))
    pen.font = caption.font(size)
    for doubt in doubts:
        if doubt.reasons != (CUT,):
            number = str(doubt.cell)
            # The number stays inside of the picture.
            half = pen.textlength(number) / 2 + 2
            x = min(max(doubt.centroid_x_px * scale, half), canvas.shape[1] - half)
            y = max(int(cells.boxes_yxyx[doubt.cell - 1][0]) * scale, size)
            pen.text(
                (x, y), number, _INK, anchor="mb", stroke_width=2, stroke_fill=_HALO
            )
    return np.asarray(drawn)
