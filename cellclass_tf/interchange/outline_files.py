"""Label images of any program, to be named by a network rather than imported."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cellclass_tf.core.study import ImageRow
from cellclass_tf.core.type_names import type_name
from cellclass_tf.errors import InputError
from cellclass_tf.interchange import masks
from cellclass_tf.interchange.importing import CellsToImport


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
        chosen: Sequence[ImageRow] = (),
        label_components: bool = False,
    ) -> None:
        """Finds the labels of images.

        Args:
          source: the folder.
          rows: of all images of the study.
          chosen: of those that are asked for. A file outside of the types' folders, whose
            name two images have, is that of the one that is asked for.
          label_components: as in `masks.import_masks`.

        Raises:
          InputError: if there is no such folder, or no label image in it.
        """
        self._source = pathlib.Path(source)
        self._label_components = label_components
        listed, found = masks.find_labels(self._source)
        matches = masks.match_labels(rows, self._source, found, False, label_components)
        self._by_image = {c.row.image: c for c in matches if c.row is not None}
        strangers = {c.name: None for c in matches if c.row is None}
        missing = [row for row in chosen if row.image not in self._by_image]
        types = {row.cell_type for row in rows}
        apart = [
            files
            for files in found
            if self._name_of(files) in strangers
            and not types & set(map(type_name, files.folders))
        ]
        for match in masks.match_labels(
            missing, self._source, apart, False, label_components
        ):
            if match.row is not None:
                self._by_image[match.row.image] = match
                strangers.pop(self._name_of(match.source), None)
        self.notes = tuple(listed.notes)
        if strangers:
            first = next(iter(strangers))
            told = f"label images of no image here: {len(strangers)}, such as {first}"
            self.notes += (told,)

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

    def _name_of(self, files: masks.LabelFiles) -> str:
        return files.paths[0].relative_to(self._source).as_posix()

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
