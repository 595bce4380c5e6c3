"""Fields with cells, whether a study's annotated ones or those of a run of predictions."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.study import ImageRow, Study, read_merged
from cellclass_tf.errors import InputError
from cellclass_tf.messages import logger


@dataclasses.dataclass(frozen=True)
class FieldOfCells:
    """One field.

    Attributes:
      stem: 'TYPE/NAME' or 'NAME'.
      read: gives its cells.
      image: the merged image's path; None if it is not known.
      pixel_size_um: None if unknown.
      type_names: names of the types, in class order.
      group: acquisition group, such as a dish or well; '' if unknown.
    """

    stem: str
    read: Callable[[], Cells]
    image: pathlib.Path | None
    pixel_size_um: float | None
    type_names: tuple[str, ...]
    group: str = ""

    def pixels(self) -> np.ndarray | None:
        """The merged image, if it is there.

        Raises:
          InputError: if it is no image.
        """
        if self.image is None or not os.path.lexists(self.image):
            return None
        return read_merged(self.image)


def fields_of(source: str | os.PathLike) -> list[FieldOfCells]:
    """The fields of a study (accepted and annotated) or of what `predict` wrote.

    Raises:
      InputError: if the folder is neither.
    """
    source = pathlib.Path(source)
    if Study.exists(source):
        return _of_study(Study.open(source))
    return _of_run(Predictions(source))


def _of_study(study: Study) -> list[FieldOfCells]:
    return [
        FieldOfCells(
            row.stem,
            functools.partial(study.read_cells, row),
            _image_path(study, row),
            study.pixel_size_of(row),
            tuple(study.cell_types),
            row.group,
        )
        for row in study.accepted_rows()
        if study.has_cells(row)
    ]


def _image_path(study: Study, row: ImageRow) -> pathlib.Path | None:
    """None of a row whose image's name is no use, which its cells' reader tells."""
    with contextlib.suppress(InputError):
        return study.image_path(row)
    return None


def _of_run(predictions: Predictions) -> list[FieldOfCells]:
    images = predictions.images()
    lost = sum(not path.exists() for path, _ in images.values())
    if lost:
        logger.warning(
            "%d of %d images are not where `predict` found them; what needs them is left "
            "out.",
            lost,
            len(images),
        )
    groups = {row["image"]: row.get("group") or "" for row in predictions.count_rows}
    fields = []
    for stem in predictions.stems:
        image, pixel_size_um = images.get(stem, (None, None))
        fields.append(
            FieldOfCells(
                stem,
                functools.partial(predictions.read, stem),
                image,
                pixel_size_um,
                predictions.type_names,
                groups[stem],
            )
        )
    return fields
