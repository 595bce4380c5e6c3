"""Compares simulated HEK fields with a real one, by measurements and in a picture.

    python -m experiments.benchmarks.realism --hek=HEK.png --hek_labels=LABELS.png \
        --weights=WEIGHTS --output=docs/simulated_beside_real.png

HEK.png is a merged image (green cytoplasm, blue nuclei), and LABELS.png has its reference cells.
Simulated fields, each from a dish of its own, are converted like those of a study and then reduced
from 1104 to 844 px, as the real one was. In both kinds of field, cells are outlined by cellpose, so
that the outlines make no difference. Two more columns show the measurements inside reference and
true outlines.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np
from absl import app, flags
from PIL import Image
from scipy import ndimage

import cellclass_tf as cc
from cellclass_tf.datasets import simulation
from cellclass_tf.drawing import caption, picture
from cellclass_tf.labels import matching, sizes
from cellclass_tf.storage import png
from experiments.benchmarks.fields import (
    REAL_HEK_PIXEL_SIZE_UM,
    SHRUNK_PX,
    SIZE_PX,
    contiguous,
)

CROP_PX = 400
GREEN, BLUE = 1, 2
# Cells with at most this distance are neighbours.
TOUCHING_PX = 3
CELL_TILE_PX, EMPTY_TILE_PX = 128, 64

_HEK = flags.DEFINE_string("hek", None, "Merged image of a real field.", required=True)
_LABELS = flags.DEFINE_string(
    "hek_labels", None, "Label image of its reference cells.", required=True
)
_WEIGHTS = flags.DEFINE_string("weights", None, "Weights of cellpose 3.", required=True)
_OUTPUT = flags.DEFINE_string(
    "output", "", "PNG to write: a simulated field beside the real one."
)
_FIELDS = flags.DEFINE_integer("fields", 6, "Number of simulated fields.")
_SEED = flags.DEFINE_integer("seed", 100, "Random seed of the simulated fields.")
_CORNERS = flags.DEFINE_list(
    "corners", ["444", "444"], "Top and left of the real field's crop in the picture."
)

Field = tuple[np.ndarray, np.ndarray]


def simulated(folder: pathlib.Path, count: int, seed: int) -> list[Field]:
    """Simulates, converts and reduces HEK fields.

    Returns:
      (844, 844, 3) uint8 merged images and their (844, 844) int32 true labels.
    """
    dishes = [("HEK", number + 1) for number in range(count)]
    numbers = {"images_per_type": count, "mixed": 0, "dishes": count, "seed": seed}
    cc.simulate(folder, size=SIZE_PX, only=dishes, **numbers)
    cc.convert(folder / "raw", folder, group=simulation.GROUP_PATTERN)
    fields = []
    for path in sorted((folder / "images/HEK").glob("*.png")):
        truth = cc.Cells.read(folder / f"truth/HEK/{path.stem}.tif", ("HEK", "N2a"))
        fields.append((shrunk(png.read_png(path)), shrunk(truth.labels)))
    return fields


def shrunk(plane: np.ndarray) -> np.ndarray:
    """Reduces an image (bicubic) or a label image (nearest neighbour)."""
    how = Image.Resampling.BICUBIC if plane.ndim == 3 else Image.Resampling.NEAREST
    small = Image.fromarray(plane).resize((SHRUNK_PX, SHRUNK_PX), how)
    return np.asarray(small) if plane.ndim == 3 else contiguous(np.asarray(small))


def mean_diameter_px(labels: np.ndarray) -> float:
    """Returns the mean diameter of the cells."""
    return float(np.mean(sizes.diameters_of(sizes.areas_of(labels))))


def figures(image: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Measures one field; brightness is relative to the background.

    Args:
      image: (H, W, 3) uint8, merged.
      labels: (H, W) int32, cells 1 to N.
    """
    found = shapes(labels)
    outside_px = ndimage.distance_transform_edt(labels == 0)
    empty = outside_px > found["cell diameter, median (px)"]
    light = {}
    for channel, name in ((GREEN, "cytoplasm"), (BLUE, "nuclei")):
        plane = image[..., channel].astype(np.float32)
        level = float(np.median(plane[empty]))
        plane -= level
        unit = float(np.median(means(plane, labels)))
        light[name] = plane / unit
        found[f"{name}: background level over cells"] = level / unit
    nuclei = nuclei_of(light["nuclei"], labels)
    whole = whole_cells(labels)
    share = areas_px(nuclei, labels.max()) / areas_px(labels, labels.max())
    share = share[whole]
    found["nucleus area over cell area, median"] = float(np.median(share))
    found["nucleus area over cell area, IQR"] = float(np.ptp(quartiles(share)))
    for name, plane in light.items():
        told = brightness(plane, labels, outside_px, empty)
        found |= {f"{name}: {key}": value for key, value in told.items()}
    found |= inner_contrast(light["cytoplasm"], light["nuclei"], labels, nuclei)
    return found


