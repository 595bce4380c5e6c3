"""Writes COCO files of images and annotations, one field after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

from cellclass_tf.core.cells import Cells
from cellclass_tf.interchange.coco.descriptions import annotation_of
from cellclass_tf.storage import ledger


@dataclasses.dataclass
class Draft:
    """Images and annotations of a file, kept in temporary files until all are known.

    Images come first in the COCO file, but an image is only added when its annotations are
    complete. Temporary files keep the use of memory small.

    Attributes:
      images: the entries of images, one JSON object per line.
      annotations: the entries of annotations, one JSON object per line.
      image_count: number of images.
      annotation_count: number of annotations.
      has_unknown: whether there are cells of unknown type.
    """

    images: IO[str]
    annotations: IO[str]
    image_count: int = 0
    annotation_count: int = 0
    has_unknown: bool = False

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: pathlib.Path) -> Iterator[Draft]:
        """Opens an empty draft, with its temporary files in a folder."""
        with (
            tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8") as images,
            tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8") as annotations,
        ):
            yield cls(images, annotations)

    def add(
        self, record: Mapping[str, Any], cells: Cells, segmentation: str = "rle"
    ) -> None:
        """Adds one field, whole or not at all.

        Args:
          record: the entry of its image, with its `id`.
          cells: its cells.
          segmentation: see `descriptions.result_of`.
        """
        lines = []
        for index in range(len(cells)):
            number = self.annotation_count + index + 1
            ids = {"id": number, "image_id": record["id"]}
            annotation = annotation_of(cells, index, segmentation=segmentation)
            lines.append(json.dumps(ids | annotation) + "\n")
        self.images.write(json.dumps(record) + "\n")
        self.annotations.writelines(lines)
        self.image_count += 1
        self.annotation_count += len(cells)
        self.has_unknown |= bool((cells.type_ids == 0).any())

    def write(
        self, root: pathlib.Path, path: pathlib.Path, head: Mapping[str, Any]
    ) -> None:
        """Writes the COCO file, or removes an old one if there are no images.

        Args:
          root: output folder, which has the ledgers.
          path: path of the file, below `root`.
          head: the other entries of the file, such as `categories`.
        """
        if not self.image_count:
            ledger.remove(root, path)
            return
        with (
            ledger.replace(root, path, overwrite=True) as temporary,
            open(temporary, "w", encoding="utf-8") as file,
        ):
            file.write("{\n")
            file.writelines(
                f'"{name}": {json.dumps(value)},\n' for name, value in head.items()
            )
            _write_list(file, "images", self.images)
            file.write(",\n")
            _write_list(file, "annotations", self.annotations)
            file.write("\n}\n")


def _write_list(file: IO[str], name: str, lines: IO[str]) -> None:
    lines.seek(0)
    file.write(f'"{name}": [')
    for number, line in enumerate(lines):
        file.write(("," if number else "") + "\n" + line.removesuffix("\n"))
    file.write("\n]")
