"""Draws labelled cells into two light planes and exposes them to a camera."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from cellclass_tf.datasets.culture.looks import Dish
from cellclass_tf.datasets.culture.placement import PlacedCell, smooth_noise

CAMERA_MAX_COUNTS = 4095
_INK_DOTS_PER_PX = 6
# Haze of each channel relative to that of the dish. In the real field of
# docs/simulation.md, nuclei have more haze than cytoplasm.
_HAZE_OF_CHANNEL = (1.4, 1)

# The rows and columns of a cell's bounding box.
_Box = tuple[slice, slice]


class Canvas:
    """Light planes that are larger than the frame by a margin on every side."""

    def __init__(
        self,
        size_px: int,
        margin_px: int,
        pixel_size_um: float,
        rng: np.random.Generator,
    ) -> None:
        side = size_px + 2 * margin_px
        self.shape = (side, side)
        self.frame = (slice(margin_px, margin_px + size_px),) * 2
        self.margin_px = margin_px
        self.px_per_um = 1 / pixel_size_um
        self.planes = np.zeros((2, *self.shape), np.float32)
        self.fine, self.grain, self.slow = (
            smooth_noise(self.shape, sigma_um * self.px_per_um, rng)
            for sigma_um in (0.35, 0.9, 2.5)
        )
        self._ink: list[tuple[np.ndarray, ...]] = []

    def ink(self, y_px: np.ndarray, x_px: np.ndarray, amount: np.ndarray) -> None:
        """Adds dots of cytoplasm stain; those outside of the canvas are lost."""
        self._ink.append(tuple(np.broadcast_arrays(y_px, x_px, amount)))

    def stroke(
        self,
        path_yx: np.ndarray,
        width_px: float,
        tip_um: float,
        tone: float,
        rng: np.random.Generator,
    ) -> None:
        """Adds a beaded line along `path_yx` that tapers from `width_px` at its root."""
        steps = len(path_yx)
        progress = np.linspace(0, 1, steps)
        tip_px = tip_um * self.px_per_um
        widths = tip_px + np.maximum(width_px - tip_px, 0) * np.exp(-3 * progress)
        along = np.gradient(path_yx, axis=0)
        dots = math.ceil(_INK_DOTS_PER_PX * max(width_px, tip_px))
        offset, slide = rng.uniform(-0.5, 0.5, (2, dots, steps))
        offset *= widths
        y = path_yx[:, 0] + offset * along[:, 1] + slide * along[:, 0]
        x = path_yx[:, 1] - offset * along[:, 0] + slide * along[:, 1]
        bead = 1 + 0.5 * np.sin(rng.uniform(0, 6.3) + np.arange(steps) / 4) ** 4
        amount = tone * bead * (1 - 0.5 * progress) * widths / dots
        self.ink(y.ravel(), x.ravel(), np.broadcast_to(amount, y.shape).ravel())

    def light(self, dish: Dish) -> np.ndarray:
        """Returns the light of the stained cells in the frame, (2, H, W) counts."""
        planes = self.planes.copy()
        if self._ink:
            y, x, amount = (
                np.concatenate(part) for part in zip(*self._ink, strict=True)
            )
            y, x = np.rint(y).astype(int), np.rint(x).astype(int)
            side = self.shape[0]
            on = (y >= 0) & (y < side) & (x >= 0) & (x < side)
            flat = np.bincount((y * side + x)[on], amount[on], minlength=side * side)
            planes[1] += flat.reshape(self.shape)
        sharp = [
            ndimage.gaussian_filter(plane, dish.blur_um * self.px_per_um)
            for plane in planes
        ]
        light = np.stack(
            [
                plane + haze * dish.haze * (self._haze(plane) - plane)
                for plane, haze in zip(sharp, _HAZE_OF_CHANNEL, strict=True)
            ]
        )
        gain = np.array(dish.stain_gain_counts, np.float32)[:, None, None]
        return light[(slice(None), *self.frame)] * gain

    def _haze(self, plane: np.ndarray) -> np.ndarray:
        """Returns light from out-of-focus planes, blurred at a quarter of the size."""
        side = plane.shape[0]
        pad = -side % 4
        padded = np.pad(plane, (0, pad))
        small = padded.reshape((side + pad) // 4, 4, -1, 4).mean(axis=(1, 3))
        near = ndimage.gaussian_filter(small, 3.5 * self.px_per_um / 4)
        wide = ndimage.gaussian_filter(near, 9 * self.px_per_um / 4)
        return ndimage.zoom(0.7 * near + 0.3 * wide, 4, order=1)[:side, :side]


def draw_cell(
    cell: PlacedCell,
    index: int,
    labels: np.ndarray,
    canvas: Canvas,
    box: _Box,
    rng: np.random.Generator,
) -> None:
    """Draws label `index`, whose bounding box is `box`, in both channels."""
    look = cell.look
    mask = np.pad(labels[box] == index, 1)
    # The mask is padded and cropped, since the border of the field is not a border of cells.
    depth_px = ndimage.distance_transform_edt(mask)[1:-1, 1:-1].astype(np.float32)
    mask = mask[1:-1, 1:-1]
    spots = np.argwhere(mask)
    order = np.argsort(-depth_px[mask], kind="stable")
    deep = spots[order[: max(1, len(order) // 4)]]
    profile, chromatin = _nucleus(cell, spots, deep, depth_px, canvas, box, rng)
    canvas.planes[0][box] += profile * chromatin
    body = _cytoplasm(cell, depth_px, canvas, box, rng)
    body *= 1 - look.nucleus_shadow * profile
    canvas.planes[1][box] += body * mask
    _add_puncta(cell, spots, canvas, box, rng)
    _add_rim(cell, index, labels, canvas, box, rng)
    for angle in cell.branch_angles:
        _add_neurite(cell, index, angle, labels, canvas, rng)


def _cytoplasm(
    cell: PlacedCell,
    depth_px: np.ndarray,
    canvas: Canvas,
    box: _Box,
    rng: np.random.Generator,
) -> np.ndarray:
    look = cell.look
    brightness = look.brightness * rng.lognormal(0, look.brightness_log_sd)
    rise = 1 - np.exp(-depth_px / (0.3 * cell.radius_px))
    body = 1 - look.dome * (1 - rise)
    body *= 1 + look.granularity * (0.6 * canvas.grain[box] + 0.5 * canvas.fine[box])
    width_px = look.edge_width_um * canvas.px_per_um
    edge = np.exp(-(((depth_px - 0.5) / width_px) ** 2) / 2)
    patchy = 0.9 + 0.45 * canvas.slow[box] + 0.3 * canvas.grain[box]
    edge *= look.edge_gain * rng.lognormal(0, 0.25) * np.maximum(patchy, 0.35)
    return brightness * (np.maximum(body, 0.1) + edge)


def _nucleus(
    cell: PlacedCell,
    spots: np.ndarray,
    deep: np.ndarray,
    depth_px: np.ndarray,
    canvas: Canvas,
    box: _Box,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the nucleus (0 to 1) and its brightness over the cell's bounding box."""
    look = cell.look
    centre = 0.5 * spots.mean(axis=0) + 0.5 * deep.mean(axis=0)
    centre = centre + rng.normal(0, 0.06 * cell.radius_px, 2)
    spread, axes = np.linalg.eigh(np.cov(spots.T) + np.eye(2))
    area_px = look.nucleus_share * rng.lognormal(0, 0.16) * len(spots)
    ratio = min(max((spread[1] / spread[0]) ** 0.35, rng.uniform(1.05, 1.3)), 1.7)
    minor = min(math.sqrt(area_px / math.pi / ratio), 0.88 * float(depth_px.max()))
    major = min(minor * ratio, area_px / math.pi / minor)
    rows, columns = np.ogrid[: depth_px.shape[0], : depth_px.shape[1]]
    y, x = rows - centre[0], columns - centre[1]
    along = (y * axes[0, 1] + x * axes[1, 1]) / major
    across = (y * axes[0, 0] + x * axes[1, 0]) / minor
    bend = 1 + 0.05 * canvas.slow[box]
    reach = np.sqrt(along**2 + across**2) * bend
    soft_px = canvas.px_per_um * rng.uniform(0.6, 1.9)
    profile = np.clip((1 - reach) * minor / soft_px + 0.5, 0, 1)
    profile *= np.clip((depth_px - 1) / soft_px, 0, 1)
    brightness = look.nucleus_brightness * rng.lognormal(0, look.brightness_log_sd)
    mottle = 1 + look.nucleus_mottle * (canvas.grain[box] + 0.5 * canvas.slow[box])
    chromatin = mottle * (0.75 + 0.25 * np.sqrt(np.clip(1 - reach**2, 0, 1)))
    place = along, across, minor / canvas.px_per_um, rng
    chromatin += _dots(rng.poisson(2), -0.3, 0.9, *place)
    # Every mouse nucleus has chromocentres.
    count = 3 + rng.poisson(look.chromocentres - 3) if look.chromocentres else 0
    chromatin += _dots(count, look.chromocentre_gain, 0.6, *place)
    return profile, brightness * np.maximum(chromatin, 0.2)


