"""Finds cells with cellpose, by named models or by files of weights."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from cellclass_tf.annotation.annotators import (
    cellpose_adapter,
    cellpose_library,
    cellpose_weights,
)
from cellclass_tf.annotation.annotators.protocol import Outlines, check_diameter
from cellclass_tf.core.encoder_weights import EncoderWeights
from cellclass_tf.core.study import check_merged
from cellclass_tf.errors import InputError
from cellclass_tf.labels import components, tiling
from cellclass_tf.messages import progress_bar
from cellclass_tf.storage import digests

# cellpose needs about 40 float32 planes of memory for an image: about 1.5 GB for this side
# at the network's own scale. Larger fields are cut into overlapping tiles.
_TILE_PX = 2560
_SMALLEST_TILE_PX = 384
# Side of the parts of a larger field on which the diameter of its cells is estimated.
_SAMPLE_PX = 1536
# Channels are stretched between these percentiles of the whole field, as cellpose does.
_PERCENTILES = (1.0, 99.0)
# Channels of the merged image.
_CYTOPLASM_AND_NUCLEI = (1, 2)


class CellposeAnnotator:
    """Finds cells with the network of the installed cellpose, version 3 or 4.

    Code in pickle files is never run: weights and size models are loaded as data. See
    `cellpose_v3` and `cellpose_v4` for the differences between the versions.

    Attributes:
      name: 'cellpose:' and the name of the model, or of the file of weights.
      weights: file of weights.
      weights_sha256: SHA-256 of that file.
      fingerprint: hash of everything that the labels depend on, except for image,
        diameter, and the device, which hardly changes them.
      size_fingerprint: hash of everything that an estimate of the diameter depends on.
      settings: versions, device and parameters in words.
    """

    def __init__(
        self,
        model: str | os.PathLike = "cyto3",
        diameter_px: float | None = None,
        flow_threshold: float = 0.4,
        cellprob_threshold: float = 0.0,
        *,
        batch_size: int = 8,
        device: str = "auto",
        bfloat16: bool = False,
    ) -> None:
        """Finds and checks the weights; cellpose 3 downloads those of a named model.

        Args:
          model: name of a cellpose model, or path to weights ('./cyto3' for a file with
            the name of a model).
          diameter_px: diameter of a typical cell; None to estimate it for each image with
            the size model of a named model, or with size_NAME.npy (or NAME_size.npy) in
            the folder of the weights NAME. Without a size model it is the mean diameter of
            the cells that the weights were trained on, which is stored in them. Version 4
            has no size models: it is the median diameter of the cells that are found
            without rescaling the image.
          flow_threshold: largest flow error of a cell that is kept; a higher value keeps
            more cells, also poor ones.
          cellprob_threshold: smallest logit of a cell's pixels; a lower value gives more
            and larger cells.
          batch_size: number of tiles of 224 px (version 4: 256 px) in a batch.
          device: 'auto' (a GPU if there is one), or PyTorch's name of the device: 'cpu',
            'cuda', 'cuda:1', 'mps'.
          bfloat16: whether the network of version 4 computes in bfloat16, which needs
            half the memory, and less time if the hardware supports it. Cells may differ
            slightly from those found in float32.

        Raises:
          InputError: if there are no such weights, they cannot be downloaded, do not fit
            to the network of the installed version or are unsafe, a number is out of
            range, the device does not exist, or bfloat16 is set for version 3.
        """
        check_diameter(diameter_px)
        self._cellpose = cellpose_adapter.installed()
        version = cellpose_library.installed_version()
        if bfloat16 and not self._cellpose.knows_bfloat16:
            raise InputError(
                f"cellpose {version} is installed, which computes in float32; "
                "bfloat16 is for version 4."
            )
        self._diameter_px = diameter_px
        self._bfloat16 = bfloat16
        self._options = {
            "batch_size": batch_size,
            "flow_threshold": flow_threshold,
            "cellprob_threshold": cellprob_threshold,
        }
        model = str(model)
        self.weights = self._cellpose.find_weights(model)
        self._named = model in self._cellpose.known_models()
        self._device = _device_name(device)
        size_path = None
        if diameter_px is None:
            size_path = self._cellpose.find_size_model(model)
        self._size = None
        if size_path is not None:
            self._size = cellpose_weights.read_size_model(size_path)
        self.name = f"cellpose:{model if self._named else self.weights.name}"
        self.weights_sha256 = digests.sha256_of_file(self.weights)
        torch_version = importlib.metadata.version("torch")
        thresholds = {k: v for k, v in self._options.items() if k != "batch_size"}
        # Only added where it applies, so that fingerprints of version 3 do not change.
        precision = ["bfloat16"] * bfloat16
        segments = [thresholds, *precision] * self._cellpose.measures_diameters
        self.size_fingerprint = digests.fingerprint(
            "cellpose",
            # The built-in diameter of a named model is not in its file.
            self.name if self._named else "",
            self.weights_sha256,
            size_path and digests.sha256_of_file(size_path),
            version,
            torch_version,
            *segments,
        )
        self.fingerprint = digests.fingerprint(
            self.size_fingerprint, diameter_px, thresholds, *precision
        )
        origin = self._cellpose.origin_of_diameters(size_path)
        self.settings = (
            f"cellpose {version}, torch {torch_version}, device {self._device}, "
            f"flow_threshold {flow_threshold}, cellprob_threshold {cellprob_threshold}, "
            f"diameter {origin if diameter_px is None else 'given'}"
            f"{', bfloat16' * bfloat16}"
        )

    def estimate_diameter_px(self, image: np.ndarray) -> float:
        """Estimates the diameter of a typical cell in a merged image.

        Returns:
          The diameter in pixels, by the size model. Without a size model, the mean
          diameter of the cells that the weights were trained on; with version 4, the
          median diameter of the cells that are found without rescaling the image.

        Raises:
          InputError: if the image is not a merged image.
        """
        check_merged(image)
        # A few parts of a large field are enough.
        parts = _sample(image)
        limits = _stretch(image) if len(parts) > 1 else None
        with warnings.catch_warnings():
            # numpy warns of the mean of nothing if a field has no cells.
            warnings.simplefilter("ignore")
            return self._cellpose.estimate_diameter_px(
                self.network, self._size, parts, limits, **self._options
            )

    def annotate(self, image: np.ndarray, diameter_px: float | None = None) -> Outlines:
        """Finds the cells in a merged image of any size.

        Large fields are processed in overlapping tiles, of which one owns each cell, so
        that memory does not grow with the field. A cell is one connected piece: smaller
        pieces with the same label are dropped.

        Args:
          image: (H, W, 3) uint8; green is cytoplasm and blue nuclei.
          diameter_px: diameter of a typical cell; None for that of the annotator, or an
            estimate.

        Returns:
          The labels, the cell diameter that was used, and for each cell the mean over
          its pixels of the network's probability of being in a cell.

        Raises:
          InputError: if the image is not a merged image.
        """
        check_merged(image)
        check_diameter(diameter_px)
        diameter = float(
            diameter_px or self._diameter_px or self.estimate_diameter_px(image)
        )
        side = round(_TILE_PX * diameter / self._cellpose.scale_px(self.network))
        side = min(max(side, _SMALLEST_TILE_PX), _TILE_PX)
        if max(image.shape[:2]) <= side:
            labels, logits = self._segment(image, diameter, None)
            return Outlines(labels, diameter, _mean_probabilities(labels, logits))
        return self._annotate_tiles(image, diameter, side)

    def encoder_weights(self) -> EncoderWeights | None:
        """Returns the weights of the U-net's encoder; None for version 4, a transformer."""
        tensors = self._cellpose.encoder_tensors(self.weights)
        if tensors is None:
            return None
        diameter = self._cellpose.scale_px(self.network)
        return EncoderWeights(tensors, diameter, self.weights_sha256)

    def __getstate__(self) -> dict[str, Any]:
        # The network is large; a worker process loads its own when it needs it.
        return {k: v for k, v in self.__dict__.items() if k != "network"}

    @functools.cached_property
    def network(self) -> Any:
        """The `cellpose.models.CellposeModel`, loaded when it is first used."""
        name = self.name.removeprefix("cellpose:") if self._named else None
        return self._cellpose.load(self.weights, name, self._device, self._bfloat16)

    def _segment(
        self,
        image: np.ndarray,
        diameter: float,
        limits: Sequence[tuple[float, float] | None] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns (H, W) int32 labels and the (H, W) float32 logits of being a cell."""
        with warnings.catch_warnings():
            # numpy warns of the mean of nothing for an empty channel, or without cells.
            warnings.simplefilter("ignore")
            labels, logits = self._cellpose.segment(
                self.network, image, limits, diameter_px=diameter, **self._options
            )
        shape = image.shape[:2]
        labels = labels.reshape(shape).astype(np.int32)
        components.keep_largest_pieces(labels)
        return labels, logits.reshape(shape)

    def _annotate_tiles(
        self, image: np.ndarray, diameter: float, side: int
    ) -> Outlines:
        from scipy import ndimage

        limits = _stretch(image)
        margin = min(round(2 * diameter), side // 4)
        height, width = image.shape[:2]
        tiles = tiling.tiles_of((height, width), side, margin)
        field = np.zeros((height, width), np.int32)
        probabilities: list[float] = []
        for tile in progress_bar(tiles, "tiles", unit="tile", leave=False):
            top, left = tile.corner_yx
            window = (slice(top, top + side), slice(left, left + side))
            labels, logits = self._segment(image[window], diameter, limits)
            sure = _mean_probabilities(labels, logits)
            boxes = ndimage.find_objects(labels)
            for index in _find_owned(labels, tile):
                mask = labels[boxes[index]] == index + 1
                place = field[window][boxes[index]]
                if _paste(place, mask, len(probabilities) + 1):
                    probabilities.append(sure[index])
        # Where two cells met, the later one may have been cut in two.
        components.keep_largest_pieces(field)
        return Outlines(field, diameter, np.array(probabilities, np.float32))


def _device_name(device: str) -> str:
    import torch

    if device == "auto":
        with cellpose_library.contain_effects():
            return str(_core().assign_device(gpu=True)[0])
    try:
        torch.empty(0, device=torch.device(device))
    # PyTorch reports a missing device by several kinds of errors.
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"The device {device!r} cannot be used ({str(error).splitlines()[0]}). "
            "Expected auto, cpu, cuda, cuda:1, … or mps."
        ) from error
    return device


def _core() -> Any:
    from cellpose import core

    return core


def _sample(image: np.ndarray) -> list[np.ndarray]:
    """Returns the image, or three parts on the diagonal of a large one."""
    sides = [min(side, _SAMPLE_PX) for side in image.shape[:2]]
    if max(image.shape[:2]) <= _SAMPLE_PX:
        return [image]
    parts = []
    for share in (0.2, 0.5, 0.8):
        top, left = (
            round(share * (whole - side))
            for whole, side in zip(image.shape[:2], sides, strict=True)
        )
        parts.append(image[top : top + sides[0], left : left + sides[1]])
    return parts


def _stretch(image: np.ndarray) -> list[tuple[float, float] | None]:
    """Returns the grey values that become 0 and 1 in cytoplasm and nuclei.

    They are percentiles of the whole field; None for a channel without contrast.
    """
    limits: list[tuple[float, float] | None] = []
    for channel in _CYTOPLASM_AND_NUCLEI:
        counts = np.bincount(image[..., channel].ravel(), minlength=256).cumsum()
        ranks = [np.searchsorted(counts, p / 100 * counts[-1]) for p in _PERCENTILES]
        low, high = (float(rank) for rank in ranks)
        limits.append((low, high) if high > low else None)
    return limits


def _mean_probabilities(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Returns (N,) float32 means over each cell's pixels of the sigmoid of the logits."""
    inside = labels > 0
    numbers = labels[inside]
    values = 1 / (1 + np.exp(-logits[inside]))
    count = int(labels.max(initial=0)) + 1
    areas = np.bincount(numbers, minlength=count)[1:]
    return (np.bincount(numbers, values, count)[1:] / areas).astype(np.float32)


def _find_owned(labels: np.ndarray, tile: tiling.Tile) -> list[int]:
    """Returns the indices of the cells whose centroid lies in the tile's core."""
    from scipy import ndimage

    count = int(labels.max(initial=0))
    if not count:
        return []
    middles = ndimage.center_of_mass(labels > 0, labels, np.arange(1, count + 1))
    points = np.array(middles).reshape(-1, 2) + tile.corner_yx
    return np.flatnonzero(tile.owns(points)).tolist()


def _paste(field: np.ndarray, mask: np.ndarray, number: int) -> bool:
    """Adds a cell's free pixels to the field, if they are at least half of its pixels.

    If not, a neighbouring tile has found the same cell, with its centroid on the other
    side of the border.
    """
    free = mask & (field == 0)
    if 2 * np.count_nonzero(free) < np.count_nonzero(mask):
        return False
    field[free] = number
    return True
