"""Writes report.html: the results of a run of predictions on one page for any browser."""

from __future__ import annotations

import os
import pathlib
import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from cellclass_tf import errors, process_state
from cellclass_tf.analysis import charts, html
from cellclass_tf.analysis.evaluation import changed_truth, read_evaluation
from cellclass_tf.analysis.mixture import mixture
from cellclass_tf.core.cells import UNCERTAIN_BELOW
from cellclass_tf.core.predictions import Predictions, overlay_path, unlike_path
from cellclass_tf.core.run_record import RunRecord
from cellclass_tf.drawing.palette import colour_on_white
from cellclass_tf.messages import logger
from cellclass_tf.storage import ledger, lock, png

REPORT_FILE = "report.html"
_TEMPLATE = "report.html.jinja"
# Columns of cells.csv of which histograms are drawn, and the labels of their axes. Areas
# are in µm² if any pixel size is known, otherwise in pixels.
_FEATURES = (
    ("area_um2", "area (µm²)"),
    ("area_px", "area (px)"),
    ("eccentricity", "eccentricity"),
    ("solidity", "solidity"),
    ("nucleus_share_of_area", "nucleus area / cell area"),
    ("mean_cytoplasm_grey", "cytoplasm, mean grey level"),
    ("mean_nuclei_grey", "nuclei, mean grey level"),
    ("neighbours", "number of neighbours"),
)
# At most so many cells are in the histograms, so that the page stays small.
_SAMPLE_CELLS = 20_000
_PICTURE_PX = 1400
# Number of unlike fields of which unusual cells are shown.
_SHOWN_UNLIKE = 6


@process_state.keep()
@lock.writes("predictions")
def report(
    predictions: str | os.PathLike | Predictions,
    *,
    expected: Mapping[str, float] | str | None = None,
    width: float = 0.1,
    gallery: int = 12,
    answer_anyway: bool | None = None,
    counting_frame: bool = False,
) -> pathlib.Path:
    """Writes report.html, and writes mixture.json again.

    The page contains its pictures and needs no network. It shows proportions with
    intervals, counts by field and group, overlays, histograms of measurements by type, the
    confusion matrix and the reliability of the calls on held-out fields, rejected fields,
    and the settings of the run.

    Args:
      predictions: output folder of `predict`; the page is written there.
      expected: proportions to test against, such as 'HEK=0.5,N2a=0.5'.
      width: width of an interval, from end to end, for which the number of dishes or fields
        needed is computed.
      gallery: number of overlays to show: one half from the fields with the largest share of
        uncertain calls, the other half from the remaining fields.
      answer_anyway: report proportions also for fields that do not resemble the training
        fields; as set for `predict` if not given.
      counting_frame: count only cells that touch neither the left nor the lower edge of
        their field (unbiased counting frame, Gundersen 1977), for types of different size.

    Returns:
      The page's path.

    Raises:
      InputError: if there are no predictions, or `expected` does not fit the types.
    """
    predictions = Predictions.open(predictions)
    shares = mixture(
        predictions,
        expected=expected,
        width=width,
        answer_anyway=answer_anyway,
        counting_frame=counting_frame,
    )
    names = predictions.type_names
    record = predictions.record_if_any
    calibration = record.calibration
    evaluation = read_evaluation(predictions.folder)
    page = html.render(
        _TEMPLATE,
        title=predictions.folder.resolve().name,
        types=[(name, _css(i)) for i, name in enumerate(names, start=1)],
        shares=shares,
        estimate=shares["estimates"][0],
        groups=shares["estimates"][1:],
        share_chart=charts.shares_svg(shares["estimates"][0]),
        unlike=_unlike(predictions, record),
        rows=predictions.count_rows,
        repeated=sum(int(row.get("repeated") or 0) for row in predictions.count_rows),
        gallery=_gallery(predictions, gallery),
        histograms=_histograms(predictions),
        sample=_SAMPLE_CELLS,
        calibration=calibration,
        reliability=charts.reliability_svg(calibration.bins) if calibration else "",
        evaluation=evaluation,
        outdated=_why_outdated(evaluation, predictions.folder) if evaluation else "",
        record=record,
        settings={"min_probability": UNCERTAIN_BELOW} | dict(record.settings),
    )
    path = predictions.folder / REPORT_FILE
    ledger.write_text(predictions.folder, path, page)
    return path


