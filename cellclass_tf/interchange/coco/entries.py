"""Matches the images of COCO files with types and images of a study."""

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
from cellclass_tf.interchange.row_finder import RowFinder
from cellclass_tf.microscopy.files import inventory
from cellclass_tf.splits import near_duplicates
from cellclass_tf.storage import digests

_OF_ROBOFLOW = "_annotations.coco.json"
# What Label Studio puts before the name of each uploaded image.
_OF_LABEL_STUDIO = re.compile(r"^[0-9a-f]{8}-(?=.)")
_SPLIT_OF_FOLDER = {
    "train": "train",
    "valid": "validation",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclasses.dataclass(frozen=True, eq=False)
class ListedImage:
    """One image of a COCO file.

    Attributes:
      coco: the COCO file.
      image: the image's entry in it.
      name: unique name of the image, for messages and outcomes.
      sha256: SHA-256 of the COCO file.
    """

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
        """Name of the photograph of which Roboflow made this image; '' if unknown."""
        extra = self.image.record.get("extra")
        before = extra.get("name") if isinstance(extra, Mapping) else None
        return before if isinstance(before, str) else ""

    @property
    def folder_split(self) -> str:
        """The split that the JSON file's folder is named after (Roboflow), or ''."""
        return _SPLIT_OF_FOLDER.get(self.coco.path.parent.name.casefold(), "")

    @property
    def version(self) -> str:
        """Fingerprint that changes when the annotations of this image change."""
        image = self.image
        categories = list(self.coco.categories.items())
        return digests.fingerprint(image.record, image.annotations, categories)

    def types(self, study: Study) -> list[str]:
        """Returns the types of the image's cells, sorted, including `unknown`."""
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
            f"{self.where}: the category {category!r} is not a type of the study; it has "
            f"{', '.join(study.cell_types)} (and {UNKNOWN}). Rename the category, or add "
            "the type to study.yaml."
        )

    def said_culture(self, study: Study) -> str:
        """Returns the image's folder according to the file; '' if the cells differ."""
        said, types = self.image.record.get("culture"), set(self.types(study))
        if said == MIXED:
            return MIXED
        return next(
            (t for t in study.cell_types if t == said and types <= {t, UNKNOWN}), ""
        )

    def culture(self, study: Study) -> str:
        """Returns the image's folder: as in the file, or else the only type of its cells."""
        if said := self.said_culture(study):
            return said
        types = self.types(study)
        return types[0] if len(types) == 1 and types != [UNKNOWN] else MIXED


class Found(NamedTuple):
    """COCO files, sorted; the folder that names are relative to; and other files."""

    paths: list[pathlib.Path]
    root: pathlib.Path
    others: list[pathlib.Path]


def json_files(source: pathlib.Path) -> Found:
    """Finds the COCO files of a source, which may be a file or a folder."""
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
    """Returns notes on the files that were read, and on images that none of them lists."""
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
    """Returns the valid COCO files, and by name why other files are not valid."""
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
    """Returns the images of all files, and failures of images without a safe name.

    The name of an entry is that of its image. If there are several COCO files, the name of
    the COCO file is added; if a name occurs twice, the id is added.
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
      The rows by the names of entries; the entries without a row; and failures by name. An
      entry fails if it has unknown types, if it matches several images, if another entry
      matches the same image, or if its own image file shows something else.
    """
    known = _KnownImages(study)
    rows: dict[str, ImageRow] = {}
    strangers: list[ListedImage] = []
    failures: dict[str, str] = {}
    owners: dict[str, str] = {}
    for entry in entries:
        try:
            row = known.row_of(entry)
            if row is None:
                strangers.append(entry)
                continue
            if row.image in owners:
                raise InputError(
                    f"{entry.where}: it matches {row.image}, and so does "
                    f"{owners[row.image]}. Remove one of them."
                )
        except InputError as error:
            failures[entry.name] = errors.one_line(str(error))
            continue
        owners[row.image] = entry.where
        rows[entry.name] = row
    return rows, strangers, failures