def shapes(labels: np.ndarray) -> dict[str, float]:
    """Measures diameters of whole cells, and numbers of neighbours of all cells."""
    diameters = sizes.diameters_of(areas_px(labels, labels.max())[whole_cells(labels)])
    low, high = quartiles(diameters)
    near = neighbours(labels)
    return {
        "cells": float(labels.max()),
        "cell diameter, median (px)": float(np.median(diameters)),
        "cell diameter, IQR over median": float((high - low) / np.median(diameters)),
        "neighbours, mean": float(near.mean()),
        "cells without a neighbour": float((near == 0).mean()),
        "cells with five or more": float((near >= 5).mean()),
    }


def neighbours(labels: np.ndarray) -> np.ndarray:
    """Returns the number of other cells within TOUCHING_PX of each cell, (N,)."""
    pairs = set()
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        wide = tuple(slice(max(s.start - 5, 0), s.stop + 5) for s in box)
        away = ndimage.distance_transform_edt(labels[wide] != index)
        for other in np.unique(labels[wide][away <= TOUCHING_PX + 1]):
            pairs |= {(index, int(other)), (int(other), index)}
    firsts = [one for one, other in pairs if other > 0 and one > 0 and one != other]
    return np.bincount(firsts, minlength=labels.max() + 1)[1:]


