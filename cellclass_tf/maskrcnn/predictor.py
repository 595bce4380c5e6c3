"""Finds and names the cells of a field of any size, with TensorFlow alone."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf import connected, files, tiling
from cellclass_tf.cells import Cells
from cellclass_tf.files import InputError
from cellclass_tf.study import check_merged

FORMAT = "cellclass_tf Mask R-CNN 2"
METADATA_FILE = "cellclass.json"

# A cell that shares more than this with one that is already there is the same cell.
_SAME_CELL_SHARE = 0.5
_TILES_A_CALL = 4
# Where an unsure mask ends. Masks are surer inside than outside, more so after a short
# training, so that one half would draw cells too small; see `calibration`.
MASK_THRESHOLD = 0.45
# Beyond it a pixel size is a mistake of units, and the scaled field would fill memory.
_LARGEST_RATIO = 8


@dataclasses.dataclass(frozen=True)
class Detections:
    """Cells before they share out the pixels.

    Attributes:
      boxes_yxyx: (N, 4) float32 in pixels of the field, somewhat wider than the cells.
      scores: (N,) float32, of being a cell.
      probabilities: (N, K) float32, of each type.
      masks: (N, m, m) float16 in [0, 1], inside the boxes.
    """

    boxes_yxyx: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    masks: np.ndarray


class Predictor:
    """A trained model, ready for merged images.

    Attributes:
      metadata: what the model was trained on; see METADATA_FILE beside the SavedModel.
      type_names: names of the cell types, in class order.
      fingerprint: SHA-256 of the SavedModel's files.
    """

    def __init__(self, serve, metadata: dict[str, Any], fingerprint: str):
        self._serve = serve
        self.metadata = metadata
        self.type_names = tuple(metadata["type_names"])
        self.fingerprint = fingerprint
        self._path: pathlib.Path | None = None

    @classmethod
    def load(cls, path: str | os.PathLike) -> Predictor:
        """Loads a SavedModel written by `cellclass_tf.maskrcnn.export`.

        Raises:
          InputError: if the folder holds no such model.
        """
        path = pathlib.Path(path)
        metadata = _read_metadata(path)
        import tensorflow as tf

        try:
            model = tf.saved_model.load(os.fspath(path))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise InputError(
                f"{path}: the SavedModel cannot be loaded ({error})."
            ) from error
        predictor = cls(
            model.signatures["serving_default"], metadata, files.sha256_of_tree(path)
        )
        # The signature's variables live only as long as the model that owns them.
        predictor._model = model
        predictor._path = path
        return predictor

    def __reduce__(self) -> tuple:
        """A network does not travel: the process that gets this loads its own."""
        if self._path is None:
            raise TypeError(
                "Only a predictor that was loaded from a folder is pickled."
            )
        return _loaded, (self._path.absolute(), self.fingerprint)

    def predict(
        self,
        image: np.ndarray,
        *,
        pixel_size_um: float | None = None,
        score_threshold: float = 0.1,
    ) -> Cells:
        """Outlines and names the cells of one field.

        Args:
          image: (H, W, 3) uint8 merged image of any size: 0, cytoplasm, nuclei.
          pixel_size_um: of the image. Where this and the training images' are known,
            cells are shown to the network at the size that it learned; otherwise the
            image is taken to be at the training images' scale.
          score_threshold: cells of a lower score are left out.

        Returns:
          The cells; one type a cell, the most probable.

        Raises:
          InputError: if the image has another shape or type, or lacks the nuclei that
            the model was trained with.
        """
        check_merged(image)
        if not self.metadata["grayscale"] and _has_no_nuclei(image):
            raise InputError(
                "The image has no nuclei (its blue channel is all 0), and the model was "
                "trained with them. Convert the field with --nuclei=..., or train a "
                "model with --params_override=task.grayscale=true."
            )
        detections = self.detect(
            image, scale=self.scale_for(pixel_size_um), score_threshold=score_threshold
        )
        return cells_from_detections(
            detections,
            image.shape[:2],
            self.type_names,
            mask_threshold=self.metadata["mask_threshold"],
            temperature=self.metadata["temperature"],
        )

    def scale_for(self, pixel_size_um: float | None) -> float:
        """Network pixels per image pixel, for images of a pixel size.

        Raises:
          InputError: if the size is far from that of the training images.
        """
        trained = self.metadata.get("pixel_size_um")
        ratio = pixel_size_um / trained if pixel_size_um and trained else 1.0
        if not 1 / _LARGEST_RATIO <= ratio <= _LARGEST_RATIO:
            raise InputError(
                f"A pixel size of {pixel_size_um} µm, against {trained} µm in training, "
                f"is more than {_LARGEST_RATIO} times another. Is the unit µm?"
            )
        return self.metadata["scale"] * ratio

    def detect(
        self, image: np.ndarray, *, scale: float, score_threshold: float
    ) -> Detections:
        """Runs the network over overlapping tiles; each cell is owned by one tile.

        A tile owns the cells whose middle lies in its core; cores part the field.
        """
        scaled = _resized(image, scale)
        size = self.metadata["tile_px"]
        margin = tiling.margin_for(self.metadata["model_diameter_px"], size)
        found = []
        for batch in _batches(tiling.tiles_of(scaled.shape[:2], size, margin)):
            pixels = np.stack([_cut(scaled, tile, size) for tile in batch])
            outputs = {k: v.numpy() for k, v in self._serve(images=pixels).items()}
            for i, tile in enumerate(batch):
                count = outputs["num_detections"][i]
                one = {k: v[i][:count] for k, v in outputs.items() if v[i].ndim}
                found.append(owned(one, tile, score_threshold))
        return joined(found, scaled.shape[:2], image.shape[:2])


def cells_from_detections(
    detections: Detections,
    shape_yx: tuple[int, int],
    type_names: tuple[str, ...],
    *,
    mask_threshold: float = MASK_THRESHOLD,
    temperature: float = 1.0,
) -> Cells:
    """Shares the pixels out: each goes to the cell whose mask is surest there.

    A cell is one piece without holes. Surer cells come first; one that mostly covers, or is covered by, a cell that is
    there already is that same cell. A cell that keeps less than half of its pixels
    against its neighbours is dropped.

    Args:
      detections: N cells.
      shape_yx: height and width of the field.
      type_names: names of the K types.
      mask_threshold: a mask holds the pixels where it is at least so sure.
      temperature: of the types' probabilities; see `at_temperature`.
    """
    labels = np.zeros(shape_yx, np.int32)
    sureness = np.zeros(shape_yx, np.float32)
    areas = {}
    for index in np.argsort(-detections.scores, kind="stable"):
        window, mask = _pasted(
            detections.boxes_yxyx[index], detections.masks[index], shape_yx
        )
        inside = mask >= mask_threshold
        area = int(inside.sum())
        if not area or _is_known(labels[window], inside, areas):
            continue
        areas[index + 1] = area
        # Where two masks are both sure, the nearer middle counts: without it the border
        # between them would follow their noise.
        pull = mask * _nearness(detections.boxes_yxyx[index], window)
        wins = inside & (pull > sureness[window])
        labels[window][wins] = index + 1
        sureness[window][wins] = pull[wins]
    del sureness
    connected.keep_largest_pieces(labels, fill_holes=True)
    kept = np.bincount(labels.ravel(), minlength=len(detections.scores) + 1)
    good = [number for number, area in areas.items() if kept[number] * 2 >= area]
    # Numbers run down the field as they did in the detections' order.
    good = np.array(sorted(good), np.int64)
    table = np.zeros(len(detections.scores) + 1, np.int32)
    table[good] = np.arange(1, len(good) + 1)
    chosen = good - 1
    probabilities = at_temperature(detections.probabilities[chosen], temperature)
    return Cells(
        table[labels],
        tuple(type_names),
        (probabilities.argmax(axis=1) + 1).astype(np.int32),
        detections.scores[chosen].astype(np.float32),
        probabilities,
    )


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Makes probabilities less sure (T > 1) or surer (T < 1), without changing a call.

    softmax(log p / T), temperature scaling (Guo et al. 2017, arXiv:1706.04599).

    Args:
      probabilities: (N, K), rows summing to 1.
      temperature: T, above 0.

    Returns:
      (N, K) float32, rows summing to 1.
    """
    logits = np.log(np.maximum(probabilities, 1e-9)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _loaded(path: pathlib.Path, fingerprint: str) -> Predictor:
    """Loads a model once a process, however often it comes by."""
    predictor = Predictor.load(path)
    if predictor.fingerprint != fingerprint:
        raise InputError(f"{path}: the model has changed while it was in use.")
    return predictor


def _read_metadata(path: pathlib.Path) -> dict[str, Any]:
    file = path / METADATA_FILE
    if not file.exists():
        raise InputError(
            f"{file} does not exist: {path} is no exported model. Make one with "
            "`python -m experiments.export`."
        )
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file}: no JSON ({error}). Export the model again."
        ) from error
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{file}: expected format {FORMAT!r}, got {metadata.get('format')!r}."
        )
    return metadata


