"""Adds the images of COCO files to a study, and chooses the types of a new study."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

from cellclass_tf.core.cells import UNKNOWN
from cellclass_tf.core.manifest import image_name
from cellclass_tf.core.micrograph import PIXEL_SIZES_UM
from cellclass_tf.core.study import MIXED, ImageRow, Study
from cellclass_tf.core.type_names import safe_type_name
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.coco import image_files
from cellclass_tf.interchange.coco.entries import ListedImage
from cellclass_tf.interchange.coco.reading import CocoFile, drawn_cells_of
from cellclass_tf.splits import assignment, groups, near_duplicates
from cellclass_tf.storage import digests, ledger, paths, png


def types_of_new_study(cocos: Sequence[CocoFile]) -> list[str]:
    """Returns the used categories as types, or all categories if no cell has a known one.

    Raises:
      InputError: if there are no categories, or if two of them become the same type.
    """
    used = [name for coco in cocos for name in coco.used_categories]
    listed = [name for coco in cocos for name in coco.categories.values()]
    for names in (used, listed):
        by_type: dict[str, dict[str, bool]] = collections.defaultdict(dict)
        for name in names:
            if safe_type_name(name) != UNKNOWN:
                by_type[safe_type_name(name)][name] = True
        for cell_type, same in by_type.items():
            if len(same) > 1:
                raise InputError(
                    f"{cocos[0].path}: the categories {', '.join(map(repr, same))} would "
                    f"both be the type {cell_type}. Rename one."
                )
        if by_type:
            return list(by_type)
    raise InputError(f"{cocos[0].path}: expected categories, to be the study's types.")


class Adding:
    """Adds images to a study's folder, one per call, without changing its manifest."""

    def __init__(
        self, study: Study, root: pathlib.Path, pattern: groups.GroupPattern | None
    ) -> None:
        """Reads the present manifest.

        Args:
          study: the study.
          root: the folder to which recorded paths of raw files are relative.
          pattern: pattern of the acquisition group in a file_name; see `import_coco`.
        """
        rows = study.rows()
        self._study, self._root, self._pattern = study, root, pattern
        self._taken = {row.image: "in the study" for row in rows}
        self._image_of = {r.image_sha256: r.image for r in rows if r.image_sha256}
        self._groups = {row.group for row in rows}
        self._split_of_group: dict[str, str] = {}

    def __call__(self, entry: ListedImage) -> dict[str, Any]:
        """Writes the merged image of an entry if its outlines are valid.

        Returns:
          The values of its row, by column.

        Raises:
          InputError: if the image or the outlines are not valid, or if the study has the
            image or another one of its name.
        """
        path = image_files.find(entry.image.file_name, entry.coco.path)
        drawn_cells_of(entry.coco, entry.image)
        row = self._row(entry, path)
        placed = self._split_of_group.setdefault(row.group, entry.folder_split)
        if placed != entry.folder_split:
            raise InputError(
                f"{entry.where}: it is in the folder of "
                f"{_split_in_words(entry.folder_split)}, but other images of its group "
                f"{row.group!r} are in the folder of {_split_in_words(placed)}. A network "
                "would be tested on images that it was trained on. Put all copies of one "
                "photograph into one folder."
            )
        if row.image in self._taken:
            raise InputError(
                f"{entry.where}: it would become {row.image}, which exists already "
                f"({self._taken[row.image]}). Rename one of the files."
            )
        for text in (row.image, row.group, row.raw_file):
            paths.check_name(text)
        target = self._study.image_path(row)
        image = image_files.read_merged(path, entry.image.shape_yx)
        content = png.encode_png(image)
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 in self._image_of:
            raise InputError(
                f"{entry.where}: its pixels are those of {self._image_of[sha256]}, which "
                "the study has already. Write its file_name like the name of that image."
            )
        ledger.write_bytes(self._study.root, target, content)
        self._taken[row.image] = entry.where
        return dataclasses.asdict(row) | {
            "image_sha256": sha256,
            "scene_hash": near_duplicates.scene_hash(image),
        }

    def _row(self, entry: ListedImage, path: pathlib.Path) -> ImageRow:
        culture, record = entry.culture(self._study), entry.image.record
        group = self._group(entry)
        split = record.get("split") or ("" if culture == MIXED else entry.folder_split)
        # A group that is in the study already gets the split of its other images.
        has_split = split in assignment.SPLITS and group not in self._groups
        raw_file = path.relative_to(self._root) if self._root in path.parents else path
        return ImageRow(
            image=f"{culture}/{image_name(path.name)}.png",
            cell_type=culture,
            group=group,
            raw_file=raw_file.as_posix(),
            raw_sha256=digests.sha256_of_file(path),
            raw_reader="pillow",
            channels_by="coco",
            contrast="kept",
            pixel_size_um=_pixel_size(record.get("pixel_size_um")),
            split=split if has_split else "",
        )

    def _group(self, entry: ListedImage) -> str:
        name = entry.image.file_name
        if self._pattern is None:
            said = entry.image.record.get("group")
            # All copies of one photograph have to be in one split.
            return said if isinstance(said, str) and said else entry.name_before or name
        return self._pattern.group_in(name, entry.where)


def _split_in_words(split: str) -> str:
    return f"the split {split}" if split else "no split"


def _pixel_size(value: Any) -> float | None:
    """Returns a pixel size in µm; None for values that no light microscope has."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    least, most = PIXEL_SIZES_UM
    return float(value) if least <= value <= most else None