def _unlike(predictions: Predictions, record: RunRecord) -> list[dict[str, Any]]:
    """Returns the fields unlike the training fields, with reasons; some with pictures."""
    found: list[dict[str, Any]] = []
    for image in record.images:
        if not image.unlike:
            continue
        shown = ""
        if len(found) < _SHOWN_UNLIKE:
            path = unlike_path(predictions.folder, image.stem)
            shown = _picture(path, "a picture of unusual cells")
        found.append({"stem": image.stem, "why": image.unlike, "picture": shown})
    return found


def _gallery(predictions: Predictions, count: int) -> list[dict[str, Any]]:
    """Returns the fields to show with their overlays as JPEG, uncertain fields first.

    One half are the fields with the largest fraction of uncertain calls, the other half is
    spread evenly over the remaining fields.
    """
    rows = [row for row in predictions.count_rows if int(row["cells"])]
    rows = rows or predictions.count_rows
    by_uncertainty = sorted(
        rows, key=lambda r: -int(r["uncertain"]) / max(1, int(r["cells"]))
    )
    uncertain = by_uncertainty[: (count + 1) // 2]
    rest = [row for row in rows if row not in uncertain]
    step = max(1, -(-len(rest) // max(1, count - len(uncertain))))
    shown = []
    for row in [*uncertain, *rest[::step]][:count]:
        path = overlay_path(predictions.folder, row["image"])
        picture = _picture(path, "an overlay")
        if picture:
            shown.append({**row, "picture": picture})
    return shown


def _picture(path: pathlib.Path, what: str) -> str:
    """Returns a PNG as a data URL; '' if there is none, or if it cannot be read."""
    if not os.path.lexists(path):
        return ""
    try:
        return html.jpeg_source(png.read_png(path), _PICTURE_PX)
    except errors.InputError as error:
        logger.warning("The report leaves out %s: %s", what, error)
        return ""


def _histograms(predictions: Predictions) -> list[tuple[str, str]]:
    """Returns (label, SVG) of each measurement, over a random sample of the cells.

    Cells that count in another, overlapping field are left out.
    """
    keys = ("cell_type", *(key for key, _ in _FEATURES))
    sample: list[tuple[str, ...]] = []
    generator = random.Random(0)
    own = (row for row in predictions.cell_rows() if row.get("repeated") != "True")
    for number, row in enumerate(own):
        kept = number
        if number >= _SAMPLE_CELLS:
            # Reservoir sampling: every cell is equally likely to be kept (Vitter 1985,
            # algorithm R).
            kept = generator.randrange(number + 1)
        if kept < len(sample):
            sample[kept] = tuple(row.get(key) or "" for key in keys)
        elif kept == len(sample) < _SAMPLE_CELLS:
            sample.append(tuple(row.get(key) or "" for key in keys))
    found = []
    has_um = any(row[1] for row in sample)
    part = "" if all(row[1] for row in sample) else ", fields of known pixel size only"
    for place, (key, words) in enumerate(_FEATURES, start=1):
        if key == ("area_px" if has_um else "area_um2"):
            continue
        values = {
            name: np.array(
                [float(r[place]) for r in sample if r[0] == name and r[place]]
            )
            for name in predictions.type_names
        }
        if any(one.size for one in values.values()):
            words += part if key == "area_um2" else ""
            found.append((words, charts.histogram_svg(values, words)))
    return found


def _why_outdated(evaluation: Mapping[str, Any], folder: pathlib.Path) -> str:
    """Returns what has changed since `evaluate`; '' if nothing has."""
    changed = changed_truth(evaluation, folder)
    if not changed:
        return ""
    why = (
        f"The true cells of {errors.first_names(changed)} have changed since `cellclass "
        "evaluate`. Run it again, then `cellclass report`."
    )
    logger.warning("The report shows scores that are out of date. %s", why)
    return why


def _css(type_id: int) -> str:
    return f"rgb{colour_on_white(type_id)}"