def _has_no_nuclei(image: np.ndarray) -> bool:
    """Whether there is cytoplasm and no grain of blue; a black field is just empty."""
    return bool(image[..., 1].any()) and not image[..., 2].any()


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    from PIL import Image

    size = [max(1, round(length * scale)) for length in image.shape[:2]]
    # Pillow widens the triangle when it shrinks, as tf.image.resize(antialias=True).
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _batches(tiles: list[tiling.Tile]) -> Iterator[list[tiling.Tile]]:
    for start in range(0, len(tiles), _TILES_A_CALL):
        yield tiles[start : start + _TILES_A_CALL]


def _cut(image: np.ndarray, tile: tiling.Tile, size: int) -> np.ndarray:
    top, left = tile.corner_yx
    piece = image[top : top + size, left : left + size]
    missing = [(0, size - piece.shape[0]), (0, size - piece.shape[1]), (0, 0)]
    return np.pad(piece, missing)


def owned(
    outputs: Mapping[str, np.ndarray], tile: tiling.Tile, threshold: float
) -> Detections:
    """Takes the detections whose middle lies in the tile's core, in the field's place.

    Args:
      outputs: of the network for this tile; see `export.export`.
      tile: where it lies.
      threshold: detections of a lower score are left out.
    """
    corner = np.tile(tile.corner_yx, 2)
    boxes = outputs["detection_boxes"] + corner
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    keep = tile.owns(middle) & (outputs["detection_scores"] >= threshold)
    return Detections(
        (outputs["detection_outer_boxes"][keep] + corner).astype(np.float32),
        outputs["detection_scores"][keep],
        outputs["detection_probabilities"][keep],
        outputs["detection_masks"][keep].astype(np.float16),
    )


