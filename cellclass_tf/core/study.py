"""Study: a folder with images, cells and one manifest that traces them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cellclass_tf.core import type_names
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.manifest import MIXED, REJECTED, ImageRow
from cellclass_tf.core.manifest_file import ManifestFile
from cellclass_tf.core.micrograph import PIXEL_SIZES_UM
from cellclass_tf.core.study_settings import (
    DEFAULT_CELL_TYPES,
    SETTINGS_FILE,
    ChannelRules,
    EmissionRanges,
    StudySettings,
)
from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic, paths, png, safe_yaml, trash


@dataclasses.dataclass(frozen=True)
class Study:
    """A folder of images of known cell types.

    Attributes:
      root: the folder.
      cell_types: names of the types, in class order.
      channel_rules: 'nuclei' and 'cytoplasm', each a list of patterns of channel names.
      emission_nm: 'nuclei' and 'cytoplasm', each the lowest and highest peak emission;
        used where no channel's name matches.
      pixel_size_um: used where a file records none; None if unknown.
    """

    root: pathlib.Path
    cell_types: tuple[str, ...] = DEFAULT_CELL_TYPES
    channel_rules: Mapping[str, Sequence[str]] = dataclasses.field(
        default_factory=lambda: dataclasses.asdict(ChannelRules())
    )
    emission_nm: Mapping[str, Sequence[float]] = dataclasses.field(
        default_factory=lambda: dataclasses.asdict(EmissionRanges())
    )
    pixel_size_um: float | None = None

    @classmethod
    def exists(cls, study: str | os.PathLike | Study) -> bool:
        """Whether a folder is a study."""
        root = study.root if isinstance(study, Study) else pathlib.Path(study)
        return (root / SETTINGS_FILE).is_file()

    @classmethod
    def create(
        cls,
        root: str | os.PathLike,
        cell_types: Sequence[str] = DEFAULT_CELL_TYPES,
        pixel_size_um: float | None = None,
    ) -> Study:
        """Makes the folder and its study.yaml.

        Raises:
          InputError: if there is a study already, or the types are no use as folders.
        """
        import yaml

        path = pathlib.Path(root) / SETTINGS_FILE
        if path.exists():
            raise InputError(f"{path} exists already; open the study instead.")
        settings = StudySettings(tuple(cell_types), pixel_size_um=pixel_size_um)
        study = cls._of(root, settings)
        # From a text, so that no tuple is written as Python's own.
        content = json.loads(json.dumps(settings.as_content()))
        atomic.write_text(path, yaml.safe_dump(content, sort_keys=False))
        return study

    @classmethod
    def open(cls, study: str | os.PathLike | Study) -> Study:
        """Opens the study in a folder; a study is returned as it is.

        Raises:
          InputError: if there is no study.yaml, or it says something unusable.
        """
        if isinstance(study, Study):
            return study
        path = pathlib.Path(study) / SETTINGS_FILE
        if not path.is_file():
            raise InputError(
                f"{path} does not exist: {study} is not a study. Make one with "
                "`cellclass convert` or `cellclass simulate`."
            )
        content = safe_yaml.read_yaml(path)
        return cls._of(study, StudySettings.parse(content, path, strict=False))

    @classmethod
    def open_or_create(
        cls,
        study: str | os.PathLike | Study,
        cell_types: Sequence[str] = DEFAULT_CELL_TYPES,
        pixel_size_um: float | None = None,
    ) -> Study:
        """Opens the study in a folder; where there is none, one is made.

        Args:
          study: the folder; a study is returned as it is.
          cell_types: of a study that is made.
          pixel_size_um: the same.

        Raises:
          InputError: as `open` and `create` do.
        """
        if isinstance(study, Study) or cls.exists(study):
            return cls.open(study)
        return cls.create(study, cell_types, pixel_size_um)

    @classmethod
    def _of(cls, root: str | os.PathLike, settings: StudySettings) -> Study:
        study = cls(
            pathlib.Path(root),
            tuple(map(type_names.type_name, settings.cell_types)),
            dataclasses.asdict(settings.channels),
            dataclasses.asdict(settings.emission_nm),
            settings.pixel_size_um,
        )
        _check_cell_types(study.cell_types, study.settings_path)
        _check_pixel_size(study.pixel_size_um, study.settings_path)
        _check_patterns(study.channel_rules, study.settings_path)
        return study

    @property
    def settings_path(self) -> pathlib.Path:
        """study.yaml."""
        return self.root / SETTINGS_FILE

    @property
    def manifest_path(self) -> pathlib.Path:
        """images.csv."""
        return self.root / "images.csv"

    @property
    def tfds_dir(self) -> pathlib.Path:
        """The prepared TFDS dataset."""
        return self.root / "tfds"

    @property
    def trash_path(self) -> pathlib.Path:
        """Where a person's files are put that had to make room, a folder a day."""
        return self.root / trash.TRASH_FOLDER

    def journal(self, stage: str) -> pathlib.Path:
        """The file in which a stage remembers what it has done."""
        return self.root / ".journal" / f"{stage}.jsonl"

    def image_path(self, row: ImageRow) -> pathlib.Path:
        """Where the merged image of a row lies."""
        return self._path("images", row, row.image)

    def cells_path(self, row: ImageRow) -> pathlib.Path:
        """Where the label image of a row lies."""
        return self._path("cells", row, f"{row.stem}.tif")

    def review_path(self, row: ImageRow) -> pathlib.Path:
        """Where the list of an image's doubtful cells lies; the picture is a .png."""
        return self._path("review", row, f"{row.stem}.csv")

    def _path(self, folder: str, row: ImageRow, name: str) -> pathlib.Path:
        paths.inside(row.image, self.manifest_path)
        return paths.check_below(self.root, self.root / folder / name)

    @property
    def review_queue_path(self) -> pathlib.Path:
        """The fields that are worth a person's time, best first."""
        return self.root / "review" / "queue.csv"

    def folder_type(self, cell_type: str) -> str | None:
        """The type that a folder's name gives its cells; None for `mixed`."""
        return None if cell_type == MIXED else cell_type

    def has_cells(self, row: ImageRow) -> bool:
        """Whether something lies where the cells of an image belong.

        That it is no label image, or that there can be none by that name, is for whoever
        reads it to complain of.
        """
        try:
            return os.path.lexists(self.cells_path(row))
        except InputError:
            return True

    def read_image(self, row: ImageRow) -> np.ndarray:
        """Returns the merged image, (H, W, 3) uint8: 0, cytoplasm, nuclei."""
        return read_merged(self.image_path(row))

    def read_cells(self, row: ImageRow) -> Cells:
        """Returns the annotated cells of an image.

        Raises:
          InputError: if there are none, or they do not fit.
        """
        path = self.cells_path(row)
        if not os.path.lexists(path):
            raise InputError(
                f"{path} does not exist: annotate or import the cells first."
            )
        return Cells.read(path, self.cell_types, self.folder_type(row.cell_type))

    def read_field(self, row: ImageRow) -> tuple[np.ndarray, Cells]:
        """Returns the merged image, (H, W, 3) uint8, and the cells in it.

        Raises:
          InputError: if either cannot be read, or they are of different size.
        """
        image, cells = self.read_image(row), self.read_cells(row)
        if cells.labels.shape != image.shape[:2]:
            raise InputError(
                f"{self.cells_path(row)}: expected the image's size {image.shape[:2]}, "
                f"got {cells.labels.shape}. Annotate it again."
            )
        return image, cells

    def rows(self) -> list[ImageRow]:
        """Reads the manifest, sorted by image.

        Raises:
          InputError: if images.csv is broken: it names line and column.
        """
        return sorted(self._manifest.rows(), key=lambda row: row.image)

    def accepted_rows(self) -> list[ImageRow]:
        """The rows that are not rejected."""
        return [row for row in self.rows() if row.verdict != REJECTED]

    def update(
        self,
        rows: Iterable[ImageRow],
        *parts: str,
        seen: Iterable[ImageRow] | None = None,
    ) -> None:
        """Brings rows to the manifest; see `ManifestFile.update`."""
        self._manifest.update(rows, *parts, seen=seen)

    def edited_columns(self) -> dict[str, set[str]]:
        """Returns the columns whose value a person wrote, and which stay, by image."""
        return self._manifest.edited()

    @property
    def _manifest(self) -> ManifestFile:
        return ManifestFile(self.manifest_path)

    def pixel_size_of(self, row: ImageRow) -> float | None:
        """An image's pixel size in µm: its own, else the study's, else None."""
        return row.pixel_size_um or self.pixel_size_um

    def check_cell_type(self, cell_type: str) -> str:
        """Returns the name as the study has it (or `mixed`, however it is written).

        Raises:
          InputError: if the study does not know the type.
        """
        cell_type = type_names.type_name(cell_type)
        if cell_type not in (*self.cell_types, MIXED):
            raise InputError(
                f"Unknown cell type {cell_type!r}; {self.settings_path} has "
                f"{', '.join(self.cell_types)} (and {MIXED}). Add it there if it is right."
            )
        return cell_type


