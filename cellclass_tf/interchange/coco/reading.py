"""Reads and checks COCO instances files, and converts their outlines to masks."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf.core.drawn_cells import DrawnCell
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.coco.segmentations import drawn_cell_of, short
from cellclass_tf.storage import png

_REFERENCES = ("image_id", "category_id")
_SECTIONS = ("images", "annotations", "categories")
# Largest total area of the boxes of one field; boxes of real cells overlap much less.
_MOST_BOX_PX = 2 * png.MAX_IMAGE_PIXELS
_AREA_TOLERANCE = 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class CocoImage:
    """One image of a COCO file, and what is annotated in it.

    Attributes:
      id: id of the image.
      file_name: file name as in the file; it has not been checked, and is not safe to open.
      shape_yx: height and width; (0, 0) if there is a problem.
      record: the whole entry of the image in the file.
      annotations: annotations in the order of the file, including those with iscrowd.
      problem: why the image cannot be used; '' if it can.
    """

    id: int | str
    file_name: str
    shape_yx: tuple[int, int]
    record: Mapping[str, Any]
    annotations: Sequence[Mapping[str, Any]]
    problem: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class CocoFile:
    """A checked COCO instances file.

    Attributes:
      path: path of the file.
      images: images in the order of the file.
      categories: names by id in the order of the ids, including unused ones.
    """

    path: pathlib.Path
    images: Sequence[CocoImage]
    categories: Mapping[int | str, str]

    @property
    def used_categories(self) -> tuple[str, ...]:
        """Names of the categories that annotations use, in the order of the ids."""
        used = {
            annotation["category_id"]
            for image in self.images
            if not image.problem
            for annotation in image.annotations
            if not annotation.get("iscrowd")
        }
        return tuple(name for id_, name in self.categories.items() if id_ in used)


def read_coco(path: str | os.PathLike, *, crowds_are_cells: bool = False) -> CocoFile:
    """Reads a COCO instances file; `drawn_cells_of` checks the outlines.

    Ids may be numbers or texts. 1.0 and "1" count as 1, since programs that keep the data
    in a table write ids in this way.

    Args:
      path: path of the file.
      crowds_are_cells: whether annotations with `iscrowd` 1 are cells, as in masks that
        CVAT writes; otherwise each stands for several cells and is left out.

    Raises:
      InputError: if the file is not a COCO instances file, if an id occurs twice, or if an
        annotation refers to an image that is not in the file.
    """
    path = pathlib.Path(path)
    content = _load(path)
    sections = {name: _by_id(path, name, content[name]) for name in _SECTIONS}
    categories = {
        id_: _category_name(path, record)
        for id_, record in sorted(sections["categories"].items(), key=_in_order)
    }
    annotations = collections.defaultdict(list)
    for annotation in sections["annotations"].values():
        if crowds_are_cells:
            annotation["iscrowd"] = 0
        image_id = _id_of(annotation.get("image_id"))
        if image_id not in sections["images"]:
            raise InputError(
                f"{path}: annotation {annotation['id']} refers to image "
                f"{short(annotation.get('image_id'))}, which is not among the "
                f"{len(sections['images'])} images of the file. Export images and "
                "annotations of the same selection."
            )
        annotations[image_id].append(annotation)
    images = [
        _image(path, record, annotations.pop(id_, []), categories)
        for id_, record in sections["images"].items()
    ]
    return CocoFile(path, images, categories)


def drawn_cells_of(
    coco: CocoFile, image: CocoImage
) -> tuple[list[DrawnCell], list[str], list[str]]:
    """Converts an image's outlines to masks.

    Areas and boxes in the file are not used, since they are often wrong.

    Returns:
      N cells in the order of the file, which may overlap; the category of each; and short
      notes on what was left out or is inconsistent.

    Raises:
      InputError: if the image has a problem, if an outline is not valid, or if no cell is
        left; the message names the image and the annotation.
    """
    if image.problem:
        raise InputError(image.problem)
    single = [a for a in image.annotations if not a.get("iscrowd")]
    _check_outlines_are_there(coco, image, single)
    drawn, names, wrong_areas, box_px = [], [], 0, 0
    for annotation in single:
        try:
            cell = drawn_cell_of(annotation["segmentation"], image.shape_yx)
        except InputError as error:
            raise InputError(
                f"{coco.path}: image {image.file_name}, annotation "
                f"{annotation['id']}: {error}. Correct or delete it there."
            ) from error
        if cell is None:
            continue
        box_px += cell.mask.size
        if box_px > _MOST_BOX_PX:
            raise InputError(
                f"{coco.path}: image {image.file_name}: the boxes of its annotations "
                f"add up to more than {_MOST_BOX_PX:,} px, which is too much for cells. "
                "Check the annotations."
            )
        wrong_areas += _is_wrong(annotation.get("area"), np.count_nonzero(cell.mask))
        drawn.append(cell)
        names.append(coco.categories[annotation["category_id"]])
    crowds, empty = len(image.annotations) - len(single), len(single) - len(drawn)
    if image.annotations and not drawn:
        raise InputError(
            f"{coco.path}: image {image.file_name}: of its {len(image.annotations)} "
            f"annotations none can be used ({crowds} are crowds, iscrowd 1, as CVAT writes "
            f"masks; {empty} cover no pixel). If each annotation is a cell, add "
            "--crowds=cells."
        )
    notes = [
        (crowds, f"{crowds} annotations of crowds (iscrowd) were left out"),
        (empty, f"{empty} annotations cover no pixel and were left out"),
        (
            wrong_areas,
            f"{wrong_areas} areas in the file are more than {_AREA_TOLERANCE:.0%} off",
        ),
    ]
    return drawn, names, [text for count, text in notes if count]


def _load(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: expected a COCO file in JSON; the file is not valid JSON or is "
            f"truncated ({error}). Copy or export it again."
        ) from error
    if isinstance(content, list):
        raise InputError(
            f"{path}: a list of {len(content)} entries, probably detection results, which "
            "do not contain the names of images. Expected the annotation file that belongs "
            "to them, an object with images, annotations and categories."
        )
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, got {short(content)}.")
    missing = [name for name in _SECTIONS if name not in content]
    if missing:
        raise InputError(
            f"{path}: expected a COCO instances file with {', '.join(_SECTIONS)}; "
            f"{', '.join(missing)} is missing, got {short(sorted(content))}."
        )
    return content


def _by_id(path: pathlib.Path, section: str, records: Any) -> dict[Any, dict]:
    if not isinstance(records, list):
        raise InputError(f"{path}: expected a list of {section}, got {short(records)}.")
    found = {}
    for record in records:
        id_ = _id_of(record.get("id")) if isinstance(record, dict) else None
        if id_ is None:
            raise InputError(
                f"{path}: expected {section} with an id each, got {short(record)}."
            )
        if id_ in found:
            raise InputError(
                f"{path}: two {section} have the id {id_!r}. If files were merged, "
                "assign new ids."
            )
        # References are converted in the same way as ids.
        ids = {key: _id_of(record.get(key)) for key in _REFERENCES}
        known = {key: value for key, value in ids.items() if value is not None}
        found[id_] = record | {"id": id_} | known
    return found


def _id_of(value: Any) -> int | str | None:
    """Returns an id in one form, whether it was a number or text; None if not valid."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"0|[1-9]\d{0,17}", value):
        return int(value)
    is_id = isinstance(value, int | str) and not isinstance(value, bool)
    return value if is_id else None


