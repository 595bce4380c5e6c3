"""Writes cells as a label image in OME-TIFF."""

from __future__ import annotations

import hashlib
import os
import uuid
from typing import Any

from cellclass_tf.core.cells import Cells
from cellclass_tf.storage import atomic

_UM_A_CM = 10_000


def write_ome_tiff(
    path: str | os.PathLike, cells: Cells, *, pixel_size_um: float | None = None
) -> None:
    """Writes the label image as OME-TIFF, whole or not at all.

    The image is uint16, or uint32 for more than 65,535 cells. A map annotation holds the
    type of each cell by its number. The pixel size is stored in the OME-XML in µm, and in
    the resolution tags in pixels per centimetre, for programs that do not read OME-XML.

    Args:
      path: path of the file, NAME.ome.tif.
      cells: cells of one field.
      pixel_size_um: pixel size in µm; None if unknown.
    """
    import tifffile

    labels = cells.stored_labels
    # By default the UUID is random, and files of the same cells would differ.
    name = uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(labels.tobytes()).hexdigest())
    metadata: dict[str, Any] = {
        "axes": "YX",
        "Name": "cells",
        "UUID": f"urn:uuid:{name}",
    }
    if pixel_size_um:
        for axis in "XY":
            metadata[f"PhysicalSize{axis}"] = pixel_size_um
            metadata[f"PhysicalSize{axis}Unit"] = "µm"
    types = {str(i): name for i, name in enumerate(cells.cell_types, start=1)}
    if types:
        metadata["MapAnnotation"] = {"Namespace": "cell types", **types}
    with atomic.atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels,
            ome=True,
            metadata=metadata,
            compression="zlib",
            resolution=(_UM_A_CM / pixel_size_um,) * 2 if pixel_size_um else None,
            resolutionunit="CENTIMETER" if pixel_size_um else None,
            tile=(256, 256) if min(cells.labels.shape) > 512 else None,
        )
