"""Study: a folder with images, cells and one manifest that traces them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cellclass_tf import files
from cellclass_tf.cells import UNKNOWN, Cells
from cellclass_tf.files import InputError

MIXED = "mixed"
# Names that mean something else in folders and in tables.
_RESERVED = (MIXED, UNKNOWN, "missed", "invented")
DEFAULT_CELL_TYPES = ("HEK", "N2a")

# Patterns that name a stain or its colour, matched anywhere in a channel's name.
DEFAULT_CHANNEL_RULES = {
    "nuclei": ["dapi", "hoechst", "nucle", "nuclear", "h2b", "draq5", "blue"],
    "cytoplasm": ["gfp", "fitc", "cyto", "actin", "phalloidin", "alexa.?488", "green"],
}


@dataclasses.dataclass(frozen=True)
class ImageRow:
    """One row of images.csv: one merged image and all that is known of it.

    Contrast limits are 'low-high' in the raw file's numbers, and `contrast_group` names
    the images that share them; shares lie in [0, 1]. Quality figures are those of
    `microscopy.quality`. `verdict` is '' (not judged), 'accepted' or 'rejected';
    rejected images stay out of the dataset. `annotation` is the fingerprint of what
    made the cells.
    """

    image: str
    cell_type: str
    group: str = ""
    raw_file: str = ""
    raw_sha256: str = ""
    raw_reader: str = ""
    scene: int = 0
    scene_name: str = ""
    time: int = 0
    z: str = ""
    nuclei_channel: str = ""
    cytoplasm_channel: str = ""
    channels_by: str = ""
    contrast_group: str = ""
    nuclei_limits: str = ""
    cytoplasm_limits: str = ""
    nuclei_clipped: float | None = None
    cytoplasm_clipped: float | None = None
    pixel_size_um: float | None = None
    image_sha256: str = ""
    focus_slope: float | None = None
    focus_laplacian: float | None = None
    saturated_share: float | None = None
    nuclei_estimate: int | None = None
    debris_share: float | None = None
    glow_share: float | None = None
    unevenness: float | None = None
    verdict: str = ""
    reason: str = ""
    annotator: str = ""
    annotator_sha256: str = ""
    annotation: str = ""
    diameter_px: float | None = None
    cells: int | None = None
    corrected: bool = False
    split: str = ""

    @property
    def stem(self) -> str:
        """TYPE/NAME, the image's path below images/ without its suffix."""
        return self.image.removesuffix(".png")


COLUMNS = tuple(field.name for field in dataclasses.fields(ImageRow))


@dataclasses.dataclass(frozen=True)
class Study:
    """A folder of images of known cell types.

    Attributes:
      root: the folder.
      cell_types: names of the types, in class order.
      channel_rules: 'nuclei' and 'cytoplasm', each a list of patterns of channel names.
      pixel_size_um: used where a file records none; None if unknown.
    """

    root: pathlib.Path
    cell_types: tuple[str, ...] = DEFAULT_CELL_TYPES
    channel_rules: Mapping[str, Sequence[str]] = dataclasses.field(
        default_factory=lambda: DEFAULT_CHANNEL_RULES
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
            "pixel_size_um": pixel_size_um,
        }
        files.write_text(study._file, yaml.safe_dump(content, sort_keys=False))
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
                content.get("channels") or DEFAULT_CHANNEL_RULES,
                _to_float(str(content.get("pixel_size_um") or "")),
            )
        except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: expected cell_types (a list), channels and pixel_size_um; "
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
        return self.root / "images" / _safe(row.image)

    def cells_path(self, row: ImageRow) -> pathlib.Path:
        """Where the label image of a row lies."""
        return self.root / "cells" / _safe(f"{row.stem}.tif")

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

    def rows(self) -> list[ImageRow]:
        """Reads the manifest, sorted by image.

        Raises:
          InputError: if images.csv is broken.
        """
        if not self.manifest_path.exists():
            return []
        rows = []
        for number, line in enumerate(files.read_csv(self.manifest_path), start=2):
            try:
                rows.append(_row_from_strings(line))
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"{self.manifest_path}, line {number}: {error}"
                ) from error
        return sorted(rows, key=lambda row: row.image)

    def accepted_rows(self) -> list[ImageRow]:
        """The rows that are not rejected."""
        return [row for row in self.rows() if row.verdict != "rejected"]

    def update(self, rows: Iterable[ImageRow]) -> None:
        """Puts rows into the manifest, in place of those of the same image.

        Columns that are not of `ImageRow` stay as they are.
        """
        by_image = {row.image: row for row in self.rows()}
        by_image.update((row.image, row) for row in rows)
        columns, extra = self._columns_of_users()
        files.write_csv(
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
        lines = files.read_csv(self.manifest_path)
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
    image = files.read_png(path)
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


def _safe(relative: str) -> pathlib.PurePosixPath:
    path = pathlib.PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or "\\" in relative:
        raise InputError(f"images.csv names {relative!r}, a path out of the study.")
    return path


def _row_from_strings(line: Mapping[str, str]) -> ImageRow:
    values = {}
    for field in dataclasses.fields(ImageRow):
        text = (line.get(field.name) or "").strip()
        values[field.name] = _PARSERS.get(field.type, str)(text)
    if not values["image"] or not values["cell_type"]:
        raise ValueError("expected at least the columns image and cell_type, filled")
    return ImageRow(**values)


def _to_float(text: str) -> float | None:
    return float(text) if text else None


# Annotations are strings here (see the __future__ import), which makes them keys.
_PARSERS = {
    "int": lambda text: int(text or 0),
    "int | None": lambda text: int(text) if text else None,
    "float | None": _to_float,
    "bool": lambda text: text.lower() in ("true", "1", "yes"),
}
