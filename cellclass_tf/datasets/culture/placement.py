"""Places simulated cells in colonies, and gives each its area in a label image."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from cellclass_tf.datasets.culture.looks import CellTypeLook

# The centre of a cell may lie this many of its radii outside of the frame.
_FRAME_OVERHANG = 0.35

_Looks = Mapping[str, CellTypeLook]


@dataclasses.dataclass(frozen=True)
class PlacedCell:
    """One cell: where it lies, and the shape of its outline.

    Attributes:
      name: its type.
      look: how its type looks.
      centre_yx: (2,) centre in pixels, from the corner of the frame.
      radius_px: radius of the disc of its area.
      aspect: ratio of the long to the short axis.
      angle: direction of the long axis in radians.
      harmonics: (4, 2) cosine and sine amplitudes of the outline, orders 2 to 5.
      branch_angles: (N,) directions in radians in which processes leave the body.
    """

    name: str
    look: CellTypeLook
    centre_yx: np.ndarray
    radius_px: float
    aspect: float
    angle: float
    harmonics: np.ndarray
    branch_angles: np.ndarray


def place(
    names: Sequence[str],
    looks: _Looks,
    size_px: int,
    pixel_size_um: float,
    rng: np.random.Generator,
) -> list[PlacedCell]:
    """Places cells colony by colony; a cell that finds no room is left out.

    Args:
      names: the type of each cell.
      looks: the look of each type by name.
      size_px: height and width of the frame.
      pixel_size_um: width of a pixel in the specimen.
      rng: the only source of randomness.
    """
    placed: list[PlacedCell] = []
    for colony in _colonies(names, looks, rng):
        members: list[PlacedCell] = []
        for name in colony:
            look = looks[name]
            area_um2 = look.area_um2 * rng.lognormal(0, look.area_log_sd)
            radius_px = math.sqrt(area_um2 / math.pi) / pixel_size_um
            centre = _beside(members, placed, look, radius_px, size_px, rng)
            if centre is None:
                continue
            cell = _new_cell(name, look, centre, radius_px, rng)
            members.append(cell)
            placed.append(cell)
    return placed


def _colonies(
    names: Sequence[str], looks: _Looks, rng: np.random.Generator
) -> list[list[str]]:
    """Groups names into colonies; some colonies of two types grow into one."""
    groups: list[list[str]] = []
    for name in sorted(set(names)):
        left = names.count(name)
        while left:
            size = min(left, int(rng.geometric(1 / looks[name].colony_cells)))
            groups.append([name] * size)
            left -= size
    order = rng.permutation(len(groups))
    colonies: list[list[str]] = []
    for group in (groups[i] for i in order):
        if colonies and colonies[-1][0] != group[0] and rng.random() < 0.4:
            joined = colonies.pop() + group
            colonies.append([joined[i] for i in rng.permutation(len(joined))])
        else:
            colonies.append(group)
    return colonies


def _beside(
    members: Sequence[PlacedCell],
    placed: Sequence[PlacedCell],
    look: CellTypeLook,
    radius_px: float,
    size_px: int,
    rng: np.random.Generator,
) -> np.ndarray | None:
    """Returns a free centre beside the colony, else anywhere in the frame, else None."""
    packing = look.packing
    low, high = -_FRAME_OVERHANG * radius_px, size_px + _FRAME_OVERHANG * radius_px
    if members:
        angles = rng.uniform(0, 2 * math.pi, (len(members), 12, 1))
        reach = [
            max(packing, m.look.packing) * (m.radius_px + radius_px) * 1.02
            for m in members
        ]
        around = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
        centres = np.array([m.centre_yx for m in members])
        spots = centres[:, None] + around * np.array(reach)[:, None, None]
        # The noise keeps colonies from all being round.
        far = np.linalg.norm(spots - centres.mean(axis=0), axis=-1)
        far = far + rng.exponential(radius_px * packing**4, far.shape)
        spots = spots.reshape(-1, 2)[np.argsort(far, axis=None)]
        found = _first_free(spots, placed, packing, radius_px, low, high)
        if found is not None:
            return found
    spots = rng.uniform(low, high, (40, 2))
    return _first_free(spots, placed, 1.35, radius_px, low, high)


def _first_free(
    spots: np.ndarray,
    placed: Sequence[PlacedCell],
    packing: float,
    radius_px: float,
    low: float,
    high: float,
) -> np.ndarray | None:
    free = ((spots > low) & (spots < high)).all(axis=1)
    if placed:
        centres = np.array([cell.centre_yx for cell in placed])
        need = np.array(
            [
                max(packing, cell.look.packing) * (cell.radius_px + radius_px)
                for cell in placed
            ]
        )
        gaps = np.linalg.norm(spots[:, None] - centres, axis=-1)
        free &= (gaps > need).all(axis=1)
    return spots[free.argmax()] if free.any() else None


def _new_cell(
    name: str,
    look: CellTypeLook,
    centre_yx: np.ndarray,
    radius_px: float,
    rng: np.random.Generator,
) -> PlacedCell:
    return PlacedCell(
        name=name,
        look=look,
        centre_yx=centre_yx,
        radius_px=radius_px,
        aspect=rng.uniform(1, look.aspect_max),
        angle=rng.uniform(0, math.pi),
        harmonics=rng.normal(0, look.outline_roughness, (4, 2))
        / np.sqrt(np.arange(1, 5))[:, None],
        branch_angles=rng.uniform(0, 2 * math.pi, rng.choice(4, p=look.neurite_odds)),
    )


def grow(
    placed: Sequence[PlacedCell],
    size_px: int,
    margin_px: int,
    pixel_size_um: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[PlacedCell]]:
    """Gives each pixel to the cell with the least power distance whose outline holds it.

    Returns:
      labels: (size + 2 margin) square int32; inside the frame each label is one
        piece, and no label lies wholly outside of it.
      kept: the placed cells of labels 1..N. Cells with less than a sixth of their
        type's median area are removed; of cells that the frame cuts, those with less
        than a tenth.
    """
    side = size_px + 2 * margin_px
    labels = np.zeros((side, side), np.int32)
    distance = np.full((side, side), np.inf, np.float32)
    # Warped coordinates make straight borders and round rims slightly wavy.
    warp = np.stack(
        [smooth_noise((side, side), 2.2 / pixel_size_um, rng) for _ in range(2)]
    )
    warp *= 0.35 / pixel_size_um
    body = np.zeros((side, side), bool)
    for index, cell in enumerate(placed, start=1):
        _claim(cell, index, labels, distance, body, warp, margin_px)
    _bridge_pockets(labels, body, placed, 3.2 / pixel_size_um)
    kept = _clean(labels, placed, margin_px, pixel_size_um)
    renumber = np.zeros(len(placed) + 1, np.int32)
    renumber[kept] = np.arange(1, len(kept) + 1)
    return renumber[labels], [placed[index - 1] for index in kept]


def _claim(
    cell: PlacedCell,
    index: int,
    labels: np.ndarray,
    distance: np.ndarray,
    body: np.ndarray,
    warp: np.ndarray,
    margin_px: int,
) -> None:
    """Labels the pixels nearest to `cell`; `body` marks those within its own outline."""
    centre = cell.centre_yx + margin_px
    half = 2.3 * cell.radius_px
    box = tuple(
        slice(max(0, int(middle - half)), min(side, int(middle + half) + 1))
        for middle, side in zip(centre, labels.shape, strict=True)
    )
    y, x = np.ogrid[box]
    y, x = y - centre[0] + warp[0][box], x - centre[1] + warp[1][box]
    sin, cos = math.sin(cell.angle), math.cos(cell.angle)
    along = (x * cos + y * sin) / math.sqrt(cell.aspect)
    across = (y * cos - x * sin) * math.sqrt(cell.aspect)
    outline, cones = _outline(cell, y, x)
    reach_px = cell.radius_px * (cell.look.spread * outline + cones)
    square = along**2 + across**2
    power = square - (cell.radius_px * outline) ** 2
    beyond = 1 + 0.35 * cell.look.cohesion
    won = (square < (beyond * reach_px) ** 2) & (power < distance[box])
    distance[box][won] = power[won]
    labels[box][won] = index
    body[box][won] = (square < reach_px**2)[won]


def _outline(
    cell: PlacedCell, y: np.ndarray, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the relative reach in each direction, and the cones that branches add."""
    ray = x + 1j * y
    ray = (ray / np.maximum(np.abs(ray), 1e-6)).astype(np.complex64)
    outline = np.ones(ray.shape, np.float32)
    turned = ray
    for even, odd in cell.harmonics:
        turned = turned * ray
        outline += even * turned.real + odd * turned.imag
    cones = np.zeros_like(outline)
    for angle in cell.branch_angles:
        alignment = ray.real * math.cos(angle) + ray.imag * math.sin(angle)
        # A von Mises bump about 0.3 radians wide.
        cones += 0.32 * np.exp((alignment - 1) / 0.045)
    return outline, cones


