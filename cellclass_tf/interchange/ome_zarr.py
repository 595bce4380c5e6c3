"""Writes image and cells as OME-Zarr."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.drawing.palette import colour_of_type
from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic

if TYPE_CHECKING:
    import zarr

_CHUNK_PX = 1024
# Coarser levels are added until a level is at most this wide and high.
_COARSEST_PX = 512


def write_ome_zarr(
    path: str | os.PathLike,
    cells: Cells,
    image: np.ndarray,
    *,
    pixel_size_um: float | None = None,
) -> None:
    """Writes image and labels as OME-Zarr 0.4, whole or not at all.

    The image is a group with two channels, cytoplasm and nuclei. `labels/cells` holds the
    label image, with the colour and the type of every cell. Each level of the pyramid has
    half the size of the one before: of every 2 x 2 pixels it has the mean of the image and
    the most frequent label. So image and labels are aligned at all levels.

    Args:
      path: path of the folder, NAME.ome.zarr.
      cells: cells of one field.
      image: (H, W, 3) uint8 merged image.
      pixel_size_um: pixel size in µm; None if unknown.

    Raises:
      InputError: if zarr is not installed.
    """
    with atomic.atomic_folder(path) as temporary:
        write_image(create_root(temporary), cells, image, pixel_size_um=pixel_size_um)


def create_root(folder: str | os.PathLike) -> zarr.Group:
    """Creates a Zarr store of version 2, as OME-Zarr 0.4 needs, and returns its root.

    Raises:
      InputError: if zarr is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise InputError(
            "Writing OME-Zarr needs zarr, for Python 3.11 or newer: "
            "pip install 'cellclass_tf[zarr]'."
        ) from error
    return zarr.open_group(folder, mode="w", zarr_format=2)


def write_image(
    root: zarr.Group,
    cells: Cells,
    image: np.ndarray,
    *,
    pixel_size_um: float | None = None,
    name: str = "image",
) -> None:
    """Writes image and labels into an empty group of a store; see `write_ome_zarr`.

    Args:
      root: the Zarr group.
      cells: cells of one field.
      image: (H, W, 3) uint8 merged image.
      pixel_size_um: pixel size in µm; None if unknown.
      name: name of the image.
    """
    channels = np.moveaxis(image[..., 1:], -1, 0)
    _write_levels(root, channels, pixel_size_um, name)
    root.attrs["omero"] = {
        "channels": [
            {"label": name, "color": colour, "window": _WINDOW, "active": True}
            for name, colour in (("cytoplasm", "00FF00"), ("nuclei", "0000FF"))
        ]
    }
    labels = root.create_group("labels")
    labels.attrs["labels"] = ["cells"]
    group = labels.create_group("cells")
    _write_levels(group, cells.labels, pixel_size_um, "cells")
    group.attrs["image-label"] = _image_label(cells)


_WINDOW = {"min": 0, "max": 255, "start": 0, "end": 255}


def _write_levels(
    group: zarr.Group, array: np.ndarray, pixel_size_um: float | None, name: str
) -> None:
    """Writes a pyramid of (H, W) labels or (C, H, W) channels."""
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    if pixel_size_um:
        axes = [axis | {"unit": "micrometer"} for axis in axes]
    if array.ndim == 3:
        axes.insert(0, {"name": "c", "type": "channel"})
    datasets: list[dict[str, Any]] = []
    step = 1
    while True:
        level = group.create_array(
            str(len(datasets)),
            shape=array.shape,
            chunks=(1,) * (array.ndim - 2) + (_CHUNK_PX, _CHUNK_PX),
            dtype=array.dtype,
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        level[...] = array
        scale = [1.0] * (array.ndim - 2) + [step * (pixel_size_um or 1.0)] * 2
        datasets.append(
            {
                "path": level.basename,
                "coordinateTransformations": [{"type": "scale", "scale": scale}],
            }
        )
        if max(array.shape[-2:]) <= _COARSEST_PX:
            break
        array, step = _halve(array), 2 * step
    group.attrs["multiscales"] = [
        {"version": "0.4", "name": name, "axes": axes, "datasets": datasets}
    ]


def _halve(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        return _halve_labels(array)
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(plane).reduce(2)) for plane in array])


def _halve_labels(labels: np.ndarray) -> np.ndarray:
    """Returns the most frequent label of every 2 x 2 pixels, (H, W) to (H / 2, W / 2).

    Of labels that are equally frequent the highest is taken, so a cell and not the background.
    """
    height, width = labels.shape
    halved = np.empty(((height + 1) // 2, (width + 1) // 2), labels.dtype)
    for top in range(0, height, _CHUNK_PX):
        rows = labels[top : top + _CHUNK_PX]
        rows = np.pad(rows, ((0, len(rows) % 2), (0, width % 2)), mode="edge")
        four = np.stack([rows[y::2, x::2] for y in (0, 1) for x in (0, 1)])
        a, b, c, d = np.sort(four, axis=0)
        # If the middle two differ, either the lowest two or the highest two are equal, or both
        # or none; only in the first case is the lowest the most frequent label.
        found = np.where((a == b) & (c != d), a, d)
        halved[top // 2 : top // 2 + len(found)] = np.where(b == c, b, found)
    return halved


def _image_label(cells: Cells) -> dict[str, Any]:
    numbered = list(enumerate(cells.type_ids.tolist(), start=1))
    return {
        "version": "0.4",
        "colors": [
            {"label-value": i, "rgba": [*colour_of_type(type_id), 255]}
            for i, type_id in numbered
        ],
        "properties": [
            {"label-value": i, "cell_type": name}
            for i, name in enumerate(cells.cell_types, start=1)
        ],
        "source": {"image": "../../"},
    }