def nuclei_of(light: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the labels of nuclei, (H, W), by Otsu's threshold in each cell."""
    from skimage import filters

    smooth = ndimage.gaussian_filter(light, 1)
    nuclei = np.zeros_like(labels)
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        mask = labels[box] == index
        bright = mask & (smooth[box] > filters.threshold_otsu(smooth[box][mask]))
        bright = ndimage.binary_opening(bright, iterations=2)
        pieces, count = ndimage.label(bright)
        if count:
            largest = np.bincount(pieces[pieces > 0]).argmax()
            filled = ndimage.binary_fill_holes(pieces == largest)
            nuclei[box][filled & mask] = index
    return nuclei


def brightness(
    light: np.ndarray, labels: np.ndarray, outside_px: np.ndarray, empty: np.ndarray
) -> dict[str, float]:
    """Measures profile, spread, rim, background and spectrum of a channel."""
    found = {}
    for number, value in enumerate(radial_profile(light, labels), start=1):
        found[f"profile, fifth {number} from the border"] = value
    low, high = quartiles(means(light, labels))
    found["spread between cells, upper over lower quartile"] = float(high / low)
    for low, high in ((3, 6), (10, 16)):
        ring = (outside_px >= low) & (outside_px < high)
        found[f"glow {low} to {high} px outside"] = float(light[ring].mean())
    steep = ndimage.gaussian_gradient_magnitude(light, 0.7)
    steep = ndimage.maximum_filter(steep, 9)
    found["steepness of the free rim (1/px)"] = float(np.median(steep[outside_px == 1]))
    slow = ndimage.gaussian_filter(light, 8)
    found["background, spread of its level"] = float(slow[empty].std())
    rest = light - ndimage.gaussian_filter(light, 2)
    found["background, noise (sd)"] = float(rest[empty].std())
    return found | spectrum(light, labels, outside_px)


def radial_profile(light: np.ndarray, labels: np.ndarray, parts: int = 5) -> np.ndarray:
    """Returns the mean light, (parts,), from border to middle of whole cells; mean 1."""
    rows, boxes = [], ndimage.find_objects(labels)
    for index in whole_cells(labels) + 1:
        box = boxes[index - 1]
        mask = np.pad(labels[box] == index, 1)
        depth = ndimage.distance_transform_edt(mask)[1:-1, 1:-1]
        mask = mask[1:-1, 1:-1]
        part = np.minimum((depth[mask] / depth.max() * parts).astype(int), parts - 1)
        inside = light[box][mask]
        sums = np.bincount(part, inside, minlength=parts)
        mean = sums / np.maximum(np.bincount(part, minlength=parts), 1)
        if inside.mean() > 0:
            rows.append(mean / inside.mean())
    return np.mean(rows, axis=0)


def spectrum(
    light: np.ndarray, labels: np.ndarray, outside_px: np.ndarray
) -> dict[str, float]:
    """Measures the radially averaged power of tiles with cells and of background tiles."""
    filled = power(light, labels > 0, CELL_TILE_PX, lambda share: share > 0.3)
    frequency = np.arange(len(filled)) / CELL_TILE_PX
    middle = (frequency >= 1 / 32) & (frequency <= 1 / 6)
    slope = np.polyfit(np.log(frequency[middle]), np.log(filled[middle]), 1)[0]
    rings = frequency * filled
    found = {
        "spectrum of cells, slope": float(slope),
        "spectrum of cells, power at periods below 6 px": float(
            rings[frequency > 1 / 6].sum() / rings[frequency >= 1 / 32].sum()
        ),
    }
    noise = power(light, outside_px < 20, EMPTY_TILE_PX, lambda share: share == 0)
    frequency = np.arange(len(noise)) / EMPTY_TILE_PX
    rings = frequency * noise
    found["spectrum of background, power at periods below 4 px"] = float(
        rings[frequency > 1 / 4].sum() / rings[frequency >= 1 / 16].sum()
    )
    return found


def power(light: np.ndarray, mask: np.ndarray, side: int, wanted) -> np.ndarray:
    """Returns the mean power, (side / 2,), by periods per tile, over the wanted tiles."""
    window = np.hanning(side)[:, None] * np.hanning(side)
    y, x = np.indices((side, side)) - side // 2
    ring = np.rint(np.hypot(y, x)).astype(int).ravel()
    total = np.zeros(side // 2)
    for top in range(0, light.shape[0] - side + 1, side // 2):
        for left in range(0, light.shape[1] - side + 1, side // 2):
            tile = np.s_[top : top + side, left : left + side]
            if wanted(mask[tile].mean()):
                part = (light[tile] - light[tile].mean()) * window
                found = np.abs(np.fft.fftshift(np.fft.fft2(part))) ** 2
                sums = np.bincount(ring, found.ravel()) / np.bincount(ring)
                total += sums[: side // 2]
    return total


def inner_contrast(
    cytoplasm: np.ndarray, nuclear: np.ndarray, labels: np.ndarray, nuclei: np.ndarray
) -> dict[str, float]:
    """Measures texture of cells and nuclei, and their contrast to what is beside them."""
    between = ndimage.maximum_filter(labels, 3) != labels
    between &= (labels > 0) & (ndimage.minimum_filter(labels, 3) > 0)
    ridge = ndimage.maximum_filter(cytoplasm, 5)
    inside = means(cytoplasm, labels)
    beside = np.where(nuclei == 0, labels, 0)
    ratio = means(nuclear, nuclei, labels.max()) / means(nuclear, beside, labels.max())
    ratio = ratio[np.isfinite(ratio) & (ratio > 0)]
    return {
        "cytoplasm: border between cells over cell": float(
            np.median(ridge[between] / inside[labels[between] - 1])
        ),
        "cytoplasm: contrast in a cell (sd over mean)": variation(cytoplasm, labels),
        "nuclei: contrast in a nucleus (sd over mean)": variation(nuclear, nuclei),
        "nuclei: nucleus over the rest of the cell": float(np.median(ratio)),
    }


def variation(light: np.ndarray, labels: np.ndarray) -> float:
    """Returns the median coefficient of variation in the cells."""
    index = np.flatnonzero(areas_px(labels, labels.max())) + 1
    mean = ndimage.mean(light, labels, index)
    return float(np.median(ndimage.standard_deviation(light, labels, index) / mean))


def means(light: np.ndarray, labels: np.ndarray, count: int | None = None):
    """Returns the mean light of each cell, (N,); NaN without a pixel."""
    count = int(labels.max()) if count is None else int(count)
    sums = np.bincount(labels.ravel(), light.ravel(), minlength=count + 1)[1:]
    with np.errstate(invalid="ignore"):
        return sums / areas_px(labels, count)


def areas_px(labels: np.ndarray, count: int) -> np.ndarray:
    """Returns the areas of the cells 1 to `count`, (N,)."""
    return np.bincount(labels.ravel(), minlength=int(count) + 1)[1:]


def whole_cells(labels: np.ndarray) -> np.ndarray:
    """Returns the indices, counted from 0, of cells that do not touch the border."""
    edges = [labels[0], labels[-1], labels[:, 0], labels[:, -1]]
    return np.setdiff1d(np.arange(1, labels.max() + 1), np.concatenate(edges)) - 1


def quartiles(values: np.ndarray) -> np.ndarray:
    """Returns the lower and upper quartile."""
    return np.percentile(values, (25, 75))


def table(columns: dict[str, list[dict[str, float]]]) -> str:
    """Returns a table: rows are measurements, cells are mean ± sd over fields."""
    lines = [
        "| measurement | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in next(iter(columns.values()))[0]:
        values = [[field[name] for field in fields] for fields in columns.values()]
        lines.append(f"| {name} | " + " | ".join(map(_cell, values)) + " |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    places = 1 if abs(np.mean(values)) >= 10 else 2 if abs(np.mean(values)) >= 1 else 3
    text = f"{np.mean(values):.{places}f}"
    return text if len(values) == 1 else f"{text} ± {np.std(values):.{places}f}"


def crowded_corner(labels: np.ndarray) -> tuple[int, int]:
    """Returns the corner of a crop of which cells cover about 40 %."""
    share = ndimage.uniform_filter((labels > 0).astype(np.float32), CROP_PX)
    half = CROP_PX // 2
    inner = np.abs(share[half:-half, half:-half] - 0.4)
    top, left = np.unravel_index(inner.argmin(), inner.shape)
    return int(top), int(left)


def panel(image: np.ndarray, corner: Sequence[int], name: str) -> np.ndarray:
    """Draws a crop with its caption, enlarged twice."""
    crop = np.s_[corner[0] : corner[0] + CROP_PX, corner[1] : corner[1] + CROP_PX]
    shown = picture.brighten(image)[crop].repeat(2, axis=0).repeat(2, axis=1)
    below = caption.draw(shown, name, (), REAL_HEK_PIXEL_SIZE_UM / 2)
    return np.concatenate([shown, below])


def main(_: list[str]) -> None:
    """Prints the table and writes the picture."""
    real = png.read_png(_HEK.value)
    reference = contiguous(png.read_png(_LABELS.value))
    with tempfile.TemporaryDirectory() as folder:
        drawn = simulated(pathlib.Path(folder), _FIELDS.value, _SEED.value)
    finder = cc.CellposeAnnotator(_WEIGHTS.value)
    found = [finder.annotate(i, mean_diameter_px(true)).labels for i, true in drawn]
    of_real = finder.annotate(real, mean_diameter_px(reference)).labels
    columns = {
        "real": [figures(real, of_real)],
        "simulated": [
            figures(image, labels)
            for (image, _), labels in zip(drawn, found, strict=True)
        ],
        "real, reference outlines": [figures(real, reference)],
        "simulated, true outlines": [figures(*pair) for pair in drawn],
    }
    print(table(columns))
    for iou in (0.5, 0.75):
        scores = [
            matching.threat_score(true, labels, iou)
            for (_, true), labels in zip(drawn, found, strict=True)
        ]
        on_real = matching.threat_score(reference, of_real, iou)
        print(
            f"cellpose, AP at IoU {iou}: simulated {np.mean(scores):.3f} "
            f"({min(scores):.3f} to {max(scores):.3f}), real against the reference "
            f"{on_real:.3f}"
        )
    if _OUTPUT.value:
        corner = tuple(int(number) for number in _CORNERS.value)
        image, true = drawn[0]
        panels = [
            panel(image, crowded_corner(true), "simulated HEK cells"),
            panel(real, corner, "real HEK cells"),
        ]
        png.write_png(_OUTPUT.value, picture.side_by_side(panels))


if __name__ == "__main__":
    app.run(main)
