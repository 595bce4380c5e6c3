"""Images of COCO files, each with the type and the image of the study it belongs to."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cellclass_tf import errors
from cellclass_tf.core.cells import UNKNOWN
from cellclass_tf.core.manifest import image_name
from cellclass_tf.core.study import MIXED, ImageRow, Study
from cellclass_tf.core.type_names import safe_type_name
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.coco import image_files
from cellclass_tf.interchange.coco.reading import CocoFile, CocoImage, read_coco
from cellclass_tf.microscopy.files import inventory
from cellclass_tf.splits import near_duplicates
from cellclass_tf.storage import digests

_OF_ROBOFLOW = "_annotations.coco.json"
_SPLIT_OF_FOLDER = {
    "train": "train",
    "valid": "validation",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclasses.dataclass(frozen=True, eq=False)
class ListedImage:
    """One image of a COCO file: `name` is nobody else's, `sha256` that of the file."""

    coco: CocoFile
    image: CocoImage
    name: str
    sha256: str

    @property
    def where(self) -> str:
        """The JSON file and the image, for messages."""
        return f"{self.coco.path}: image {self.image.file_name}"

    @property
    def name_before(self) -> str:
        """What Roboflow says the photograph was called of which this is a copy, or ''."""
        extra = self.image.record.get("extra")
        before = extra.get("name") if isinstance(extra, Mapping) else None
        return before if isinstance(before, str) else ""

    @property
    def folder_split(self) -> str:
        """The split after which the JSON file's folder is named (Roboflow), or ''."""
        return _SPLIT_OF_FOLDER.get(self.coco.path.parent.name.casefold(), "")

    @property
    def version(self) -> str:
        """What tells that the annotations of this image have changed."""
        image = self.image
        categories = list(self.coco.categories.items())
        return digests.fingerprint(image.record, image.annotations, categories)

    def types(self, study: Study) -> list[str]:
        """The types of its cells, sorted, `unknown` among them."""
        annotations = (a for a in self.image.annotations if not a.get("iscrowd"))
        names = {self.coco.categories[a["category_id"]] for a in annotations}
        return sorted({self.type_named(study, name) for name in names})

    def type_named(self, study: Study, category: str) -> str:
        """Returns the study's type of a category.

        Raises:
          InputError: if the study has no such type.
        """
        for name in (
            category,
            safe_type_name(category),
            _as_earlier_versions(category),
        ):
            if name in (*study.cell_types, UNKNOWN):
                return name
        raise InputError(
            f"{self.where}: the category {category!r} is no type of the study; it has "
            f"{', '.join(study.cell_types)} (and {UNKNOWN}). Rename the category, or add "
            "the type to study.yaml."
        )

    def culture(self, study: Study) -> str:
        """The folder of the image: what the file says, or the one type of its cells."""
        types = self.types(study)
        said = self.image.record.get("culture")
        if said == MIXED or (
            said in study.cell_types and set(types) <= {said, UNKNOWN}
        ):
            return said
        return types[0] if len(types) == 1 and types != [UNKNOWN] else MIXED


class Found(NamedTuple):
    """COCO files, sorted; the folder that they are named from; and the other files."""

    paths: list[pathlib.Path]
    root: pathlib.Path
    others: list[pathlib.Path]


def json_files(source: pathlib.Path) -> Found:
    """Finds the COCO files, or takes one."""
    if source.is_file():
        return Found([source], source.parent, [])
    files = inventory.files_below(source) if source.is_dir() else []
    paths = [
        path
        for path in files
        if path.name == _OF_ROBOFLOW
        or (path.suffix == ".json" and path.parent in (source, source / "annotations"))
    ]
    if not paths:
        raise InputError(
            f"{source}: expected a COCO file, or a folder with *.json in it or in its "
            f"annotations/, or with {_OF_ROBOFLOW} in its folders; found none."
        )
    return Found(paths, source, sorted(set(files) - set(paths)))


def notes_on(found: Found, entries: Sequence[ListedImage]) -> tuple[str, ...]:
    """Notes on the files that were read, and on those that no COCO file names."""
    listed = {pathlib.PurePosixPath(entry.image.file_name).name for entry in entries}
    tables = [path for path in found.others if path.suffix.lower() == ".json"]
    pictures = [
        path
        for path in found.others
        if path.suffix.lower() in inventory.BESIDE_CELLS and path.name not in listed
    ]
    return (
        *inventory.note("read", found.paths, "COCO files"),
        *inventory.note("left out", tables, "JSON files in other folders"),
        *inventory.note("left out", pictures, "images that no COCO file names"),
    )


def read_all(
    paths: Sequence[pathlib.Path], root: pathlib.Path, *, crowds_are_cells: bool = False
) -> tuple[list[CocoFile], dict[str, str]]:
    """Returns the files that are COCO, and why others are none, by name."""
    cocos, failures = [], {}
    for path in paths:
        try:
            cocos.append(read_coco(path, crowds_are_cells=crowds_are_cells))
        except InputError as error:
            name = path.relative_to(root).as_posix()
            failures[name] = errors.one_line(str(error))
    if not cocos:
        raise InputError("\n".join(failures.values()))
    return cocos, failures


