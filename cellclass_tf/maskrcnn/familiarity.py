"""Detects fields that differ from the training fields (out-of-distribution detection).

A network assigns one of its types to every cell, often with a high probability even if it
has never seen similar cells. Therefore an exported model contains statistics of its training
cells, and new fields are compared with them: cells by the Mahalanobis distance of the
network's features from the nearest type (Lee et al. 2018, arXiv:1807.03888), and fields by
their median cell, by the mean difference of their cells from the training cells, by the size
and brightness of the cells, and by the nuclei outside of all cells.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.errors import InputError
from cellclass_tf.labels import grey_levels, noise
from cellclass_tf.storage import npz

FAMILIARITY_FILE = "familiarity.npz"
# Fraction of held-out cells whose distance is below the limit.
_NEARER = 0.95
# With fewer cells the median distance is not used.
_FEWEST_CELLS = 5
# Factor between the largest value of a held-out field and the limit for fields.
_MARGIN = 1.1
# Factors by which a median may be outside of the range of the training fields' medians.
_SIZE_MARGIN, _LIGHT_MARGIN = 1.4, 2.0
# Lower limits for nuclei outside of all cells: as a fraction of all nuclei, and as a number.
_LEAST_OUTSIDE, _FEWEST_OUTSIDE = 0.2, 3
# A nucleus smaller than this fraction of a cell's area is debris.
_SMALLEST_NUCLEUS = 0.05
_NUMBERS = ("limit", "field_limit", "shift_limit", "outside_limit")
PICTURE_PX = 48
_MOST_EXAMPLES = 400
# A larger file was not written by `Familiarity.write`.
_MOST_BYTES = 1 << 26
# Nuclei are counted in an image reduced until a cell, or a field without cells, is about so
# wide.
_COUNTED_CELL_PX, _COUNTED_FIELD_PX = 20, 2048


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """The properties of one field that are compared.

    Attributes:
      features: (N, F) float32, the network's features of each cell.
      diameter_px: median diameter of the cells, in the network's pixels; NaN without cells.
      light: (2,) grey levels in the cells: median of the cytoplasm, and 80th percentile of
        the nuclei channel; NaN without cells, or if the network does not see the channel.
      nuclei_outside: number of nuclei outside of all cells.
      nuclei: number of all nuclei.
    """

    features: np.ndarray
    diameter_px: float
    light: np.ndarray
    nuclei_outside: int
    nuclei: int

    @classmethod
    def of(
        cls, image: np.ndarray, cells: Cells, scale: float, *, grayscale: bool = False
    ) -> Look:
        """Measures a field.

        Args:
          image: (H, W, 3) uint8 merged image.
          cells: cells of the field, with features.
          scale: the network's pixels per pixel of the image.
          grayscale: whether the network sees the cytoplasm alone, so that it does not
            matter what the nuclei look like.

        Raises:
          ValueError: if the cells have no features.
        """
        if cells.features is None:
            raise ValueError("Expected cells with features.")
        diameter = np.nan
        if len(cells):
            diameter = float(np.median(cells.diameters_px) * scale)
        light, stained = [], np.ascontiguousarray(image[..., 2])
        for channel, percent in ((image[..., 1], 50), (stained, 80)):
            levels = grey_levels.levels_inside(channel, cells.labels)
            light.append(grey_levels.percentile_of(levels, percent))
        outside, nuclei = _count_nuclei(stained, cells)
        if grayscale:
            light[1], outside, nuclei = np.nan, 0, 0
        return cls(cells.features, diameter, np.array(light), outside, nuclei)


@dataclasses.dataclass(frozen=True, eq=False)
class Judgement:
    """How a field compares with the training fields.

    Attributes:
      reasons: how it differs from them, in words; empty if it does not.
      distance: median of the cells' distances; 0 if there are too few cells.
      shift: mean difference of the cells from the training cells, see `_shift`; 0 if there
        are too few cells.
      distances: (N,) float32, distances of the cells; 1 is the limit.
    """

    reasons: tuple[str, ...]
    distance: float
    shift: float
    distances: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Familiarity:
    """Statistics of a model's training cells, and limits for new fields.

    Attributes:
      means: (T, F) mean of the features of each type.
      whitening: (F, F) whitening matrix of the differences from the types' means; the
        length of a whitened difference is the Mahalanobis distance.
      limit: 95 % of the held-out cells have a smaller distance.
      field_limit: largest median distance, in multiples of `limit`, of a field that
        resembles the training fields.
      shift_limit: largest `Judgement.shift` of such a field; infinite if no type has
        several acquisition groups.
      diameters_px: (2,) smallest and largest median cell diameter of the training fields.
      lights: (2, 2) smallest and largest grey levels (rows) of cytoplasm and nuclei
        (columns).
      outside_limit: largest accepted fraction of nuclei outside of all cells.
      features: (E, F) float16, features of example cells.
      type_ids: (E,) types of the example cells, counted from 1.
      pictures: (E, P, P, 2) uint8, cytoplasm and nuclei of the example cells.
    """

    means: np.ndarray
    whitening: np.ndarray
    limit: float
    field_limit: float
    shift_limit: float
    diameters_px: np.ndarray
    lights: np.ndarray
    outside_limit: float
    features: np.ndarray
    type_ids: np.ndarray
    pictures: np.ndarray

    def nearest(self, features: np.ndarray, count: int) -> np.ndarray:
        """Returns (N, count) indices of the example cells nearest to (N, F) features."""
        own = self.features.astype(np.float32) @ self.whitening
        apart = ((features @ self.whitening)[:, np.newaxis] - own) ** 2
        return np.argsort(apart.sum(axis=-1), axis=1, kind="stable")[:, :count]

    def judge(self, look: Look) -> Judgement:
        """Compares a field with the training fields."""
        differences = _differences(look.features, self.means, self.whitening)
        distances, reasons = _lengths(differences) / np.float32(self.limit), []
        distance, shift = _median_distance(distances), _shift(differences)
        measured = []
        if distance > self.field_limit:
            measured.append(
                f"median distance {distance:.2f}; at most {self.field_limit:.2f} in fields "
                "like those"
            )
        if shift > self.shift_limit:
            measured.append(
                f"mean difference {shift:.2f}; at most {self.shift_limit:.2f} in fields "
                "like those"
            )
        if measured:
            told = ", and ".join(measured)
            reasons.append(f"cells look unlike the training cells ({told})")
        reasons += _out_of_range(
            "the median cell is {:.0f} px wide in the network's input",
            look.diameter_px,
            self.diameters_px,
            _SIZE_MARGIN,
        )
        for name, light, lights in zip(
            ("cytoplasm", "nuclei"), look.light, self.lights.T, strict=True
        ):
            what = f"{name} in the cells has a grey level of {{:.0f}}"
            reasons += _out_of_range(what, light, lights, _LIGHT_MARGIN)
        outside, nuclei = look.nuclei_outside, look.nuclei
        if outside >= _FEWEST_OUTSIDE and outside / nuclei > self.outside_limit:
            reasons.append(
                f"{outside} of {nuclei} nuclei are outside of the outlined cells"
            )
        return Judgement(tuple(reasons), distance, shift, distances)

    def write(self, path: str | os.PathLike) -> None:
        """Writes a NumPy archive."""
        np.savez_compressed(path, **dataclasses.asdict(self))

    @classmethod
    def read(cls, path: str | os.PathLike) -> Familiarity:
        """Reads a file that `write` wrote.

        Raises:
          InputError: if it is not such a file.
        """
        try:
            arrays = npz.read_npz(path, _MOST_BYTES)
        except InputError as error:
            raise InputError(f"{error} Export the model again.") from error
        names = [field.name for field in dataclasses.fields(cls)]
        try:
            found: dict[str, Any] = {
                name: arrays[name] for name in names if name in arrays
            }
            if "mean" in arrays:
                found |= _of_earlier_version(arrays["mean"])
            for name in _NUMBERS:
                found[name] = found[name].reshape(1)
            read = cls(**found | {name: float(found[name][0]) for name in _NUMBERS})
            features = read.means.shape[-1]
            fits = (
                read.means.shape == (len(read.means), features)
                and len(read.means) > 0
                and read.whitening.shape == (features, features)
                and read.features.shape[1:] == (features,)
                and read.pictures.shape
                == (len(read.features), PICTURE_PX, PICTURE_PX, 2)
                and read.type_ids.shape == read.features.shape[:1]
                and read.diameters_px.shape == (2,)
                and read.lights.shape == (2, 2)
                and not any(np.isnan(found[name]).any() for name in _NUMBERS)
            )
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(
                _refusal(path, f"{type(error).__name__}: {error}")
            ) from error
        if not fits:
            raise InputError(_refusal(path, "the shapes of its arrays do not match"))
        return read


class Familiarizer:
    """Collects the training cells of a model, field by field."""

    def __init__(self) -> None:
        self._looks: list[tuple[str, Look, np.ndarray]] = []
        self._pictures: list[tuple[np.ndarray, int, np.ndarray]] = []

    def add(
        self,
        image: np.ndarray,
        cells: Cells,
        group: str,
        scale: float,
        *,
        grayscale: bool = False,
    ) -> None:
        """Adds a training field.

        Args:
          image: (H, W, 3) uint8 merged image.
          cells: annotated cells, with features.
          group: acquisition group; a group's fields are compared with those of the others.
          scale: the network's pixels per pixel of the image.
          grayscale: whether the network sees the cytoplasm alone.
        """
        if not len(cells):
            # Nothing is known of the looks of a field without cells.
            return
        look = Look.of(image, cells, scale, grayscale=grayscale)
        self._looks.append((group, look, cells.type_ids))
        # A few per field, so that few of them are from the same colony.
        for index in np.linspace(0, len(cells) - 1, min(len(cells), 12)).astype(int):
            shown = picture_of(image, cells, index, scale)
            self._pictures.append(
                (look.features[index], int(cells.type_ids[index]), shown)
            )

    def fit(self) -> Familiarity | None:
        """Fits the limits by cross-validation over groups; None if there are too few cells."""
        if sum(len(look.features) for _, look, _ in self._looks) < 2 * _FEWEST_CELLS:
            return None
        features = np.concatenate([look.features for _, look, _ in self._looks])
        ids = np.concatenate([ids for *_, ids in self._looks])
        means, whitening = _statistics(features, ids)
        halves, groups = self._differences_held_out()
        held_out = [
            _lengths(np.concatenate(parts))
            for parts in zip(halves, groups, strict=True)
        ]
        limit = float(np.quantile(np.concatenate(held_out), _NEARER))
        # A field with fewer cells is not judged by its median.
        many = [found for found in held_out if len(found) >= _FEWEST_CELLS]
        medians = [_median_distance(found / limit) for found in many]
        shifts = [_shift(found) for found in groups if len(found) >= _FEWEST_CELLS]
        looks = [look for _, look, _ in self._looks]
        outside = [x.nuclei_outside / x.nuclei for x in looks if x.nuclei]
        step = -(-len(self._pictures) // _MOST_EXAMPLES) or 1
        examples = self._pictures[::step]
        lights = np.stack([look.light for look in looks])
        diameters = [look.diameter_px for look in looks]
        return Familiarity(
            means,
            whitening,
            limit,
            _MARGIN * max(medians, default=np.inf),
            _MARGIN * max(shifts, default=np.inf),
            np.array([min(diameters), max(diameters)]),
            np.stack([lights.min(axis=0), lights.max(axis=0)]),
            max(_LEAST_OUTSIDE, 1.5 * max(outside, default=0.0)),
            np.stack([f for f, _, _ in examples]).astype(np.float16),
            np.array([t for _, t, _ in examples], np.int32),
            np.stack([p for _, _, p in examples]),
        )

    def _differences_held_out(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Compares each field's cells with the cells of other groups.

        If only one group has enough cells of a type, half of them are held out at a time,
        because the other types do not tell what its cells look like. These differences do
        not show how much groups differ, so they are returned separately.

        Returns:
          Two lists with an (N, F) array for each field: differences of cells that were held
          out by halves, and of cells that were held out by groups.
        """
        parts: list[tuple[int, int, str, np.ndarray]] = []
        groups_of: dict[int, set[str]] = {}
        for number, (group, look, ids) in enumerate(self._looks):
            for cell_type in np.unique(ids).tolist():
                of_type = look.features[ids == cell_type]
                parts.append((number, cell_type, group, of_type))
                if len(of_type) >= _FEWEST_CELLS:
                    groups_of.setdefault(cell_type, set()).add(group)
        size = self._looks[0][1].features.shape[1]
        halves, groups = (
            [[np.zeros((0, size), np.float32)] for _ in self._looks] for _ in range(2)
        )
        for number, cell_type, group, features in parts:
            others = [(f, kind) for _, kind, name, f in parts if name != group]
            if len(groups_of.get(cell_type, ())) > 1:
                groups[number].append(_compared(features, others))
                continue
            others = [(f, kind) for f, kind in others if kind != cell_type]
            own = [f for _, kind, _, f in parts if kind == cell_type]
            for half in (0, 1):
                known = others + [(f[1 - half :: 2], cell_type) for f in own]
                if sum(len(f) for f, _ in known) > 1:
                    halves[number].append(_compared(features[half::2], known))
        return [np.concatenate(f) for f in halves], [np.concatenate(f) for f in groups]


