"""Figures for papers: a field with vector outlines, and its legend, in millimetres."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellclass_tf.drawing import palette
from cellclass_tf.drawing.caption import LegendEntry
from cellclass_tf.drawing.panels import Panel
from cellclass_tf.drawing.vector import MM_PER_INCH

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.path import Path

FONT_PT = 7.0
# Width of the dark halo on each side of a line.
HALO_PT = 0.5
_GAP_MM, _MARGIN_MM, _BAR_MM, _TITLE_MM = 1.0, 2.0, 0.7, 4.5
_DASH_PT = (2.5, 1.5)
_ROW_MM, _SAMPLE_MM = 4.5, 7.0
_LINES = {"facecolor": "none", "joinstyle": "round", "capstyle": "butt"}
_HALO = {"facecolor": "black", "edgecolor": "black", "linewidth": 2 * HALO_PT}


@dataclasses.dataclass(frozen=True)
class CellOutline:
    """The outline of one cell.

    Attributes:
      name: id of its path in SVG.
      rings: closed lines, each with (V, 2) corners (x, y) in pixels of the field.
      colour: (red, green, blue), each 0 to 255.
      dashed: whether the line is dashed.
      is_cut: whether the outline extends beyond the picture.
    """

    name: str
    rings: Sequence[np.ndarray]
    colour: palette.Colour
    dashed: bool = False
    is_cut: bool = False


def panel_width_mm(width_mm: float, count: int) -> float:
    """Returns the width of each of several panels on a page."""
    return (width_mm - _GAP_MM * (count - 1)) / count


def field_page(
    panels: Sequence[Panel],
    size_yx: tuple[int, int],
    outlines: Sequence[CellOutline],
    *,
    width_mm: float,
    line_pt: float,
    averaged: int = 1,
    bar_px: float = 0.0,
    bar_text: str = "",
) -> Figure:
    """Draws a field: outlines as vectors over its channels, side by side.

    Args:
      panels: the panels, whose pixels may be averages of blocks.
      size_yx: height and width of the field in its own pixels.
      outlines: outlines of the cells, in pixels of the field from its upper left corner.
      width_mm: width of the page in mm.
      line_pt: width of the outlines in points, without the black halo of HALO_PT.
      averaged: height and width of the blocks of the field that became one pixel.
      bar_px: length of the scale bar in pixels of the field; 0 draws none.
      bar_text: text above the scale bar.
    """
    from matplotlib import figure

    height, width = size_yx
    panel_mm = panel_width_mm(width_mm, len(panels))
    field_mm = panel_mm * height / width
    # Titles stand above the pictures, where they hide no cell.
    height_mm = field_mm + _TITLE_MM * any(panel.title for panel in panels)
    page = figure.Figure(figsize=(width_mm / MM_PER_INCH, height_mm / MM_PER_INCH))
    for number, panel in enumerate(panels):
        left = number * (panel_mm + _GAP_MM) / width_mm
        axes = page.add_axes((left, 0, panel_mm / width_mm, field_mm / height_mm))
        axes.set_axis_off()
        rows, columns = panel.pixels.shape[:2]
        axes.imshow(
            panel.pixels,
            extent=(0, columns * averaged, rows * averaged, 0),
            # Vector formats keep the pixels as they are, and PNG repeats them.
            interpolation="none" if averaged == 1 else "nearest",
            aspect="auto",
        )
        axes.set(xlim=(0, width), ylim=(height, 0))
        _draw_outlines(axes, outlines, line_pt, f"panel{number + 1}_")
        px_per_mm = width / panel_mm
        if panel.title:
            above = -0.8 * px_per_mm
            axes.text(0, above, panel.title, va="bottom", ha="left", size=FONT_PT)
    if bar_px:
        _draw_bar(axes, size_yx, px_per_mm, bar_px, bar_text)
    return page


def legend_page(
    entries: Sequence[LegendEntry], fills: Sequence[LegendEntry], line_pt: float
) -> Figure:
    """Draws the legend of a field's page on white, with one row per entry.

    Args:
      entries: entries of outlines, drawn as lines with a halo, as in the picture.
      fills: entries of channels, drawn as filled boxes.
      line_pt: width of the lines in points.
    """
    from matplotlib import figure, patches

    rows = [*entries, *fills]
    longest = max((len(entry.text) for entry in rows), default=0)
    width_mm = 2 * _MARGIN_MM + _SAMPLE_MM + 2 + 1.6 * longest
    height_mm = _ROW_MM * max(1, len(rows)) + _MARGIN_MM
    page = figure.Figure(figsize=(width_mm / MM_PER_INCH, height_mm / MM_PER_INCH))
    axes = page.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width_mm), ylim=(height_mm, 0))
    for row, entry in enumerate(rows):
        y = _MARGIN_MM / 2 + (row + 0.5) * _ROW_MM
        ends = np.array([[_MARGIN_MM, y], [_MARGIN_MM + _SAMPLE_MM, y]])
        if row < len(entries):
            sample = CellOutline(entry.text, [ends], entry.colour, entry.dashed)
            _draw_outlines(axes, [sample], line_pt, "")
        else:
            box = patches.Rectangle(
                (_MARGIN_MM, y - 1.2),
                _SAMPLE_MM,
                2.4,
                facecolor=palette.hex_of(entry.colour),
                edgecolor="black",
                linewidth=0.5,
            )
            axes.add_patch(box)
        x = _MARGIN_MM + _SAMPLE_MM + 2
        axes.text(x, y, entry.text, va="center_baseline", size=FONT_PT)
    return page


def _draw_outlines(
    axes: Any, outlines: Sequence[CellOutline], line_pt: float, prefix: str
) -> None:
    """Draws one path per cell, and a common halo, so that it does not cover lines."""
    from matplotlib import patches
    from matplotlib.path import Path

    if not outlines:
        return
    paths = [Path.make_compound_path(*map(_ring, of.rings)) for of in outlines]
    halo = patches.PathPatch(
        Path.make_compound_path(*paths),
        edgecolor="black",
        linewidth=line_pt + 2 * HALO_PT,
        gid=f"{prefix}halo",
        **_LINES,
    )
    axes.add_patch(halo)
    for outline, path in zip(outlines, paths, strict=True):
        line = patches.PathPatch(
            path,
            edgecolor=palette.hex_of(outline.colour),
            linewidth=line_pt,
            linestyle=(0, [on / line_pt for on in _DASH_PT])
            if outline.dashed
            else "solid",
            gid=f"{prefix}{outline.name}",
            **_LINES,
        )
        axes.add_patch(line)
        line.set_clip_on(outline.is_cut)


def _ring(corners: np.ndarray) -> Path:
    from matplotlib.path import Path

    closed = len(corners) > 2
    codes = np.full(len(corners), Path.LINETO, Path.code_type)
    codes[0] = Path.MOVETO
    if closed:
        codes[-1] = Path.CLOSEPOLY
    return Path(corners, codes)


def _draw_bar(
    axes: Any, size_yx: tuple[int, int], px_per_mm: float, bar_px: float, text: str
) -> None:
    from matplotlib import patches

    height, width = size_yx
    margin, thick = _MARGIN_MM * px_per_mm, _BAR_MM * px_per_mm
    left, top = width - margin - bar_px, height - margin - thick
    # The halo is a rectangle of its own: an edge of the bar would cover half of itself.
    for look in (
        _HALO,
        {"facecolor": "white", "edgecolor": "none", "gid": "scale_bar"},
    ):
        axes.add_patch(patches.Rectangle((left, top), bar_px, thick, **look))
    if text:
        above = top - thick
        middle = left + bar_px / 2
        # A halo around the letters would turn them into paths, and so there is a box.
        box = {"facecolor": "black", "edgecolor": "none", "pad": 0.5}
        look = {"color": "white", "size": FONT_PT, "bbox": box}
        axes.text(middle, above, text, va="bottom", ha="center", **look)
