"""Simulates two-channel fluorescence fields of cultured cells with exact labels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from cellclass_tf.datasets.culture import drawing, placement
from cellclass_tf.datasets.culture.looks import HEK, LOOKS, N2A, CellTypeLook, Dish

__all__ = [
    "HEK",
    "LOOKS",
    "N2A",
    "CellTypeLook",
    "Dish",
    "SimulatedField",
    "simulate_field",
]


@dataclasses.dataclass(frozen=True)
class SimulatedField:
    """One field of view and its ground truth.

    Attributes:
      pixels: (2, H, W) uint16 camera counts, 0-4095; nuclei, then cytoplasm.
      labels: (H, W) int32, 0 background, 1..N cells, each one 4-connected piece.
        A label covers the cell body. Neurites, spikes and haze beyond the body
        are drawn but not labelled; debris never is.
      cell_types: types of cells 1..N: cell i has the type `cell_types[i - 1]`.
    """

    pixels: np.ndarray
    labels: np.ndarray
    cell_types: tuple[str, ...]


def simulate_field(
    shares: Mapping[str, float],
    *,
    size_px: int,
    rng: np.random.Generator,
    dish: Dish,
    pixel_size_um: float = 0.325,
    cells: int | None = None,
    looks: Mapping[str, CellTypeLook] = LOOKS,
) -> SimulatedField:
    """Simulates one square field of view.

    Cells are placed in colonies. Their areas come from a power diagram limited by each
    cell's outline (Aurenhammer 1987, "Power diagrams"), and cells are drawn from the
    finished labels. The same `rng` state gives the same bytes.

    Args:
      shares: expected proportion of each type, on any positive scale.
      size_px: height and width, at least 64.
      rng: the only source of randomness.
      dish: growth and imaging conditions.
      pixel_size_um: width of a pixel in the specimen.
      cells: number of cells to place; None to draw it from the dish's density. The field
        has fewer cells if some do not fit, or if the frame cuts off nearly all of one.
      looks: looks by type; by default HEK and N2a.

    Raises:
      ValueError: if a type is unknown, shares have no positive sum, or size or count are
        out of range.
    """
    _check(shares, looks, size_px, pixel_size_um, cells)
    if cells is None:
        cells = rng.poisson(dish.cells_per_mm2 * (size_px * pixel_size_um / 1e3) ** 2)
    names = sorted(shares)
    odds = np.array([shares[name] for name in names], float)
    chosen = rng.choice(len(names), size=cells, p=odds / odds.sum())
    drawn = [names[i] for i in chosen]
    placed = placement.place(drawn, looks, size_px, pixel_size_um, rng)
    # With the margin, a cell that the frame cuts may have its nucleus outside of the frame.
    margin_px = math.ceil(14 / pixel_size_um)
    labels, kept = placement.grow(placed, size_px, margin_px, pixel_size_um, rng)
    canvas = drawing.Canvas(size_px, margin_px, pixel_size_um, rng)
    boxes = ndimage.find_objects(labels)
    for index, (cell, box) in enumerate(zip(kept, boxes, strict=False), start=1):
        drawing.draw_cell(cell, index, labels, canvas, box, rng)
    light = canvas.light(dish)
    drawing.add_debris(light, dish, pixel_size_um, rng)
    return SimulatedField(
        pixels=drawing.expose(light, dish, rng),
        labels=np.ascontiguousarray(labels[canvas.frame]),
        cell_types=tuple(cell.name for cell in kept),
    )


def _check(
    shares: Mapping[str, float],
    looks: Mapping[str, CellTypeLook],
    size_px: int,
    pixel_size_um: float,
    cells: int | None,
) -> None:
    unknown = sorted(set(shares) - set(looks))
    if unknown:
        raise ValueError(f"Unknown cell types {unknown}; known are {sorted(looks)}.")
    if not sum(shares.values()) > 0 or min(shares.values()) < 0:
        raise ValueError(f"Shares must be >= 0 with a positive sum, got {shares}.")
    if size_px < 64:
        raise ValueError(f"size_px must be at least 64, got {size_px}.")
    if not pixel_size_um > 0:
        raise ValueError(f"pixel_size_um must be positive, got {pixel_size_um}.")
    if cells is not None and cells < 0:
        raise ValueError(f"cells must be None or >= 0, got {cells}.")
