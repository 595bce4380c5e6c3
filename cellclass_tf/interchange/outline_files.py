"""Label images of other programs whose cells a network classifies."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cellclass_tf.core.study import ImageRow
from cellclass_tf.errors import InputError
from cellclass_tf.interchange import masks
from cellclass_tf.interchange.importing import CellsToImport


class Outlines(NamedTuple):
    """The outlines that were read for one field.

    Attributes:
      labels: (H, W) integer labels; 0 is background.
      path: path of the label image, or of the first mask of a single cell.
      sha256: SHA-256 of the label image, or of all masks in order.
      notes: short notes on what was changed while reading.
    """

    labels: np.ndarray
    path: str
    sha256: str
    notes: tuple[str, ...]


class OutlineFiles:
    """Label images in a folder, found and read as by `masks.import_masks`.

    Attributes:
      notes: notes on files that match no image.
    """

    def __init__(
        self,
        source: str | os.PathLike,
        rows: Sequence[ImageRow],
        *,
        chosen: Sequence[ImageRow] = (),
        label_components: bool = False,
    ) -> None:
        """Finds the labels of images.

        Args:
          source: path of the folder.
          rows: rows of all images of the study.
          chosen: rows of the images to predict. If a file is not in the folder of a type,
            and two images have its name, it belongs to the chosen one.
          label_components: see `masks.import_masks`.

        Raises:
          InputError: if the folder does not exist, or if it has no label image.
        """
        self._source = pathlib.Path(source)
        self._label_components = label_components
        listed, found = masks.find_labels(self._source)
        matches = masks.match_labels(
            rows, self._source, found, False, label_components, chosen
        )
        self._by_image = {c.row.image: c for c in matches if c.row is not None}
        strangers = [c.name for c in matches if c.row is None]
        self.notes = tuple(listed.notes)
        if strangers:
            told = f"label images without an image: {len(strangers)}, such as {strangers[0]}"
            self.notes += (told,)

    def version(self, row: ImageRow) -> list:
        """Returns a JSON-like value that changes when the labels of a field change.

        Raises:
          InputError: if the field has no label files, or several.
        """
        return list(self._of(row).version)

    def read(self, row: ImageRow) -> Outlines:
        """Reads the labels of a field.

        Raises:
          InputError: if there are none, or if they are not valid.
        """
        files = self._of(row).source
        labels, notes = masks.read_outlines(files, self._label_components)
        sha256 = masks.sha256_of_files(files.paths)
        return Outlines(labels, str(files.paths[0]), sha256, notes)

    def _of(self, row: ImageRow) -> CellsToImport:
        found = self._by_image.get(row.image)
        if found is None:
            raise InputError(
                f"{self._source}: expected a label image of {row.image}, named "
                f"{row.name}.tif or .png (or with _labels, _masks or _cp_masks after the "
                "name); found none."
            )
        if found.problem:
            raise InputError(found.problem)
        return found
