"""Study: a folder with images, cells, and a manifest that describes them."""

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
      root: path of the folder.
      cell_types: names of the cell types, in class order.
      channel_rules: patterns of channel names, by 'nuclei' and 'cytoplasm'.
      emission_nm: lowest and highest peak emission in nm, by 'nuclei' and 'cytoplasm';
        used if the name of no channel matches.
      pixel_size_um: pixel size in µm of images whose files record none; None if unknown.
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
        """Returns whether a folder is a study."""
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
          InputError: if the folder is a study already, or if a type cannot be the name of
            a folder.
        """
        import yaml

        path = pathlib.Path(root) / SETTINGS_FILE
        if path.exists():
            raise InputError(f"{path} exists already; open the study instead.")
        settings = StudySettings(tuple(cell_types), pixel_size_um=pixel_size_um)
        study = cls._of(root, settings)
        # The detour through JSON turns tuples into lists.
        content = json.loads(json.dumps(settings.as_content()))
        atomic.write_text(path, yaml.safe_dump(content, sort_keys=False))
        return study

    @classmethod
    def open(cls, study: str | os.PathLike | Study) -> Study:
        """Opens the study in a folder; a study is returned as it is.

        Raises:
          InputError: if there is no study.yaml, or if it is not valid.
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
        """Opens the study in a folder, or makes one if there is none.

        Args:
          study: the folder; a study is returned as it is.
          cell_types: names of the cell types of a new study.
          pixel_size_um: pixel size of a new study in µm.

        Raises:
          InputError: under the same conditions as `open` and `create`.
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
        """Path of study.yaml."""
        return self.root / SETTINGS_FILE

    @property
    def manifest_path(self) -> pathlib.Path:
        """Path of images.csv."""
        return self.root / "images.csv"

    @property
    def tfds_dir(self) -> pathlib.Path:
        """Folder of the prepared TFDS dataset."""
        return self.root / "tfds"

    @property
    def trash_path(self) -> pathlib.Path:
        """Folder of people's files that were replaced; one folder per day."""
        return self.root / trash.TRASH_FOLDER

    def journal(self, stage: str) -> pathlib.Path:
        """Returns the path of the file in which a stage records finished jobs."""
        return self.root / ".journal" / f"{stage}.jsonl"

    def image_path(self, row: ImageRow) -> pathlib.Path:
        """Returns the path of the merged image of a row."""
        return self._path("images", row, row.image)

    def cells_path(self, row: ImageRow) -> pathlib.Path:
        """Returns the path of the label image of a row."""
        return self._path("cells", row, f"{row.stem}.tif")

    def review_path(self, row: ImageRow) -> pathlib.Path:
        """Returns the path of the table of doubtful cells; a PNG has the same stem."""
        return self._path("review", row, f"{row.stem}.csv")

    def _path(self, folder: str, row: ImageRow, name: str) -> pathlib.Path:
        paths.inside(row.image, self.manifest_path)
        return paths.check_below(self.root, self.root / folder / name)

    @property
    def review_queue_path(self) -> pathlib.Path:
        """Path of the list of images to correct, the most useful first."""
        return self.root / "review" / "queue.csv"

    def folder_type(self, cell_type: str) -> str | None:
        """Returns the type of all cells in the folder of a type; None for `mixed`."""
        return None if cell_type == MIXED else cell_type

    def has_cells(self, row: ImageRow) -> bool:
        """Returns whether there is a file at the path of an image's label image.

        It is also true if the name of the image is not valid. Whether the file can be
        used is only checked when it is read.
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
          InputError: if there are none, or if the files are not valid.
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
          InputError: if one of them cannot be read, or if their sizes differ.
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
          InputError: if images.csv is not valid; the message names line and column.
        """
        return sorted(self._manifest.rows(), key=lambda row: row.image)

    def accepted_rows(self) -> list[ImageRow]:
        """Returns the rows of images that are not rejected, sorted by image."""
        return [row for row in self.rows() if row.verdict != REJECTED]

    def update(
        self,
        rows: Iterable[ImageRow],
        *parts: str,
        seen: Iterable[ImageRow] | None = None,
    ) -> None:
        """Writes rows into the manifest; see `ManifestFile.update`."""
        self._manifest.update(rows, *parts, seen=seen)

    def edited_columns(self) -> dict[str, set[str]]:
        """Returns by image the columns that a person edited and that are kept."""
        return self._manifest.edited()

    def lost_rows(self, images: Iterable[str]) -> list[str]:
        """Returns those of the images whose rows a person deleted from the manifest."""
        return self._manifest.lost(images)

    @property
    def _manifest(self) -> ManifestFile:
        return ManifestFile(self.manifest_path)

    def pixel_size_of(self, row: ImageRow) -> float | None:
        """Returns an image's pixel size in µm, or else the study's, or else None."""
        return row.pixel_size_um or self.pixel_size_um

    def check_cell_type(self, cell_type: str) -> str:
        """Returns a type's name as the study has it, or `mixed` in lower case.

        Raises:
          InputError: if the study does not have the type.
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
      InputError: if the file is not an 8-bit colour PNG.
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
                f"{path}: channels: {pattern!r} is not a valid regular expression ({error})."
            ) from error
