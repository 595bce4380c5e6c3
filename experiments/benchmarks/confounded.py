"""Measures the effect of `simulate --confounded` on pure fields, before and after conversion.

    python -m experiments.benchmarks.confounded

There is one field of 512 px per dish. For each confounded quality, and for none, the table shows
the means over the dishes of HEK and of N2a, and the probability that a HEK dish has a larger
value than an N2a dish: 0.5 says nothing about the type, and 0 or 1 determines it.
"""

from __future__ import annotations

import pathlib
import tempfile

import numpy as np
from absl import app, flags
from scipy import ndimage

import cellclass_tf as cc
from cellclass_tf.datasets import simulation
from cellclass_tf.datasets.culture import looks
from cellclass_tf.storage import png

SIZE_PX = 512
TYPES = simulation.CELL_TYPES

_DISHES = flags.DEFINE_integer("dishes", 16, "Number of dishes per type.")
_SEED = flags.DEFINE_integer("seed", 200, "Random seed of the simulated fields.")


def figures(raw: np.ndarray, merged: np.ndarray, labels: np.ndarray) -> dict:
    """Measures a field.

    Args:
      raw: (2, H, W) uint16 counts, nuclei and cytoplasm.
      merged: (H, W, 3) uint8 of the same field.
      labels: (H, W) int32, cells 1 to N.
    """
    outside_px = ndimage.distance_transform_edt(labels == 0)
    empty, inside = outside_px > 30, labels > 0
    green, blue = merged[..., 1].astype(float), merged[..., 2].astype(float)
    cell = green[inside].mean() - np.median(green[empty])
    slope = ndimage.maximum_filter(ndimage.gaussian_gradient_magnitude(green, 0.7), 9)
    return {
        "cytoplasm, raw counts": raw[1][inside].mean() - np.median(raw[1][empty]),
        "cytoplasm, grey": cell,
        "nuclei, grey": blue[inside].mean() - np.median(blue[empty]),
        "noise of background, grey": noise(green)[empty].std(),
        "steepness of rim, 1/px": np.median(slope[outside_px == 1]) / cell,
        "cells per mm²": labels.max() / (SIZE_PX * simulation.PIXEL_SIZE_UM / 1e3) ** 2,
    }


def noise(plane: np.ndarray) -> np.ndarray:
    """Returns what a Gaussian filter of 2 px removes."""
    return plane - ndimage.gaussian_filter(plane, 2)


def measured(folder: pathlib.Path, confounded: str) -> dict[str, dict[str, np.ndarray]]:
    """Returns, by measurement and type, the values of all dishes."""
    count = _DISHES.value
    numbers = {"images_per_type": count, "mixed": 0, "dishes": count}
    cc.simulate(
        folder, size=SIZE_PX, seed=_SEED.value, confounded=confounded, **numbers
    )
    cc.convert(folder / "raw", folder, group=simulation.GROUP_PATTERN)
    found: dict[str, dict[str, list]] = {}
    for name in TYPES:
        for path in sorted((folder / "truth" / name).glob("*.tif")):
            raw = cc.read_micrograph(folder / f"raw/{name}/{path.stem}.ome.tif")
            merged = png.read_png(folder / f"images/{name}/{path.stem}.png")
            labels = cc.Cells.read(path, TYPES).labels
            for key, value in figures(raw.pixels, merged, labels).items():
                found.setdefault(key, {n: [] for n in TYPES})[name].append(value)
    return {k: {n: np.array(v) for n, v in d.items()} for k, d in found.items()}


def cell(values: dict[str, np.ndarray]) -> str:
    """Returns the text of a table cell: means of both types, and the probability."""
    one, other = values.values()
    chance = (one[:, None] > other).mean()
    return f"{one.mean():.3g}, {other.mean():.3g} ({chance:.2f})"


def main(_: list[str]) -> None:
    """Prints a table with a row for each confounded quality."""
    for confounded in ("", *looks.QUALITIES):
        with tempfile.TemporaryDirectory() as folder:
            found = measured(pathlib.Path(folder), confounded)
        if not confounded:
            print(f"| confounded ({', '.join(TYPES)}) | " + " | ".join(found) + " |")
            print("|---" * (len(found) + 1) + "|")
        row = " | ".join(cell(values) for values in found.values())
        print(f"| {confounded or 'nothing'} | {row} |", flush=True)


if __name__ == "__main__":
    app.run(main)
