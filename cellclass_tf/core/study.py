"""Study: a folder with images, cells and one manifest that traces them."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cellclass_tf.core import manifest
from cellclass_tf.core.cells import UNKNOWN, Cells
from cellclass_tf.core.manifest import COLUMNS, REJECTED, ImageRow
from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic, csv_json, paths, png

MIXED = "mixed"
# Names that mean something else in folders and in tables.
_RESERVED = (MIXED, UNKNOWN, "missed", "invented")
DEFAULT_CELL_TYPES = ("HEK", "N2a")

# Patterns that name a stain or its colour, matched anywhere in a channel's name.
DEFAULT_CHANNEL_RULES = {
    "nuclei": ["dapi", "hoechst", "nucle", "h2b", "draq5", "blue"],
    "cytoplasm": [
        "gfp",
        "fitc",
        "cyto",
        "actin",
        "phalloidin",
        r"(alexa|af)\s*(fluor)?\W*488",
        "green",
    ],
}
# Where no name matches: peak emission of the stains that are usual, in nm.
DEFAULT_EMISSION_NM = {"nuclei": (420.0, 480.0), "cytoplasm": (500.0, 550.0)}


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
        default_factory=lambda: DEFAULT_CHANNEL_RULES
    )
    emission_nm: Mapping[str, Sequence[float]] = dataclasses.field(
        default_factory=lambda: DEFAULT_EMISSION_NM
    )
    pixel_size_um: float | None = None

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

        study = cls(pathlib.Path(root), tuple(cell_types), pixel_size_um=pixel_size_um)
        if study._file.exists():
            raise InputError(f"{study._file} exists already; open the study instead.")
        _check_cell_types(study.cell_types, study._file)
        content = {
            "cell_types": list(study.cell_types),
            "channels": {key: list(rule) for key, rule in study.channel_rules.items()},
            "emission_nm": {key: list(nm) for key, nm in study.emission_nm.items()},
            "pixel_size_um": pixel_size_um,
        }
        atomic.write_text(study._file, yaml.safe_dump(content, sort_keys=False))
        return study

    @classmethod
    def open(cls, root: str | os.PathLike) -> Study:
        """Opens the study in a folder.

        Raises:
          InputError: if there is no study.yaml, or it says something unusable.
        """
        import yaml

        root = pathlib.Path(root)
        path = root / "study.yaml"
        if not path.exists():
            raise InputError(
                f"{path} does not exist: {root} is not a study. Make one with "
                "`cellclass convert` or `cellclass simulate`."
            )
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            if not isinstance(content["cell_types"], list):
                raise TypeError("cell_types is no list")
            study = cls(
                root,
                tuple(str(name) for name in content["cell_types"]),
                _checked_rules(content.get("channels") or DEFAULT_CHANNEL_RULES),
                _checked_ranges(content.get("emission_nm") or DEFAULT_EMISSION_NM),
                manifest.to_float(str(content.get("pixel_size_um") or "")),
            )
        except (yaml.YAMLError, KeyError, TypeError, ValueError, re.error) as error:
            raise InputError(
                f"{path}: expected cell_types (a list), channels and emission_nm (each "
                "for nuclei and cytoplasm) and pixel_size_um; "
                f"{type(error).__name__}: {error}"
            ) from error
        _check_cell_types(study.cell_types, path)
        return study

    @property
    def _file(self) -> pathlib.Path:
        return self.root / "study.yaml"

    @property
    def manifest_path(self) -> pathlib.Path:
        """images.csv."""
        return self.root / "images.csv"

    @property
    def tfds_dir(self) -> pathlib.Path:
        """The prepared TFDS dataset."""
        return self.root / "tfds"

    def journal(self, stage: str) -> pathlib.Path:
        """The file in which a stage remembers what it has done."""
        return self.root / ".journal" / f"{stage}.jsonl"

    def image_path(self, row: ImageRow) -> pathlib.Path:
        """Where the merged image of a row lies."""
        return self.root / "images" / paths.inside(row.image, self.manifest_path)

    def cells_path(self, row: ImageRow) -> pathlib.Path:
        """Where the label image of a row lies."""
        return self.root / "cells" / paths.inside(f"{row.stem}.tif", self.manifest_path)

    def review_path(self, row: ImageRow) -> pathlib.Path:
        """Where the list of an image's doubtful cells lies; the picture is a .png."""
        return (
            self.root / "review" / paths.inside(f"{row.stem}.csv", self.manifest_path)
        )

    @property
    def review_queue_path(self) -> pathlib.Path:
        """The fields that are worth a person's time, best first."""
        return self.root / "review" / "queue.csv"

    def folder_type(self, cell_type: str) -> str | None:
        """The type that a folder's name gives its cells; None for `mixed`."""
        return None if cell_type == MIXED else cell_type

    def read_image(self, row: ImageRow) -> np.ndarray:
        """Returns the merged image, (H, W, 3) uint8: 0, cytoplasm, nuclei."""
        return read_merged(self.image_path(row))

    def read_cells(self, row: ImageRow) -> Cells:
        """Returns the annotated cells of an image.

        Raises:
          InputError: if there are none, or they do not fit.
        """
        path = self.cells_path(row)
        if not path.exists():
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
          InputError: if images.csv is broken.
        """
        if not self.manifest_path.exists():
            return []
        rows = []
        for number, line in enumerate(csv_json.read_csv(self.manifest_path), start=2):
            try:
                rows.append(manifest.row_from_strings(line))
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"{self.manifest_path}, line {number}: {error}"
                ) from error
        rows.sort(key=lambda row: row.image)
        for one, other in itertools.pairwise(rows):
            if one.image == other.image:
                raise InputError(
                    f"{self.manifest_path}: {one.image} has two rows. Delete one of them."
                )
        return rows

    def accepted_rows(self) -> list[ImageRow]:
        """The rows that are not rejected."""
        return [row for row in self.rows() if row.verdict != REJECTED]

    def update(self, rows: Iterable[ImageRow]) -> None:
        """Puts rows into the manifest, in place of those of the same image.

        Columns that are not of `ImageRow` stay as they are.
        """
        by_image = {row.image: row for row in self.rows()}
        by_image.update((row.image, row) for row in rows)
        columns, extra = self._columns_of_users()
        csv_json.write_csv(
            self.manifest_path,
            (*COLUMNS, *columns),
            (
                extra.get(image, {}) | dataclasses.asdict(by_image[image])
                for image in sorted(by_image)
            ),
        )

    def pixel_size_of(self, row: ImageRow) -> float | None:
        """An image's pixel size in µm: its own, else the study's, else None."""
        return row.pixel_size_um or self.pixel_size_um

    def _columns_of_users(self) -> tuple[list[str], dict[str, dict[str, str]]]:
        """Columns that people added to the manifest, and their values by image."""
        if not self.manifest_path.exists():
            return [], {}
        lines = csv_json.read_csv(self.manifest_path)
        columns = [c for c in (lines[0] if lines else ()) if c and c not in COLUMNS]
        return columns, {
            line["image"]: {column: line[column] for column in columns}
            for line in lines
        }

    def check_cell_type(self, cell_type: str) -> str:
        """Returns the name if the study has it (or it is `mixed`).

        Raises:
          InputError: if the study does not know the type.
        """
        if cell_type not in (*self.cell_types, MIXED):
            raise InputError(
                f"Unknown cell type {cell_type!r}; {self._file} has "
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
    bad = [n for n in cell_types if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", n)]
    taken = set(cell_types) & set(_RESERVED)
    if bad or taken or len(set(cell_types)) != len(cell_types):
        raise InputError(
            f"{path}: cell types must be different names of letters, digits and . + - _, "
            f"none of them {', '.join(_RESERVED)}; got {list(cell_types)}."
        )
    if not cell_types:
        raise InputError(f"{path}: expected at least one cell type.")


def _checked_rules(rules: Mapping) -> dict[str, list[str]]:
    """Raises KeyError, TypeError or re.error unless both kinds have good patterns."""
    for kind in DEFAULT_CHANNEL_RULES:
        if isinstance(rules[kind], str):
            raise TypeError(f"channels: {kind} is no list of patterns")
        for pattern in rules[kind]:
            re.compile(pattern)
    return {kind: list(rules[kind]) for kind in DEFAULT_CHANNEL_RULES}


def _checked_ranges(ranges: Mapping) -> dict[str, tuple[float, float]]:
    """Raises KeyError, TypeError or ValueError unless both kinds have a range."""
    checked = {}
    for kind in DEFAULT_EMISSION_NM:
        low, high = ranges[kind]
        checked[kind] = (float(low), float(high))
    return checked