def _bridge_pockets(
    labels: np.ndarray,
    body: np.ndarray,
    placed: Sequence[PlacedCell],
    sigma_px: float,
) -> None:
    """Keeps pixels beyond the bodies only where cohesive neighbours surround them."""
    cohesion = np.array([0, *(cell.look.cohesion for cell in placed)], np.float32)
    weight = cohesion[labels]
    surrounded = ndimage.gaussian_filter(weight * body, sigma_px, truncate=2.5) > 0.45
    labels[~body & ~(surrounded & (weight > 0))] = 0


def _clean(
    labels: np.ndarray,
    placed: Sequence[PlacedCell],
    margin_px: int,
    pixel_size_um: float,
) -> list[int]:
    """Erases stray pieces inside the frame; returns the labels that are large enough."""
    inner = slice(margin_px, labels.shape[0] - margin_px)
    frame = labels[inner, inner]
    kept: list[int] = []
    for index, box in enumerate(ndimage.find_objects(frame), start=1):
        if box is None:
            continue
        pieces, count = ndimage.label(frame[box] == index)
        areas_px = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
        stray = (pieces > 0) & (pieces != areas_px.argmax() + 1)
        frame[box][stray] = 0
        is_cut = any(s.start == 0 or s.stop == frame.shape[0] for s in box)
        typical_px = placed[index - 1].look.area_um2 / pixel_size_um**2
        if areas_px.max() >= typical_px / (10 if is_cut else 6):
            kept.append(index)
    return kept


def smooth_noise(
    shape: tuple[int, int], sigma_px: float, rng: np.random.Generator
) -> np.ndarray:
    """Draws a Gaussian random field of unit variance and about that correlation length.

    Returns:
      float32 array of `shape`.
    """
    # Coarse noise is drawn on a coarse grid: the same look at a fraction of the cost.
    step = max(1, int(sigma_px / 2))
    coarse = [-(-side // step) + 1 for side in shape]
    noise = rng.standard_normal(coarse, np.float32)
    noise = ndimage.gaussian_filter(noise, sigma_px / step)
    noise /= noise.std() + 1e-6
    if step > 1:
        noise = ndimage.zoom(noise, step, order=1)
    return noise[: shape[0], : shape[1]]
