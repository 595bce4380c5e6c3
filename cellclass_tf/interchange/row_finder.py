"""Finds the image of a study to which a file of another program belongs."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Iterable, Sequence

from cellclass_tf.core.manifest import ImageRow, image_name
from cellclass_tf.core.micrograph import FILE_SEPARATOR
from cellclass_tf.core.type_names import type_name
from cellclass_tf.errors import InputError


class RowFinder:
    """Finds rows of a study by the names of files and of their folders.

    Images of two types may have the same name. Raw files of two dishes may, too: the image
    of the second one is called DISH_NAME, but a file beside the raw file is called NAME.
    Therefore, the folders of a file count. One that is named after a type selects among
    the types, and ones that are named after folders of raw files select among the dishes.
    """

    def __init__(self, rows: Iterable[ImageRow]) -> None:
        """Takes the rows of all images of the study."""
        rows = list(rows)
        self._by_name: dict[str, list[ImageRow]] = collections.defaultdict(list)
        for row in rows:
            for name in _names_of(row):
                self._by_name[name].append(row)
        self._types = {row.cell_type for row in rows} | set(map(_type_folder, rows))
        folders = [_raw_folders(row) for row in rows if row.raw_file]
        # Folders that all raw files share, such as `raw`, do not tell them apart.
        shared = frozenset.intersection(*folders) if folders else frozenset()
        types = {name.casefold() for name in self._types}
        self._dishes = frozenset().union(*folders) - shared - types

    def find(
        self,
        path: pathlib.Path,
        names: Iterable[str],
        folders: Sequence[str],
        expected: str,
        *,
        chosen: Sequence[ImageRow] = (),
    ) -> ImageRow:
        """Finds the image that a file of labels belongs to.

        Args:
          path: path of the file.
          names: possible names of the image; the first one that matches counts.
          folders: names of the folders between the source and the file.
          expected: description of the expected file name, for messages.
          chosen: rows of the images of which one is meant if several have the name.

        Raises:
          InputError: if no image matches, or several do.
        """
        # The source may itself be the folder of a dish.
        beside = path.absolute().parent.name
        found = self.matches(str(path), names, folders, [*folders, beside])
        if len({row.name for row in found}) == 1:
            wanted = {row.image for row in chosen}
            found = [row for row in found if row.image in wanted] or found
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                f"{path}: matches {', '.join(row.image for row in found)}. Name it like "
                "one of them, and put it into a folder named after its type, in no folder "
                "of a dish."
            )
        folder_type = self._type_in(folders)
        where = f" of type {folder_type}" if folder_type else ""
        raise InputError(f"{path}: matches no image{where} in the study. {expected}")

    def matches(
        self,
        where: str,
        names: Iterable[str],
        folders: Sequence[str],
        dishes: Sequence[str],
    ) -> list[ImageRow]:
        """Returns the rows to which a file may belong.

        Args:
          where: the file, for messages.
          names: possible names of the image; the first one that matches counts.
          folders: names of the file's folders. The last one that is a type counts.
          dishes: names of folders. Those that are folders of some raw files have to be
            folders of the image's raw file.

        Raises:
          InputError: if only images of other dishes have such a name.
        """
        folder_type = self._type_in(folders)
        dish = frozenset(name.casefold() for name in dishes) & self._dishes
        names = list(names)
        # Raw files may have spaces and other characters that image names cannot have.
        names += [
            image_name(n, (), as_before=old) for old in (False, True) for n in names
        ]
        of_other_dishes: list[ImageRow] = []
        for name in dict.fromkeys(names):
            found = _of_type(self._by_name.get(name, ()), folder_type)
            if not dish:
                # Without a dish, a file can only have the name of its image.
                found = [row for row in found if row.name == name]
            fitting = [r for r in found if not r.raw_file or dish <= _raw_folders(r)]
            if fitting:
                return fitting
            of_other_dishes += found
        if of_other_dishes:
            other = of_other_dishes[0]
            raise InputError(
                f"{where}: its name is that of {other.image}, but that image was made of "
                f"{other.raw_file}, and this file is in the folder of another dish. Put it "
                "into the folder of its dish, or name it like its image, outside of the "
                "folders of dishes."
            )
        return []

    def _type_in(self, folders: Sequence[str]) -> str:
        types = [name for name in map(type_name, folders) if name in self._types]
        return types[-1] if types else ""


def _of_type(rows: Sequence[ImageRow], folder_type: str) -> list[ImageRow]:
    """Returns the rows of images in the folder of a type, or else those of the type.

    A person may change the type of an image in the manifest, but not its folder.
    """
    if not folder_type:
        return list(rows)
    there = [row for row in rows if _type_folder(row) == folder_type]
    return there or [row for row in rows if row.cell_type == folder_type]


def _type_folder(row: ImageRow) -> str:
    return row.stem.partition("/")[0]


def _raw_path(row: ImageRow) -> pathlib.PurePosixPath:
    """Returns the path of the image's raw file, or of the first one."""
    first = row.raw_file.split(FILE_SEPARATOR)[0]
    return pathlib.PurePosixPath(first.replace("\\", "/"))


def _raw_folders(row: ImageRow) -> frozenset[str]:
    return frozenset(name.casefold() for name in _raw_path(row).parent.parts)


def _names_of(row: ImageRow) -> list[str]:
    """Returns the image's name, and the name without what tells it from other dishes.

    See `image_names.Names.take`: the folder before the name, or the ending after it.
    """
    raw = _raw_path(row)
    if not row.raw_file:
        return [row.name]
    stem, before = image_name(raw.name), f"{image_name(raw.parent.name, ())}_"
    name = row.name
    is_before = not stem.startswith(before) or name.startswith(before + before)
    if is_before and name.startswith(before):
        name = name.removeprefix(before)
    with_ending = f"{stem}_{raw.suffix[1:].lower()}"
    if name.startswith(with_ending):
        name = stem + name.removeprefix(with_ending)
    return list(dict.fromkeys((row.name, name)))
