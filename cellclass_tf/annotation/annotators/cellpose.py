"""Cells by cellpose: named models, or weights of one's own."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import warnings
from typing import Any

import numpy as np

from cellclass_tf.annotation.annotators import cellpose_weights
from cellclass_tf.annotation.annotators.cellpose_weights import cellpose_models
from cellclass_tf.annotation.annotators.protocol import Outlines, check_diameter
from cellclass_tf.core.study import check_merged
from cellclass_tf.errors import InputError
from cellclass_tf.labels import components, tiling
from cellclass_tf.messages import progress_bar
from cellclass_tf.storage import digests

# Of the merged image, counted from 1 as cellpose does: cytoplasm green, nuclei blue.
CHANNELS = (2, 3)

# Images are enlarged until a cell has the model's diameter. A smaller estimate comes
# from specks in a field without cells, and would enlarge it beyond any memory.
_MIN_ESTIMATE_PX = 6.0
# cellpose holds some 40 float32 planes of what it sees at once: about 1.5 GB for this
# side at the network's own scale. Larger fields are cut into overlapping tiles.
_TILE_PX = 2560
_SMALLEST_TILE_PX = 384
# The side of the parts of a larger field on which its cells' diameter is estimated.
_SAMPLE_PX = 1536
# Channels are stretched between these percentiles of the whole field, as cellpose does.
_PERCENTILES = (1.0, 99.0)


class CellposeAnnotator:
    """Finds cells with a cellpose 3 network.

    Stringer et al., "Cellpose: a generalist algorithm for cellular segmentation",
    Nature Methods 2021. Pickles are never run: weights and size models load as data.

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
    ):
        """Finds and checks the weights, and downloads those of a named model.

        Args:
          model: a name that cellpose knows, or a path to weights ('./cyto3' for a file
            that is called like a model).
          diameter_px: of a typical cell; None to estimate it for each image with the
            size model of a named model, or with size_NAME.npy (or NAME_size.npy)
            beside the weights NAME. Without a size model it is the mean diameter of
            the cells that the weights were trained on, as stored in them.
          flow_threshold: largest error of a cell's flows that is accepted; higher
            finds more cells, and more bad ones.
          cellprob_threshold: logit from which a pixel belongs to a cell; lower gives
            more and larger cells.
          batch_size: tiles of 224 px that go through the network together.
          device: 'auto' takes a GPU where there is one; else what PyTorch calls it,
            'cpu', 'cuda', 'cuda:1', 'mps'.

        Raises:
          InputError: if there are no such weights, they cannot be downloaded, are not
            for this network or are unsafe, a number makes no sense, or the device is
            not there.
        """
        check_diameter(diameter_px)
        self._diameter_px = diameter_px
        self._thresholds = {
            "flow_threshold": flow_threshold,
            "cellprob_threshold": cellprob_threshold,
        }
        self._batch_size = batch_size
        model = str(model)
        self._named = model in cellpose_weights.known_models()
        self.weights = cellpose_weights.find_weights(model)
        self._device = _device_name(device)
        size_path = None
        if diameter_px is None:
            size_path = cellpose_weights.find_size_model(model)
        self._size = size_path and cellpose_weights.read_size_model(size_path)
        self.name = f"cellpose:{model if self._named else self.weights.name}"
        self.weights_sha256 = digests.sha256_of_file(self.weights)
        versions = [importlib.metadata.version(n) for n in ("cellpose", "torch")]
        self.size_fingerprint = digests.fingerprint(
            "cellpose",
            # The builtin diameter of a named model is not in its file.
            self.name if self._named else "",
            self.weights_sha256,
            size_path and digests.sha256_of_file(size_path),
            *versions,
        )
        self.fingerprint = digests.fingerprint(
            self.size_fingerprint, diameter_px, self._thresholds
        )
        self.settings = (
            f"cellpose {versions[0]}, torch {versions[1]}, device {self._device}, "
            f"flow_threshold {flow_threshold}, cellprob_threshold {cellprob_threshold}, "
            f"diameter {_origin(diameter_px, size_path)}"
        )

    def estimate_diameter_px(self, image: np.ndarray) -> float:
        """Estimates the diameter of a typical cell in a merged image.

        Returns:
          Pixels, by the size model. Without one, the mean diameter of the cells that
          the weights were trained on.

        Raises:
          InputError: if the image is something else.
        """
        check_merged(image)
        if self._size is None:
            return float(self.network.diam_labels)
        size_model = cellpose_models().SizeModel(self.network)
        size_model.params = self._size
        size_model.diam_mean = float(self._size["diam_mean"])
        # Of a large field a few parts do.
        normalize = {"normalize": True, "lowhigh": _stretch(image)}
        parts = _sample(image)
        with warnings.catch_warnings():
            # A field without cells is no reason to warn of means.
            warnings.simplefilter("ignore")
            options = {"normalize": normalize} if len(parts) > 1 else {}
            found = [float(self._eval(size_model, p, **options)[0]) for p in parts]
        estimate = float(np.median(found))
        return estimate if estimate >= _MIN_ESTIMATE_PX else size_model.diam_mean

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
        side = round(_TILE_PX * diameter / float(self.network.diam_mean))
        side = min(max(side, _SMALLEST_TILE_PX), _TILE_PX)
        if max(image.shape[:2]) <= side:
            labels, logits = self._segment(image, diameter, True)
            return Outlines(labels, diameter, _mean_probabilities(labels, logits))
        return self._annotate_tiles(image, diameter, side)

    def __getstate__(self) -> dict[str, Any]:
        # The network is large; a process that gets this loads its own when it needs it.
        return {k: v for k, v in self.__dict__.items() if k != "network"}

    @functools.cached_property
    def network(self) -> Any:
        """The `cellpose.models.CellposeModel`, loaded when first asked for."""
        import torch

        # cellpose takes a named model's diameter from its name, hence the two ways.
        key = "model_type" if self._named else "pretrained_model"
        model = self.name.removeprefix("cellpose:") if self._named else self.weights
        device = torch.device(self._device)
        with cellpose_weights.contain_effects():
            return cellpose_models().CellposeModel(
                gpu=device.type != "cpu", device=device, **{key: str(model)}
            )

    def _eval(self, model: Any, image: np.ndarray, **options: Any) -> Any:
        with cellpose_weights.contain_effects():
            return model.eval(
                image,
                channels=list(CHANNELS),
                channel_axis=2,
                batch_size=self._batch_size,
                **options,
            )

    def _segment(
        self, image: np.ndarray, diameter: float, normalize: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns (H, W) int32 labels and the (H, W) float32 logits of being a cell."""
        with warnings.catch_warnings():
            # An empty channel, or a field without cells, is no reason to warn of means.
            warnings.simplefilter("ignore")
            labels, flows, *_ = self._eval(
                self.network,
                image,
                diameter=diameter,
                normalize=normalize,
                **self._thresholds,
            )
        shape = image.shape[:2]
        labels = labels.reshape(shape).astype(np.int32)
        components.keep_largest_pieces(labels)
        return labels, flows[2].reshape(shape)

    def _annotate_tiles(
        self, image: np.ndarray, diameter: float, side: int
    ) -> Outlines:
        from scipy import ndimage

        # Named, since cellpose keeps the last word that it was told in a global.
        normalize = {"normalize": True, "lowhigh": _stretch(image)}
        margin = min(round(2 * diameter), side // 4)
        tiles = tiling.tiles_of(image.shape[:2], side, margin)
        field, probabilities = np.zeros(image.shape[:2], np.int32), []
        for tile in progress_bar(tiles, "tiles", unit="tile", leave=False):
            top, left = tile.corner_yx
            window = (slice(top, top + side), slice(left, left + side))
            labels, logits = self._segment(image[window], diameter, normalize)
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
        with cellpose_weights.contain_effects():
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


def _origin(diameter_px: float | None, size_path: Any) -> str:
    if diameter_px is not None:
        return "given"
    return "by the size model" if size_path else "of the training images"


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


def _stretch(image: np.ndarray) -> list[list[float]]:
    """Grey levels that become 0 and 1 in each of the two channels, of the whole field."""
    limits = []
    for channel in (number - 1 for number in CHANNELS):
        counts = np.bincount(image[..., channel].ravel(), minlength=256).cumsum()
        ranks = [np.searchsorted(counts, p / 100 * counts[-1]) for p in _PERCENTILES]
        low, high = (float(rank) for rank in ranks)
        # A channel without any contrast stays as it is.
        limits.append([low, high] if high > low else [0.0, 1.0])
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