def joined(
    tiles: Sequence[Detections],
    scaled_yx: tuple[int, int],
    shape_yx: tuple[int, int],
) -> Detections:
    """Puts the tiles' detections together, and their boxes into the field's pixels.

    Args:
      tiles: the detections of all tiles of the scaled field.
      scaled_yx: height and width of the field as the network saw it.
      shape_yx: height and width of the field.
    """
    zoom = np.tile(np.array(shape_yx) / np.array(scaled_yx), 2).astype(np.float32)
    return Detections(
        np.concatenate([part.boxes_yxyx for part in tiles]) * zoom,
        np.concatenate([part.scores for part in tiles]),
        np.concatenate([part.probabilities for part in tiles]),
        np.concatenate([part.masks for part in tiles]),
    )


def _pasted(box, mask, shape_yx) -> tuple[tuple[slice, slice], np.ndarray]:
    """Draws a box's mask at the field's pixels.

    Returns:
      The window of the field, and the mask's values at the middles of its pixels.
    """
    first = np.clip(np.floor(box[:2]), 0, shape_yx).astype(int)
    last = np.clip(np.ceil(box[2:]), 0, shape_yx).astype(int)
    weights = [
        _interpolation(np.arange(a, b) + 0.5, low, high, mask.shape[0])
        for a, b, low, high in zip(first, last, box[:2], box[2:], strict=True)
    ]
    values = weights[0] @ _smoothed(mask.astype(np.float32)) @ weights[1].T
    return (slice(first[0], last[0]), slice(first[1], last[1])), values


def _smoothed(mask: np.ndarray) -> np.ndarray:
    """Evens out the checkerboard that up-convolution leaves (Odena et al. 2016)."""
    for _ in range(2):
        padded = np.pad(mask, [(1, 1), (0, 0)], mode="edge")
        mask = (padded[:-2] + 2 * padded[1:-1] + padded[2:]).T / 4
    return mask


def _interpolation(points, low: float, high: float, count: int) -> np.ndarray:
    """Linear interpolation from `count` samples in [low, high) to points, 0 outside."""
    place = (points - low) / max(high - low, 1e-6) * count - 0.5
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(count)[None]))
    # Between a box's edge and its outermost samples these hold on.
    weights[(place < 0) & (points >= low), 0] = 1
    weights[(place > count - 1) & (points <= high), -1] = 1
    return weights.astype(np.float32)


def _nearness(box, window: tuple[slice, slice]) -> np.ndarray:
    """1 in the middle of a box, 0.75 at the middles of its sides, 0.5 in its corners."""
    squares = []
    for part, low, high in zip(window, box[:2], box[2:], strict=True):
        points = np.arange(part.start, part.stop) + 0.5
        middle, half = (low + high) / 2, max((high - low) / 2, 1e-6)
        squares.append(((points - middle) / half) ** 2)
    return 1 - 0.25 * (squares[0][:, None] + squares[1][None])


def _is_known(there: np.ndarray, inside: np.ndarray, areas: dict[int, int]) -> bool:
    """Whether a mask mostly overlaps one cell that is painted already."""
    numbers, counts = np.unique(there[inside], return_counts=True)
    area = int(inside.sum())
    return any(
        count > _SAME_CELL_SHARE * min(area, areas[number])
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
        if number
    )