def entries_of(
    cocos: Sequence[CocoFile], root: pathlib.Path
) -> tuple[list[ListedImage], dict[str, str]]:
    """Returns the images of all files, and failures of those without a safe name.

    An entry is called as its image is; where there are several COCO files, or a name is
    there twice, with what tells it from others.
    """
    entries, failures = {}, {}
    for coco in cocos:
        sha256 = digests.sha256_of_file(coco.path)
        prefix = f"{coco.path.relative_to(root).as_posix()}: " if len(cocos) > 1 else ""
        for image in coco.images:
            name = errors.one_line(f"{prefix}{image.file_name}")
            if name in entries or name in failures:
                name += f" (id {image.id})"
            try:
                if image.problem:
                    raise InputError(image.problem)
                image_files.check_name(image.file_name, coco.path)
                entries[name] = ListedImage(coco, image, name, sha256)
            except InputError as error:
                failures[name] = errors.one_line(str(error))
    return list(entries.values()), failures


def match(
    study: Study, entries: Sequence[ListedImage]
) -> tuple[dict[str, ImageRow], list[ListedImage], dict[str, str]]:
    """Finds the images of the study that entries belong to.

    Returns:
      The row by an entry's name; the entries that have none; and failures by name, of
      entries that have unknown types, that could be several images, or one that another
      entry is already, or whose own image shows something else.
    """
    by_stem = {row.stem: row for row in study.rows()}
    by_name = collections.defaultdict(list)
    for known in by_stem.values():
        by_name[known.name].append(known)
    rows: dict[str, ImageRow] = {}
    strangers: list[ListedImage] = []
    failures: dict[str, str] = {}
    owners: dict[str, str] = {}
    for entry in entries:
        try:
            row = _row_of(study, entry, by_stem, by_name)
            if row is None:
                strangers.append(entry)
                continue
            _check_view(study, entry, row)
            if row.image in owners:
                raise InputError(
                    f"{entry.where}: it is {row.image}, and so is {owners[row.image]}. "
                    "Leave one of them."
                )
        except InputError as error:
            failures[entry.name] = errors.one_line(str(error))
            continue
        owners[row.image] = entry.where
        rows[entry.name] = row
    return rows, strangers, failures


def _row_of(
    study: Study,
    entry: ListedImage,
    by_stem: Mapping[str, ImageRow],
    by_name: Mapping[str, Sequence[ImageRow]],
) -> ImageRow | None:
    culture = entry.culture(study)
    matches: Sequence[ImageRow] = ()
    for file_name in _names(entry):
        path = pathlib.PurePosixPath(file_name)
        exact = by_stem.get(path.with_suffix("").as_posix())
        if exact:
            return exact
        matches = (
            matches
            or by_name.get(path.stem)
            or by_name.get(image_name(path.name))
            or ()
        )
    if len(matches) > 1:
        of_type = [row for row in matches if row.cell_type == culture]
        if len(of_type) != 1:
            raise InputError(
                f"{entry.where}: it could be {', '.join(r.image for r in matches)}. Write "
                "its file_name as TYPE/NAME.png."
            )
        return of_type[0]
    return matches[0] if matches else None


def _check_view(study: Study, entry: ListedImage, row: ImageRow) -> None:
    """Raises InputError if the image beside the JSON file is not the study's.

    A name is no proof: Roboflow's augmented copies of a photograph keep its name.
    """
    try:
        path = image_files.find(entry.image.file_name, entry.coco.path)
        if digests.sha256_of_file(path) == row.image_sha256:
            return
        there = image_files.read_colours(path, entry.image.shape_yx)
    except InputError as error:
        if not entry.name_before:
            # Only the outlines came, as from a program that shows the study's images.
            return
        raise InputError(
            f"{entry.where}: it is said to be a copy of {row.image}, and cannot be "
            f"compared with it ({error}). Outlines of a mirrored copy would not fit."
        ) from error
    if not near_duplicates.is_same_view(study.read_image(row), there):
        raise InputError(
            f"{entry.where}: {path} does not show what {row.image} of the study shows: "
            "it is another image, or was mirrored, turned, cropped or resized. Outlines "
            "would not fit. Export the dataset without augmentation and resizing, or "
            "import it into a study of its own."
        )


def _names(entry: ListedImage) -> list[str]:
    """What the image is called, and was called before Roboflow renamed it."""
    return [*filter(None, (entry.image.file_name, entry.name_before))]


def _as_earlier_versions(category: str) -> str:
    """What a category's name became as that of a type, before types had spaces."""
    return re.sub(r"[^A-Za-z0-9._+-]", "-", category)
