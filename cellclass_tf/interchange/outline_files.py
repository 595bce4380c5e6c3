"""Label images of any program, to be named by a network rather than imported."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cellclass_tf.core.study import ImageRow
from cellclass_tf.errors import InputError
from cellclass_tf.interchange import masks


class Outlines(NamedTuple):
    """What was read for one field.

    Attributes:
      labels: (H, W), 0 is background, and each cell has a number.
      path: of the file, or the first of the masks of single cells.
      sha256: of the file, or of all masks.
      notes: what was resolved on the way, a short phrase each.
    """

    labels: np.ndarray
    path: str
    sha256: str
    notes: tuple[str, ...]


class OutlineFiles:
    """Label images in a folder, found and read as `masks.import_masks` does.

    Attributes:
      notes: which files match none of the images.
    """

    def __init__(
        self,
        source: str | os.PathLike,
        rows: Sequence[ImageRow],
        *,
        label_components: bool = False,
    ):
        """Finds the labels of images.

        Args:
          source: the folder.
          rows: of the images.
          label_components: as in `masks.import_masks`.

        Raises:
          InputError: if there is no such folder, or no label image in it.
        """
        self._source = pathlib.Path(source)
        self._label_components = label_components
        listed, found = masks.find_labels(self._source)
        matches = masks.match_labels(rows, self._source, found, False, label_components)
        self._by_image = {c.row.image: c for c in matches if c.row is not None}
        strangers = [c.name for c in matches if c.row is None]
        self.notes = tuple(listed.notes)
        if strangers:
            self.notes += (
                f"label images of no image here: {len(strangers)}, such as {strangers[0]}",
            )

    def version(self, row: ImageRow) -> list:
        """What tells that the labels of a field have changed, as JSON has it.

        Raises:
          InputError: if the field has no labels, or several.
        """
        return list(self._of(row).version)

    def read(self, row: ImageRow) -> Outlines:
        """Reads the labels of a field.

        Raises:
          InputError: if there are none, or they are no use.
        """
        files = self._of(row).source
        labels, notes = masks.read_outlines(files, self._label_components)
        sha256 = masks.sha256_of(files.paths)
        return Outlines(labels, str(files.paths[0]), sha256, notes)

    def _of(self, row: ImageRow):
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