def read_merged(path: str | os.PathLike) -> np.ndarray:
    """Reads a merged image: (H, W, 3) uint8, red 0, green cytoplasm, blue nuclei.

    Raises:
      InputError: if the file is no 8-bit colour PNG.
    """
    image = png.read_png(path)
    check_merged(image, os.fspath(path))
    return image


def check_merged(image: np.ndarray, name: str = "the image") -> None:
    """Raises InputError unless an array is a merged image: (H, W, 3) uint8."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(
            f"{name}: expected a merged image, (H, W, 3) uint8; got {image.shape} of "
            f"{image.dtype}. Run `cellclass convert` on the raw file."
        )


def _check_cell_types(cell_types: Sequence[str], path: pathlib.Path) -> None:
    if problem := type_names.problem_of(cell_types):
        raise InputError(
            f"{path}: {problem}. It has {', '.join(cell_types) or 'none'}."
        )


def _check_pixel_size(size_um: float | None, path: pathlib.Path) -> None:
    least, most = PIXEL_SIZES_UM
    if size_um is not None and not least <= size_um <= most:
        raise InputError(
            f"{path}: pixel_size_um: expected the width of a pixel in the specimen, "
            f"{least} to {most:.0f} µm; got {size_um}. Is the unit µm?"
        )


def _check_patterns(rules: Mapping[str, Sequence[str]], path: pathlib.Path) -> None:
    for pattern in itertools.chain.from_iterable(rules.values()):
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(
                f"{path}: channels: {pattern!r} is no regular expression ({error})."
            ) from error