def picture_of(image: np.ndarray, cells: Cells, index: int, scale: float) -> np.ndarray:
    """Cuts a picture, (P, P, 2) uint8, around a cell at the scale of the network's input."""
    from PIL import Image

    top, left, bottom, right = cells.boxes_yxyx[index].tolist()
    half = max(1, round(PICTURE_PX / scale / 2))
    y, x = (top + bottom) // 2, (left + right) // 2
    padded = np.pad(image[..., 1:], [(half, half), (half, half), (0, 0)])
    piece = padded[y : y + 2 * half, x : x + 2 * half]
    planes = [
        Image.fromarray(piece[..., c]).resize(
            (PICTURE_PX, PICTURE_PX), Image.Resampling.BILINEAR
        )
        for c in (0, 1)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def _statistics(
    features: np.ndarray, type_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the types' means (T, F), and the whitening matrix (F, F) within types.

    With few cells, the covariance is shrunk towards that of independent features.

    Args:
      features: (N, F) features of cells.
      type_ids: (N,) their types.
    """
    count, size = features.shape
    _, of = np.unique(type_ids, return_inverse=True)
    features = features.astype(np.float64)
    means = np.stack(
        [features[of == kind].mean(axis=0) for kind in range(of.max() + 1)]
    )
    within = features - means[of]
    covariance = within.T @ within / count
    weight = size / (count + size)
    even = np.diag(np.diag(covariance)) + 1e-6 * np.eye(size)
    values, vectors = np.linalg.eigh((1 - weight) * covariance + weight * even)
    whitening = vectors / np.sqrt(np.maximum(values, 1e-9))
    return means.astype(np.float32), whitening.astype(np.float32)


def _compared(
    features: np.ndarray, known: Sequence[tuple[np.ndarray, int]]
) -> np.ndarray:
    """Returns the differences of (N, F) features from known features of several types."""
    ids = [np.full(len(f), kind) for f, kind in known]
    means, whitening = _statistics(
        np.concatenate([f for f, _ in known]), np.concatenate(ids)
    )
    return _differences(features, means, whitening)


def _differences(
    features: np.ndarray, means: np.ndarray, whitening: np.ndarray
) -> np.ndarray:
    """Returns (N, F) whitened differences of (N, F) features from the nearest type's mean."""
    nearest = np.zeros((len(features), features.shape[1]), np.float32)
    least = np.full(len(features), np.inf, np.float32)
    for mean in means:
        found = (features - mean) @ whitening
        lengths = _lengths(found)
        nearer = lengths < least
        nearest[nearer], least[nearer] = found[nearer], lengths[nearer]
    return nearest


def _lengths(differences: np.ndarray) -> np.ndarray:
    return np.sqrt((differences**2).mean(axis=1))


def _shift(differences: np.ndarray) -> float:
    """Returns the length of the mean of a field's (N, F) differences; 0 if N is small.

    Single cells vary, but if a field is unlike the training fields, all its cells differ in
    the same direction. What the mean of N cells varies by chance is subtracted.
    """
    count = len(differences)
    if count < _FEWEST_CELLS:
        return 0.0
    chance = differences.var(axis=0, ddof=1).mean() / count
    return float(np.sqrt(max(0.0, (differences.mean(axis=0) ** 2).mean() - chance)))


def _median_distance(distances: np.ndarray) -> float:
    return float(np.median(distances)) if len(distances) >= _FEWEST_CELLS else 0.0


def _count_nuclei(channel: np.ndarray, cells: Cells) -> tuple[int, int]:
    """Counts the nuclei less than half covered by cells, and all nuclei (Otsu's threshold)."""
    import cv2
    from PIL import Image
    from skimage import filters

    wide = max(channel.shape) / _COUNTED_FIELD_PX
    if len(cells):
        wide = float(np.median(cells.diameters_px)) / _COUNTED_CELL_PX
    step = max(1, int(wide))
    channel = np.asarray(Image.fromarray(channel).reduce(step))
    inside = cells.labels[::step, ::step] > 0
    smooth = cv2.GaussianBlur(
        channel.astype(np.float32), (9, 9), 1, borderType=cv2.BORDER_REFLECT
    )
    if smooth.max() - smooth.min() < 1:
        return 0, 0
    limit = filters.threshold_otsu(smooth)
    if not noise.stands_out(limit - np.median(smooth), noise.noise_sd(channel)):
        return 0, 0
    bright = (smooth > limit).view(np.uint8)
    count, blobs = cv2.connectedComponents(bright, connectivity=4)
    areas = np.bincount(blobs.ravel(), minlength=count)[1:]
    covered = np.bincount(blobs[inside], minlength=count)[1:]
    typical = np.median(areas)
    if len(cells):
        typical = np.median(cells.areas_px) / step**2
    real = areas >= _SMALLEST_NUCLEUS * typical
    return int((real & (2 * covered < areas)).sum()), int(real.sum())


def _out_of_range(
    what: str, value: float, span: np.ndarray, margin: float
) -> list[str]:
    low, high = span.tolist()
    if not np.isfinite(value) or low / margin <= value <= high * margin:
        return []
    return [f"{what.format(value)} ({low:.0f} to {high:.0f} in the training fields)"]


def _of_earlier_version(mean: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what 0.1.0 did not store: it used one mean for all types, and no shift."""
    return {"means": mean[np.newaxis], "shift_limit": np.array(np.inf)}


def _refusal(path: str | os.PathLike, why: str) -> str:
    return (
        f"{path}: expected the statistics of a model's training cells that `cellclass "
        f"export-model` writes; {why}. Export the model again."
    )