def _in_order(item: tuple[int | str, Any]) -> tuple[bool, int | str]:
    return isinstance(item[0], str), item[0]


def _category_name(path: pathlib.Path, record: Mapping[str, Any]) -> str:
    name = record.get("name")
    if not isinstance(name, str) or not name.strip():
        raise InputError(
            f"{path}: expected categories with a name each, got {short(record)}."
        )
    return name


def _image(
    path: pathlib.Path,
    record: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    categories: Mapping[int | str, str],
) -> CocoImage:
    name, shape = record.get("file_name"), _shape_of(record)
    problem = ""
    if not isinstance(name, str) or not name:
        problem = f"{path}: image {record['id']!r} has no file_name."
        name = f"image {record['id']}"
    elif shape is None:
        sides = record.get("height"), record.get("width")
        problem = f"{path}: image {name}: expected height and width, got {sides}."
    else:
        try:
            png.check_image_size(*shape, f"{path}: image {name}")
        except InputError as error:
            problem = str(error)
    for annotation in annotations:
        category = annotation.get("category_id")
        if not problem and (_id_of(category) is None or category not in categories):
            problem = (
                f"{path}: image {name}, annotation {annotation['id']}: unknown category "
                f"{short(category)}; the file has {short(categories)}."
            )
    if problem or shape is None:
        shape = (0, 0)
    return CocoImage(record["id"], name, shape, record, annotations, problem)


def _shape_of(record: Mapping[str, Any]) -> tuple[int, int] | None:
    """Returns height and width of an image; None unless both are positive integers."""
    height, width = record.get("height"), record.get("width")
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    return (height, width) if height > 0 and width > 0 else None


def _check_outlines_are_there(
    coco: CocoFile, image: CocoImage, annotations: Sequence[Mapping[str, Any]]
) -> None:
    without = [a for a in annotations if _has_no_outline(a.get("segmentation"))]
    if without:
        raise InputError(
            f"{coco.path}: image {image.file_name}: boxes only: {len(without)} of "
            f"{len(annotations)} annotations have no outline (the first has id "
            f"{without[0]['id']}). Cells need polygons or run lengths; draw them, or "
            "find the cells with `cellclass annotate`."
        )


def _has_no_outline(segmentation: Any) -> bool:
    if isinstance(segmentation, list):
        return all(part == [] for part in segmentation)
    return segmentation is None or segmentation in ({}, "")


def _is_wrong(area: Any, pixels: int) -> bool:
    if isinstance(area, bool) or not isinstance(area, int | float):
        return False
    # With this order, NaN counts as wrong too.
    return not abs(area - pixels) <= _AREA_TOLERANCE * pixels
