"""Writes figures for papers: a field with vector outlines, or the proportions of a run."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from cellclass_tf import process_state
from cellclass_tf.analysis import charts
from cellclass_tf.analysis.mixture import MIXTURE_FILE
from cellclass_tf.analysis.sources import FieldOfCells, fields_of, source_of
from cellclass_tf.core.cells import UNCERTAIN_BELOW, UNKNOWN, Cells
from cellclass_tf.core.image_names import find_image
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.drawing import caption, palette, panels, paper, picture, vector
from cellclass_tf.drawing.caption import LegendEntry
from cellclass_tf.errors import InputError, command, first_names
from cellclass_tf.labels.outlines import inner_outlines
from cellclass_tf.storage import ledger, lock

CELLS: Final = "cells"
PROPORTIONS: Final = "proportions"
FORMATS = (".svg", ".pdf", ".png")
_WIDTHS_MM, _MOST_HEIGHT_MM = (10.0, 1000.0), 1000.0
_LEAST_LINE_PT = 0.5
# Cells that are fewer line widths wide are hidden by their outlines.
_LEAST_CELL_LINES = 6


@dataclasses.dataclass(frozen=True)
class WrittenFigure:
    """Files that `figure` wrote, and a caption.

    Attributes:
      path: path of the figure.
      legend: path of the legend; None for a chart, which has labels of its own.
      caption: what the figure shows, in words for the paper.
      notes: what may make the figure hard to read, one line each.
    """

    path: pathlib.Path
    legend: pathlib.Path | None
    caption: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        legend = f", legend: {self.legend}" if self.legend else ""
        return "\n".join([f"Written: {self.path}{legend}", self.caption, *self.notes])


@process_state.keep()
def figure(
    output: str | os.PathLike,
    *,
    predictions: str | os.PathLike | None = None,
    study: str | os.PathLike | None = None,
    image: str | os.PathLike | None = None,
    plot: Literal["cells", "proportions"] = CELLS,
    width_mm: float = 85.0,
    channels: panels.Channels = panels.CHANNELS[0],
    crop: str | Sequence[int] | None = None,
    outlines: bool = True,
    brighten: bool = False,
    line_pt: float = 0.75,
    scale_bar_um: float | None = None,
    pixel_size_um: float | None = None,
    min_probability: float | None = None,
) -> WrittenFigure:
    """Writes a figure for a paper, and its legend into a second file, OUTPUT_legend.

    Pixels have at least 300 dpi at the given width: whole blocks of them are repeated or
    averaged, and nothing is interpolated. Each cell's outline is one path, drawn inside the
    cell, with a black halo. An earlier figure that somebody changed is set aside into .trash
    beside it.

    Args:
      output: file to write, .svg, .pdf or .png.
      predictions: output folder of `predict`.
      study: folder of a study, whose annotated cells are drawn, instead of predictions.
      image: field to draw, 'TYPE/NAME' or 'NAME'; not needed if there is only one.
      plot: what to draw: the 'cells' of one field, or the 'proportions' of predictions, as
        in their report.
      width_mm: width of the figure; journals ask for about 85 (one column) or 175 (two).
      channels: colours of the channels: 'magenta_green' (nuclei magenta), 'merged' (nuclei
        blue), 'grey' (both channels side by side), 'grey_cytoplasm' or 'grey_nuclei'.
      crop: part of the field to draw, in pixels: y, x of its upper left corner, height and
        width, such as '100,200,400,400'; the whole field if not given.
      outlines: outline the cells.
      brighten: lift the brightness of dark fields as in overlays, which is not linear.
        Otherwise brightness is linear between the contrast limits.
      line_pt: width of the outlines in points, at least 0.5.
      scale_bar_um: length of the scale bar; a round length of about a fifth of the width if
        not given; 0 for none.
      pixel_size_um: width of a pixel in µm; replaces what is recorded. If it is not known
        there is no scale bar.
      min_probability: calls of a lower probability are drawn dashed; as in the run if not
        given.

    Raises:
      InputError: if an argument cannot be used, the image is not known, or the shares of
        the run are withheld.
    """
    path = pathlib.Path(output)
    _check(path, plot, channels, width_mm, line_pt)
    source = source_of(predictions, study)
    if plot == PROPORTIONS:
        if study or image or crop:
            raise InputError(
                "--plot=proportions draws all fields of --predictions; leave out --study, "
                "--image and --crop."
            )
        page, text = _proportions(source, width_mm)
        return _write(path, page, panels.DPI, None, text)
    field = _find(source, image)
    if min_probability is None:
        min_probability = _min_probability(source)
    cells = field.read()
    pixels = field.pixels_of(cells)
    box = _parse_crop(crop, cells.labels.shape, field.stem)
    size_um = field.pixel_size_um if pixel_size_um is None else pixel_size_um
    top, left, height, width = box
    panel_mm = paper.panel_width_mm(width_mm, panels.panel_count(channels))
    if panel_mm * height / width > _MOST_HEIGHT_MM:
        raise InputError(
            f"{field.stem}: {height} x {width} px would be {panel_mm * height / width:.0f} "
            f"mm high; expected at most {_MOST_HEIGHT_MM:.0f}. Choose another --crop."
        )
    if brighten:
        pixels = picture.brighten(pixels)
    part = pixels[top : top + height, left : left + width]
    repeated, averaged = panels.pixel_factor(width, panel_mm)
    shown = panels.panels_of(panels.averaged(part, averaged), channels)
    px_per_pt = width / panel_mm * vector.MM_PER_INCH / vector.PT_PER_INCH
    in_crop = cells.labels[top : top + height, left : left + width]
    found = [number - 1 for number in np.unique(in_crop).tolist() if number]
    drawn = _outlines(cells, found, box, line_pt * px_per_pt, min_probability)
    bar_um = _bar_um(scale_bar_um, size_um, width)
    page = paper.field_page(
        shown,
        (height, width),
        drawn if outlines else (),
        width_mm=width_mm,
        line_pt=line_pt,
        averaged=averaged,
        bar_px=bar_um / size_um if bar_um and size_um else 0.0,
        bar_text=f"{bar_um:g} µm",
    )
    lines = _legend(cells, found, min_probability) if outlines else []
    fills = _channel_entries(shown)
    text = _caption(field.stem, box, lines, fills, bar_um, brighten)
    notes = _notes(cells, found, line_pt * px_per_pt) if outlines else ()
    dpi = repeated * width / averaged / (panel_mm / vector.MM_PER_INCH)
    legend = paper.legend_page(lines, fills, line_pt)
    return _write(path, page, dpi, legend, text, notes)


def _check(
    path: pathlib.Path, plot: str, channels: str, width_mm: float, line_pt: float
) -> None:
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"{path}: expected a name that ends in {', '.join(FORMATS)}; got "
            f"{path.suffix or 'none'!r}."
        )
    for name, value, known in (
        ("plot", plot, (CELLS, PROPORTIONS)),
        ("channels", channels, panels.CHANNELS),
    ):
        if value not in known:
            raise InputError(f"--{name}={value}: expected one of {', '.join(known)}.")
    least, most = _WIDTHS_MM
    if not least <= width_mm <= most:
        raise InputError(
            f"--width_mm={width_mm}: expected {least:.0f} to {most:.0f} mm, such as 85."
        )
    if not _LEAST_LINE_PT <= line_pt <= 10:
        raise InputError(
            f"--line_pt={line_pt}: expected {_LEAST_LINE_PT} to 10 points; thinner lines "
            "may vanish in print."
        )


def _find(source: pathlib.Path, image: str | os.PathLike | None) -> FieldOfCells:
    fields = {field.stem: field for field in fields_of(source)}
    if not fields:
        raise InputError(f"{source} has no images with cells.")
    if image is None:
        if len(fields) > 1:
            raise InputError(
                f"{source} has {len(fields)} images with cells; choose one with --image: "
                f"{first_names(sorted(fields))}."
            )
        return next(iter(fields.values()))
    name = pathlib.PurePath(image).as_posix()
    return fields[find_image(name, {stem: stem for stem in fields}, os.fspath(source))]


def _min_probability(source: pathlib.Path) -> float:
    if not Predictions.exist(source):
        return UNCERTAIN_BELOW
    used = Predictions(source).record_if_any.settings.get("min_probability")
    return UNCERTAIN_BELOW if used is None else float(used)


def _parse_crop(
    crop: str | Sequence[int] | None, size_yx: Sequence[int], stem: str
) -> tuple[int, int, int, int]:
    """Returns top, left, height and width."""
    if crop is None or crop == "":
        return 0, 0, size_yx[0], size_yx[1]
    parts = crop.split(",") if isinstance(crop, str) else list(crop)
    try:
        top, left, height, width = (int(part) for part in parts)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"--crop={crop}: expected four whole numbers, y,x,height,width in pixels, such "
            "as 0,100,300,400."
        ) from error
    inside = 0 <= top and top + height <= size_yx[0]
    inside &= 0 <= left and left + width <= size_yx[1]
    if not inside or height < 1 or width < 1:
        raise InputError(
            f"--crop={crop}: expected y,x,height,width inside {stem}, which is "
            f"{size_yx[0]} px high and {size_yx[1]} px wide."
        )
    return top, left, height, width


def _outlines(
    cells: Cells,
    found: Sequence[int],
    box: tuple[int, int, int, int],
    line_px: float,
    min_probability: float,
) -> list[paper.CellOutline]:
    top, left, height, width = box
    # Details that are too small for print only make the file larger.
    tolerance = max(0.1, line_px / 10)
    uncertain = cells.called_probabilities < min_probability
    drawn = []
    for index in found:
        y0, x0, y1, x1 = cells.boxes_yxyx[index].tolist()
        rings = _simplified(inner_outlines(cells.mask(index), line_px / 2), tolerance)
        cut = y0 < top or x0 < left or y1 > top + height or x1 > left + width
        drawn.append(
            paper.CellOutline(
                f"cell_{cells.numbers[index]}",
                [ring + np.array([x0 - left, y0 - top]) for ring in rings],
                palette.colour_of_type(int(cells.type_ids[index])),
                bool(uncertain[index]),
                cut,
            )
        )
    return drawn


def _simplified(rings: list[np.ndarray], tolerance: float) -> list[np.ndarray]:
    from skimage import measure

    few = [measure.approximate_polygon(ring, tolerance) for ring in rings]
    # A ring that is smaller than the tolerance stays as it is.
    return [
        less if len(less) > 3 else ring for less, ring in zip(few, rings, strict=True)
    ]


def _bar_um(wanted: float | None, size_um: float | None, width: int) -> float:
    if wanted is not None and wanted < 0:
        raise InputError(f"--scale_bar_um={wanted}: expected 0 or more.")
    if size_um is None:
        if wanted:
            raise InputError(
                "--scale_bar_um: the pixel size is not known. Set --pixel_size_um."
            )
        return 0.0
    if size_um <= 0:
        raise InputError(f"--pixel_size_um={size_um}: expected more than 0.")
    if wanted is None:
        return caption.round_length_um(width * size_um / 5)
    if wanted > 0.9 * width * size_um:
        raise InputError(
            f"--scale_bar_um={wanted:g} does not fit: the figure shows "
            f"{width * size_um:.3g} µm."
        )
    return wanted


def _legend(
    cells: Cells, found: Sequence[int], min_probability: float
) -> list[LegendEntry]:
    ids = cells.type_ids[np.array(found, int)]
    names = (UNKNOWN, *cells.type_names)
    entries = []
    for type_id in [*range(1, len(names)), 0]:
        count = int((ids == type_id).sum())
        if count:
            colour = palette.colour_of_type(type_id)
            entries.append(LegendEntry(f"{names[type_id]} ({_count(count)})", colour))
    uncertain = cells.called_probabilities[np.array(found, int)] < min_probability
    if uncertain.any():
        text = f"probability below {min_probability:g} ({_count(int(uncertain.sum()))})"
        entries.append(LegendEntry(text, palette.WHITE, dashed=True))
    return entries


def _count(number: int) -> str:
    return f"{number} cell{'s' * (number != 1)}"


def _channel_entries(shown: Sequence[panels.Panel]) -> list[LegendEntry]:
    """Returns the colours of the channels; none for grey panels, which have titles."""
    return [
        LegendEntry(name, colour)
        for panel in shown
        if not panel.title
        for name, colour in panel.colours.items()
    ]


def _caption(
    stem: str,
    box: tuple[int, int, int, int],
    lines: Sequence[LegendEntry],
    fills: Sequence[LegendEntry],
    bar_um: float,
    brighten: bool,
) -> str:
    top, left, height, width = box
    words = {(0, 255, 0): "green", (0, 0, 255): "blue", (255, 0, 255): "magenta"}
    parts = [f"{stem}, {height} x {width} px from y {top}, x {left}"]
    if fills:
        parts.append(", ".join(f"{fill.text} {words[fill.colour]}" for fill in fills))
    if lines:
        solid = ", ".join(line.text for line in lines if not line.dashed)
        dashed = "".join(f"; dashed: {line.text}" for line in lines if line.dashed)
        parts.append(f"outlines: {solid}{dashed}")
    if bar_um:
        parts.append(f"scale bar {bar_um:g} µm")
    how = "not linear (gamma 0.7)" if brighten else "linear"
    return ". ".join([*parts, f"brightness {how}."])


def _notes(cells: Cells, found: Sequence[int], line_px: float) -> tuple[str, ...]:
    boxes = cells.boxes_yxyx[np.array(found, int)]
    if not len(boxes):
        return ("The figure shows no cells.",)
    side = float(np.median(np.minimum(*(boxes[:, 2:] - boxes[:, :2]).T)))
    notes = []
    if side < _LEAST_CELL_LINES * line_px:
        notes.append(
            f"Cells are only {side / line_px:.1f} line widths wide at this scale. Choose a "
            "part of the field with --crop, or a larger --width_mm."
        )
    if len({*cells.type_ids[np.array(found, int)].tolist()} - {0}) > palette.SAFE_TYPES:
        notes.append(
            f"With more than {palette.SAFE_TYPES} types, some colours look alike to "
            "colour-blind readers."
        )
    return tuple(notes)


def _proportions(folder: pathlib.Path, width_mm: float) -> tuple[Figure, str]:
    path = Predictions(folder).folder / MIXTURE_FILE
    if not path.exists():
        report = command("report", predictions=folder)
        raise InputError(f"{path} does not exist. Run `{report}` first.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        estimate = content["estimates"][0]
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Run `cellclass "
            f"report --predictions={folder}` again."
        ) from error
    if estimate["withheld"]:
        raise InputError(
            f"{path}: the proportions are withheld, since {estimate['withheld']}. `cellclass "
            "report --answer_anyway` reports them nevertheless."
        )
    with matplotlib.rc_context({"font.size": paper.FONT_PT}):
        page = charts.shares_page(estimate, width_mm / vector.MM_PER_INCH)
    # In a counting frame, and with cells of unknown type, not all cells are counted.
    cells = sum(share["cells"] for share in estimate["types"].values())
    in_frame = " in the counting frame" if content.get("counting_frame") else ""
    text = (
        f"Proportion of each type {_interval_in_words(estimate)}, {cells} cells{in_frame}, "
        f"{estimate['units']} units ({estimate['unit']})."
    )
    return page, text


def _interval_in_words(estimate: Mapping[str, Any]) -> str:
    ends = [
        share[key]
        for share in estimate["types"].values()
        for key in ("low", "corrected_low")
    ]
    if any(end is not None for end in ends):
        return "and 95 % interval"
    return f"without an interval ({estimate['interval_reason']})"


def _write(
    path: pathlib.Path,
    page: Figure,
    dpi: float,
    legend: Figure | None,
    text: str,
    notes: tuple[str, ...] = (),
) -> WrittenFigure:
    pages = {path: page}
    beside = path.with_name(f"{path.stem}_legend{path.suffix}")
    if legend is not None:
        pages[beside] = legend
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    with lock.one_writer(folder, "figure"):
        for file, drawn in pages.items():
            content = _encoded(drawn, file, dpi)
            ledger.write_bytes(folder, file, content, overwrite=True)
    return WrittenFigure(path, beside if legend is not None else None, text, notes)


def _encoded(page: Figure, file: pathlib.Path, dpi: float) -> bytes:
    """Returns a figure in the format of a file's suffix, which is one of FORMATS."""
    suffix = file.suffix.lower()
    if suffix == ".svg":
        return vector.svg_of(page, file.stem).encode()
    if suffix == ".pdf":
        return vector.pdf_of(page)
    return vector.png_of(page, dpi)
