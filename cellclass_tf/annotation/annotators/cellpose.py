"""Cells by cellpose: named models, or weights of one's own."""

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
from cellclass_tf.core.study import check_merged
from cellclass_tf.errors import InputError
from cellclass_tf.labels import components, tiling
from cellclass_tf.messages import progress_bar
from cellclass_tf.storage import digests

# cellpose holds some 40 float32 planes of what it sees at once: about 1.5 GB for this
# side at the network's own scale. Larger fields are cut into overlapping tiles.
_TILE_PX = 2560
_SMALLEST_TILE_PX = 384
# The side of the parts of a larger field on which its cells' diameter is estimated.
_SAMPLE_PX = 1536
# Channels are stretched between these percentiles of the whole field, as cellpose does.
_PERCENTILES = (1.0, 99.0)
# Channels of the merged image.
_CYTOPLASM_AND_NUCLEI = (1, 2)


class CellposeAnnotator:
    """Finds cells with the network of the installed cellpose, version 3 or 4.

    Pickles are never run: weights and size models load as data. See `cellpose_v3` and
    `cellpose_v4` for what differs.

    Attributes:
      name: 'cellpose:' and the model's name, or the name of the weights' file.
      weights: their file.
      weights_sha256: of that file.
      fingerprint: hash of all that the labels depend on, but for image, diameter and
        the device, on which they hardly depend.
      size_fingerprint: hash of all that an estimate of the diameter depends on.
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
          model: a name that cellpose knows, or a path to weights ('./cyto3' for a file
            that is called like a model).
          diameter_px: of a typical cell; None to estimate it for each image with the
            size model of a named model, or with size_NAME.npy (or NAME_size.npy)
            beside the weights NAME. Without a size model it is the mean diameter of
            the cells that the weights were trained on, as stored in them. Version 4
            has no size models: it is the median diameter of the cells that are found
            without rescaling the image.
          flow_threshold: largest error of a cell's flows that is accepted; higher
            finds more cells, and more bad ones.
          cellprob_threshold: logit from which a pixel belongs to a cell; lower gives
            more and larger cells.
          batch_size: tiles of 224 px (version 4: 256 px) that go through the network
            together.
          device: 'auto' takes a GPU where there is one; else what PyTorch calls it,
            'cpu', 'cuda', 'cuda:1', 'mps'.
          bfloat16: whether the network of version 4 computes in bfloat16, which takes
            half the memory, and less time where the device has it in hardware. Cells
            may differ a little from those found in float32.

        Raises:
          InputError: if there are no such weights, they cannot be downloaded, are not
            for the network of the installed version or are unsafe, a number makes no
            sense, the device is not there, or bfloat16 is asked of version 3.
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
        # Of what only version 4 has, so that what version 3 made stays.
        precision = ["bfloat16"] * bfloat16
        segments = [thresholds, *precision] * self._cellpose.measures_diameters
        self.size_fingerprint = digests.fingerprint(
            "cellpose",
            # The builtin diameter of a named model is not in its file.
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
          Pixels, by the size model. Without one, the mean diameter of the cells that
          the weights were trained on; with version 4, the median diameter of the cells
          that are found without rescaling the image.

        Raises:
          InputError: if the image is something else.
        """
        check_merged(image)
        # Of a large field a few parts do.
        parts = _sample(image)
        limits = _stretch(image) if len(parts) > 1 else None
        with warnings.catch_warnings():
            # A field without cells is no reason to warn of means.
            warnings.simplefilter("ignore")
            return self._cellpose.estimate_diameter_px(
                self.network, self._size, parts, limits, **self._options
            )

    def annotate(self, image: np.ndarray, diameter_px: float | None = None) -> Outlines:
        """Finds the cells in a merged image of any size.

        Large fields go through in overlapping tiles of which one owns each cell, so
        that memory does not grow with the field. A cell is one piece: crumbs that
        cellpose leaves apart from it are dropped.

        Args:
          image: (H, W, 3) uint8; green is cytoplasm and blue nuclei.
          diameter_px: of a typical cell; None for the annotator's own, or an estimate.

        Returns:
          The labels, the cell diameter that was used, and for each cell the mean over
          its pixels of the network's probability of being in a cell.

        Raises:
          InputError: if the image is something else.
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

    def __getstate__(self) -> dict[str, Any]:
        # The network is large; a process that gets this loads its own when it needs it.
        return {k: v for k, v in self.__dict__.items() if k != "network"}

    @functools.cached_property
    def network(self) -> Any:
        """The `cellpose.models.CellposeModel`, loaded when first asked for."""
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
            # An empty channel, or a field without cells, is no reason to warn of means.
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
    # PyTorch says that a device is not there in several ways.
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
    """The image; or, of a large one, three parts on its diagonal."""
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
    """Grey levels that become 0 and 1 in cytoplasm and nuclei, of the whole field.

    None for a channel without any contrast.
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
    """Indices of the cells whose middle lies in the tile's core."""
    from scipy import ndimage

    count = int(labels.max(initial=0))
    if not count:
        return []
    middles = ndimage.center_of_mass(labels > 0, labels, np.arange(1, count + 1))
    points = np.array(middles).reshape(-1, 2) + tile.corner_yx
    return np.flatnonzero(tile.owns(points)).tolist()


def _paste(field: np.ndarray, mask: np.ndarray, number: int) -> bool:
    """Gives a cell those of its pixels that are free, if that is half of them or more.

    Otherwise a neighbouring tile has found the same cell, with its middle across the
    border.
    """
    free = mask & (field == 0)
    if 2 * np.count_nonzero(free) < np.count_nonzero(mask):
        return False
    field[free] = number
    return True