def _dots(
    count: int,
    gain: float,
    sigma_um: float,
    along: np.ndarray,
    across: np.ndarray,
    nucleus_um: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns round spots in the nucleus's own coordinates, in units of `nucleus_um`."""
    total = np.zeros(np.broadcast(along, across).shape, np.float32)
    for _ in range(count):
        angle, reach = rng.uniform(0, 2 * math.pi), 0.82 * math.sqrt(rng.random())
        square = (along - reach * math.cos(angle)) ** 2
        square = square + (across - reach * math.sin(angle)) ** 2
        sigma = sigma_um / nucleus_um * rng.uniform(0.75, 1.4)
        total += gain * rng.uniform(0.6, 1.3) * np.exp(-square / (2 * sigma**2))
    return total


def _add_puncta(
    cell: PlacedCell,
    spots: np.ndarray,
    canvas: Canvas,
    box: _Box,
    rng: np.random.Generator,
) -> None:
    count = rng.poisson(cell.look.puncta)
    at = spots[rng.integers(len(spots), size=count)] + [s.start for s in box]
    amount = rng.lognormal(1.3, 0.5, count)
    canvas.ink(at[:, 0], at[:, 1], amount)


def _add_rim(
    cell: PlacedCell,
    index: int,
    labels: np.ndarray,
    canvas: Canvas,
    box: _Box,
    rng: np.random.Generator,
) -> None:
    """Adds ruffles and tufts of spikes where the rim faces no other cell."""
    look = cell.look
    wide = tuple(slice(max(s.start - 2, 0), s.stop + 2) for s in box)
    around = labels[wide]
    near_empty = ndimage.binary_dilation(around == 0, iterations=2)
    rim = np.argwhere(near_empty & (around == index)) + [s.start for s in wide]
    if len(rim) == 0:
        return
    rim_um = len(rim) / 2 / canvas.px_per_um
    folds = rim[rng.integers(len(rim), size=rng.poisson(2 * rim_um))]
    folds = folds + rng.normal(0, 0.6 * canvas.px_per_um, folds.shape)
    amount = look.ruffle * rng.lognormal(0.5, 0.7, len(folds))
    canvas.ink(folds[:, 0], folds[:, 1], amount)
    centre = cell.centre_yx + canvas.margin_px
    for _ in range(rng.poisson(look.spikes_per_um * rim_um / 4)):
        root = rim[rng.integers(len(rim))]
        out = math.atan2(*(root - centre))
        for _ in range(1 + rng.poisson(3)):
            start = root + rng.normal(0, 0.9 * canvas.px_per_um, 2)
            length_px = (0.8 + rng.exponential(1.4)) * canvas.px_per_um
            path = _wander(start, out + rng.normal(0, 0.45), length_px, 0.04, rng)
            width_px = rng.uniform(0.6, 2) * canvas.px_per_um
            canvas.stroke(path, width_px, 0.4, rng.uniform(0.4, 1), rng)


def _add_neurite(
    cell: PlacedCell,
    index: int,
    angle: float,
    labels: np.ndarray,
    canvas: Canvas,
    rng: np.random.Generator,
) -> None:
    """Adds a winding process that leaves the body at `angle` and tapers.

    It ends where it meets a neighbour.
    """
    way = np.arange(0, 2 * cell.radius_px, 0.5)[:, None]
    ray = cell.centre_yx + canvas.margin_px + way * [math.sin(angle), math.cos(angle)]
    own = np.flatnonzero(_labels_at(ray, labels) == index)
    if len(own) == 0:
        return
    length_px = cell.look.neurite_um * rng.gamma(4, 0.25) * canvas.px_per_um
    path = _wander(ray[own[-1]], angle, length_px, 0.07, rng)
    foreign = ~np.isin(_labels_at(path, labels), (0, index))
    if foreign.any():
        path = path[: foreign.argmax()]
    width_px = rng.uniform(1.6, 2.8) * canvas.px_per_um
    if len(path) > width_px:
        canvas.stroke(path, width_px, 0.8, 0.75 * cell.look.brightness, rng)


def _labels_at(points_yx: np.ndarray, labels: np.ndarray) -> np.ndarray:
    at = np.rint(np.clip(points_yx, 0, labels.shape[0] - 1)).astype(int)
    return labels[at[:, 0], at[:, 1]]


def _wander(
    start_yx: np.ndarray,
    angle: float,
    length_px: float,
    turn: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns a winding path: (steps, 2) points, one pixel apart.

    The direction changes at each step by a normal number with standard deviation `turn`,
    in radians.
    """
    angles = angle + np.cumsum(rng.normal(0, turn, max(2, int(length_px))))
    steps = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return start_yx + np.cumsum(steps, axis=0) - steps[0]


def add_debris(
    light: np.ndarray, dish: Dish, pixel_size_um: float, rng: np.random.Generator
) -> None:
    """Adds bright specks above or below the focal plane, each with a wide glow."""
    side = light.shape[1]
    area_mm2 = (side * pixel_size_um / 1e3) ** 2
    for _ in range(rng.poisson(dish.debris_per_mm2 * area_mm2)):
        centre = rng.uniform(0, side, 2)
        channel = int(rng.random() < 0.8)
        tone = dish.stain_gain_counts[channel] * rng.lognormal(0, 0.4)
        _add_blob(light[channel], centre, 5 / pixel_size_um, 0.18 * tone)
        for _ in range(rng.integers(1, 5)):
            at = centre + rng.normal(0, 1.2 / pixel_size_um, 2)
            _add_blob(light[channel], at, rng.uniform(0.5, 1) / pixel_size_um, tone)


def _add_blob(
    plane: np.ndarray, centre_yx: np.ndarray, sigma_px: float, peak: float
) -> None:
    half = 4 * sigma_px
    box = tuple(
        slice(max(0, int(middle - half)), min(side, max(0, int(middle + half) + 1)))
        for middle, side in zip(centre_yx, plane.shape, strict=True)
    )
    y, x = np.ogrid[box]
    square = (y - centre_yx[0]) ** 2 + (x - centre_yx[1]) ** 2
    plane[box] += peak * np.exp(-square / (2 * sigma_px**2))


def expose(light: np.ndarray, dish: Dish, rng: np.random.Generator) -> np.ndarray:
    """Illuminates unevenly, adds background, shot noise and read noise, and digitises.

    Returns:
      (2, H, W) uint16 counts, clipped to 0-4095.
    """
    side = light.shape[1]
    y, x = np.ogrid[:side, :side]
    centre = np.array(dish.illumination_centre_yx) * side
    square = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (side**2 / 2)
    lamp = (1 - dish.illumination_falloff * np.minimum(square, 1.5)).astype(np.float32)
    background = np.array(dish.background_counts, np.float32)[:, None, None]
    patches = smooth_noise((side, side), side / 5, rng)
    mean = (light + background * (1 + 0.1 * patches)) * lamp
    gain = dish.electrons_per_count
    counts = rng.poisson(np.maximum(mean, 0) * gain) / gain + dish.offset_counts
    counts += rng.normal(0, dish.read_noise_counts, counts.shape)
    return np.clip(np.rint(counts), 0, CAMERA_MAX_COUNTS).astype(np.uint16)