class _KnownImages:
    """The images of a study, to which images of COCO files are matched."""

    def __init__(self, study: Study) -> None:
        rows = study.rows()
        self._study, self._finder = study, RowFinder(rows)
        self._by_stem = {row.stem: row for row in rows}
        self._by_sha256 = collections.defaultdict(list)
        for row in rows:
            if row.image_sha256:
                self._by_sha256[row.image_sha256].append(row)

    def row_of(self, entry: ListedImage) -> ImageRow | None:
        """Returns the row of an image; None if the study does not have it.

        Raises:
          InputError: if the name is that of several images, or if the image's own file
            shows something else.
        """
        # Reports unknown types.
        entry.types(self._study)
        beside = _file_of(entry)
        same = self._same_bytes(beside)
        if len(same) == 1:
            return same[0]
        for file_name in filter(None, (entry.image.file_name, entry.name_before)):
            if matches := self._named(entry, file_name):
                row = self._only(entry, matches, beside)
                _check_view(self._study, entry, row)
                return row
        return self._uploaded(entry, beside)

    def _same_bytes(self, beside: pathlib.Path | None) -> Sequence[ImageRow]:
        if beside is None or not self._by_sha256:
            return ()
        return self._by_sha256.get(digests.sha256_of_file(beside), ())

    def _named(self, entry: ListedImage, file_name: str) -> list[ImageRow]:
        path = pathlib.PurePosixPath(file_name)
        if exact := self._by_stem.get(path.with_suffix("").as_posix()):
            return [exact]
        names, folders = (path.stem, image_name(path.name)), path.parent.parts
        return self._finder.matches(entry.where, names, folders, folders)

    def _only(
        self,
        entry: ListedImage,
        matches: Sequence[ImageRow],
        beside: pathlib.Path | None,
    ) -> ImageRow:
        """Returns the row that is meant if several images have the name."""
        said = entry.said_culture(self._study)
        found = [row for row in matches if row.cell_type == said] or matches
        if len(found) > 1 and beside:
            found = [row for row in found if self._shows(entry, row, beside)]
        if len(found) != 1:
            raise InputError(
                f"{entry.where}: it matches {', '.join(r.image for r in matches)}. Write "
                "its file_name as TYPE/NAME.png, or put the image beside the JSON file."
            )
        return found[0]

    def _uploaded(
        self, entry: ListedImage, beside: pathlib.Path | None
    ) -> ImageRow | None:
        """Returns the row of an image that Label Studio gave another name."""
        path = pathlib.PurePosixPath(entry.image.file_name)
        name = _OF_LABEL_STUDIO.sub("", path.name)
        if name == path.name:
            return None
        matches = self._named(entry, path.with_name(name).as_posix())
        if beside:
            # Images of other experiments may have the same name.
            matches = [row for row in matches if self._shows(entry, row, beside)]
        return self._only(entry, matches, beside) if matches else None

    def _shows(self, entry: ListedImage, row: ImageRow, beside: pathlib.Path) -> bool:
        there = image_files.read_colours(beside, entry.image.shape_yx)
        return near_duplicates.is_same_view(self._study.read_image(row), there)


def _file_of(entry: ListedImage) -> pathlib.Path | None:
    """Returns the image's own file; None if it is not there."""
    try:
        return image_files.find(entry.image.file_name, entry.coco.path)
    except InputError:
        return None


def _check_view(study: Study, entry: ListedImage, row: ImageRow) -> None:
    """Raises InputError if the image beside the JSON file differs from the study's.

    The name alone is not enough: augmented copies by Roboflow keep the photograph's name.
    """
    try:
        path = image_files.find(entry.image.file_name, entry.coco.path)
        if digests.sha256_of_file(path) == row.image_sha256:
            return
        there = image_files.read_colours(path, entry.image.shape_yx)
    except InputError as error:
        if not entry.name_before:
            # Only outlines were exported, by a program that opened the study's images.
            return
        raise InputError(
            f"{entry.where}: according to the file it is a copy of {row.image}, but it "
            f"cannot be compared with that image ({error}). The outlines of a mirrored copy "
            "would not fit. Put the image beside the JSON file."
        ) from error
    if not near_duplicates.is_same_view(study.read_image(row), there):
        raise InputError(
            f"{entry.where}: {path} does not show what {row.image} of the study shows: "
            "it is another image, or was mirrored, rotated, cropped or resized. The outlines "
            "would not fit. Export the dataset without augmentation and resizing, or "
            "import it into a study of its own."
        )


def _as_earlier_versions(category: str) -> str:
    """Returns the type that earlier versions, without spaces, made of a category."""
    return re.sub(r"[^A-Za-z0-9._+-]", "-", category)
