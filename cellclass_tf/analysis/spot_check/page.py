"""Writes the page on which a person labels the cells of a random sample."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf import process_state
from cellclass_tf.analysis import html, sources
from cellclass_tf.analysis.mixture import check_width, labels_for_width
from cellclass_tf.analysis.spot_check import labels, sample
from cellclass_tf.analysis.spot_check.sample import Sample, Window
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.drawing import picture
from cellclass_tf.errors import InputError
from cellclass_tf.labels import outlines
from cellclass_tf.storage import csv_json, ledger, lock, trash

PAGE_FILE = "spotcheck.html"
_TEMPLATE = "spotcheck.html.jinja"
# Pixels along the longer side of a picture; a browser enlarges smaller ones.
_PICTURE_PX = 800
# Width of the surroundings that are shown around a window, in cell diameters.
_SURROUNDINGS = 1.5


@dataclasses.dataclass(frozen=True)
class SpotCheck:
    """A spot check that is ready to be labelled.

    Attributes:
      page: path of the page.
      windows: number of windows in the sample.
      cells: number of outlined cells in these windows.
      width: width of an interval, from end to end.
      labels_for_width: number of cells to label for that width, see `mixture`.
      left_out: why some fields are left out, or ''.
    """

    page: pathlib.Path
    windows: int
    cells: int
    width: float
    labels_for_width: Mapping[str, int | None]
    left_out: str = ""

    def __str__(self) -> str:
        likely, worse = self.labels_for_width.values()
        needed = f"For intervals {100 * self.width:g} percentage points wide, label "
        if likely is None:
            needed = (
                f"No number of labels gives intervals {100 * self.width:g} percentage points "
                "wide: the dishes or fields are too few, or differ too much."
            )
        else:
            needed += f"about {likely} cells if the model errs as often as on its held-out fields"
            needed += f", or {worse} if it errs twice as often." if worse else "."
        if self.left_out:
            needed += f"\nSome fields are left out, since {self.left_out}."
        return (
            f"{needed}\nWritten: {self.page}. It shows {self.cells} cells in "
            f"{self.windows} windows. Open it in a browser, label the cells, save the table, "
            "and run `cellclass import --format=spotcheck --predictions="
            f"{self.page.parent.parent} --source=TABLE`."
        )


@process_state.keep()
@lock.writes("predictions")
def spotcheck(
    predictions: str | os.PathLike | Predictions,
    *,
    cells: int = 100,
    width: float = 0.1,
    seed: int = 0,
    overwrite: bool = False,
) -> SpotCheck:
    """Draws a random sample of cells, and writes a page on which a person labels them.

    PREDICTIONS/spotcheck/spotcheck.html needs no network and no other file. It shows small
    windows of the fields in random order, including windows in which no cell was found, and
    hides the calls. `import_spotcheck` reads the table that the page saves; `mixture` and
    `report` then estimate the proportions from labels and calls together.

    Args:
      predictions: output folder of `predict`.
      cells: approximate number of cells to label.
      width: width of an interval, from end to end, for which the number of labels needed is
        printed.
      seed: seed of the random draw.
      overwrite: draw a new spot check where one exists; the old one and its labels are set
        aside.

    Returns:
      The path of the page, and what it contains.

    Raises:
      InputError: if there are no predictions, fewer cells than asked for, or images that
        were moved since `predict` ran; if there is already another spot check; or if
        `width` is not between 0 and 1.
    """
    predictions = Predictions.open(predictions)
    check_width(width)
    drawn = sample.draw(predictions, cells, seed)
    folder = predictions.folder / sample.SPOT_CHECK_FOLDER
    path = folder / sample.SAMPLE_FILE
    if path.exists():
        _make_room(predictions.folder, path, drawn, overwrite)
    windows = [shown for _, shown in sorted(_shown(predictions, drawn))]
    page = _rendered(predictions.folder.resolve().name, drawn, windows)
    text = csv_json.json_text(drawn.as_content())
    ledger.write_text(predictions.folder, path, text)
    ledger.write_text(predictions.folder, folder / PAGE_FILE, page)
    seen = len(predictions.record_if_any.labelled_stems)
    return SpotCheck(
        folder / PAGE_FILE,
        len(drawn.windows),
        drawn.labelled_cells,
        width,
        labels_for_width(predictions, width),
        sample.why_seen(seen, len(predictions.stems)) if seen else "",
    )


def _make_room(
    root: pathlib.Path, path: pathlib.Path, drawn: Sample, overwrite: bool
) -> None:
    """Sets the labels of an earlier spot check aside, or refuses to replace it."""
    if not overwrite:
        there = Sample.read(path)
        if there.key == drawn.key:
            return
        raise InputError(
            f"{path}: there is already a spot check of {there.cells} cells (seed "
            f"{there.seed}), whose page may be in use. To draw another one, set --overwrite; "
            "imported labels of the old one are then set aside."
        )
    found = path.with_name(labels.LABELS_FILE)
    if found.exists():
        trash.set_aside(root, [found])


def _shown(
    predictions: Predictions, drawn: Sample
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the index of each window and its data for the page, field by field."""
    fields = {field.stem: field for field in sources.fields_of(predictions.folder)}
    order = sorted(range(len(drawn.windows)), key=lambda i: (drawn.windows[i].image, i))
    for stem, numbers in itertools.groupby(order, lambda i: drawn.windows[i].image):
        cells = fields[stem].read()
        bright = picture.brighten(fields[stem].pixels_of(cells))
        for number in numbers:
            yield number, _window(drawn.windows[number], bright, cells)


def _window(window: Window, image: np.ndarray, cells: Cells) -> dict[str, Any]:
    """Returns the data of a window for the page; lengths are in pixels of the field."""
    top, left, bottom, right = window.box_yxyx
    diameter = float(np.median(cells.diameters_px)) if len(cells) else 0.0
    margin = round(max(_SURROUNDINGS * diameter, 30))
    y, x = max(0, top - margin), max(0, left - margin)
    crop = cells.labels[y : bottom + margin, x : right + margin]
    shown = image[y : bottom + margin, x : right + margin]
    # Where the number of a cell is drawn that has no pixels in the picture.
    middle = [(top + bottom) / 2 - y, (left + right) / 2 - x]
    paths, centres = {}, {}
    for cell in np.unique(crop[crop > 0]).tolist():
        mask = crop == cell
        rings = outlines.outlines_of(mask)
        paths[cell] = "".join(
            "M" + "L".join(f"{a} {b}" for a, b in ring.tolist()) + "Z" for ring in rings
        )
        centres[cell] = [round(float(at.mean()) + 0.5, 1) for at in np.nonzero(mask)]
    own = sorted(window.cells)
    return {
        "picture": html.jpeg_source(shown, _PICTURE_PX, sharp_colours=True),
        "origin": [y, x],
        "size": list(crop.shape),
        "box": [top - y, left - x, bottom - y, right - x],
        "own": own,
        "outlines": paths,
        "centres": {cell: centres.get(cell, middle) for cell in own},
    }


def _rendered(title: str, drawn: Sample, windows: Sequence[Mapping[str, Any]]) -> str:
    return html.render(
        _TEMPLATE,
        title=title,
        key=drawn.key,
        types=drawn.types,
        windows=windows,
        columns=labels.COLUMNS,
        not_a_cell=labels.NOT_A_CELL,
        cannot_tell=labels.CANNOT_TELL,
    )
