"""Rows of the manifest, images.csv: one row per merged image."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from cellclass_tf.core.micrograph import PIXEL_SIZES_UM
from cellclass_tf.core.type_names import MIXED, is_of_windows, type_name

ACCEPTED, REJECTED = "accepted", "rejected"
SPLITS = ("train", "validation", "test", MIXED)

# The parts of a row. One stage writes each: `convert` the first three, the check of image
# quality the verdict, `annotate` and `import` the annotation, and `dataset` the split.
ORIGIN, LIKENESS, QUALITY = "origin", "likeness", "quality"
VERDICT, ANNOTATION, SPLIT = "verdict", "annotation", "split"
PARTS = (ORIGIN, LIKENESS, QUALITY, VERDICT, ANNOTATION, SPLIT)

# Begins the list in the column by_hand; earlier versions wrote the numbers alone.
BY_HAND_PREFIX = "cells "
LONGEST_NAME = 100
# Largest p value at which types are said to be rejected unequally.
_UNEVEN_P = 0.01


def _of(part: str, default: Any = dataclasses.MISSING) -> Any:
    return dataclasses.field(default=default, metadata={"part": part})


@dataclasses.dataclass(frozen=True)
class ImageRow:
    """One row of images.csv, which describes one merged image.

    The columns that people edit come first. Each column belongs to one of PARTS, and only
    the stage that writes this part replaces it; see `Study.update`.

    - `verdict` is '' (not judged), 'accepted' or 'rejected'. Rejected images are not part
      of the dataset.
    - `nuclei_limits` and `cytoplasm_limits` are contrast limits, 'low-high' in grey values
      of the raw file. `contrast` is 'group' or 'field', the images that they were chosen
      for, or 'kept' for 8-bit colour images. `contrast_group` is the acquisition group
      whose images are compared with each other.
    - `stage_x_um` and `stage_y_um` are the position of the microscope's stage according to
      the raw file; only differences between fields of one dish have a meaning.
    - Columns whose names end in _share lie in [0, 1].
    - `scene_hash` is the hash of `near_duplicates`; '' if it is not known or if the field
      has too little structure.
    - The quality figures are those of `quality.figures`.
    - `annotation` is a fingerprint of how the cells were made; `annotator_settings` is a
      description of it. `cells_sha256` is the SHA-256 of the label image, `types_sha256`
      that of the table of types beside it. `cells_source` is the `source` of the image on
      which the cells were made. `by_hand` lists the cells that a person drew
      ('cells 3,17-20'; the word keeps spreadsheets from reading '1-2' as a date). `doubts`
      holds the number of doubtful cells by reason.
    """

    image: str = _of(ORIGIN)
    cell_type: str = _of(ORIGIN)
    group: str = _of(ORIGIN, "")
    verdict: str = _of(VERDICT, "")
    reason: str = _of(VERDICT, "")
    corrected: bool = _of(ANNOTATION, False)
    split: str = _of(SPLIT, "")
    raw_file: str = _of(ORIGIN, "")
    raw_sha256: str = _of(ORIGIN, "")
    raw_reader: str = _of(ORIGIN, "")
    scene: int = _of(ORIGIN, 0)
    scene_name: str = _of(ORIGIN, "")
    time: int = _of(ORIGIN, 0)
    z: str = _of(ORIGIN, "")
    nuclei_channel: str = _of(ORIGIN, "")
    cytoplasm_channel: str = _of(ORIGIN, "")
    channels_by: str = _of(ORIGIN, "")
    contrast_group: str = _of(ORIGIN, "")
    contrast: str = _of(ORIGIN, "")
    nuclei_limits: str = _of(ORIGIN, "")
    cytoplasm_limits: str = _of(ORIGIN, "")
    nuclei_clipped: float | None = _of(ORIGIN, None)
    cytoplasm_clipped: float | None = _of(ORIGIN, None)
    pixel_size_um: float | None = _of(ORIGIN, None)
    stage_x_um: float | None = _of(ORIGIN, None)
    stage_y_um: float | None = _of(ORIGIN, None)
    image_sha256: str = _of(ORIGIN, "")
    scene_hash: str = _of(LIKENESS, "")
    focus_slope: float | None = _of(QUALITY, None)
    focus_laplacian: float | None = _of(QUALITY, None)
    saturated_share: float | None = _of(QUALITY, None)
    nuclei_estimate: int | None = _of(QUALITY, None)
    nucleus_px: float | None = _of(QUALITY, None)
    specks_per_nucleus: float | None = _of(QUALITY, None)
    debris_share: float | None = _of(QUALITY, None)
    glow_share: float | None = _of(QUALITY, None)
    unevenness: float | None = _of(QUALITY, None)
    display_clipped_share: float | None = _of(QUALITY, None)
    bare_share: float | None = _of(QUALITY, None)
    channel_likeness: float | None = _of(QUALITY, None)
    cut_off_share: float | None = _of(QUALITY, None)
    scale_bar_px: int | None = _of(QUALITY, None)
    annotator: str = _of(ANNOTATION, "")
    annotator_sha256: str = _of(ANNOTATION, "")
    annotation: str = _of(ANNOTATION, "")
    annotator_settings: str = _of(ANNOTATION, "")
    diameter_px: float | None = _of(ANNOTATION, None)
    cells: int | None = _of(ANNOTATION, None)
    cells_sha256: str = _of(ANNOTATION, "")
    types_sha256: str = _of(ANNOTATION, "")
    cells_source: str = _of(ANNOTATION, "")
    by_hand: str = _of(ANNOTATION, "")
    doubts: str = _of(ANNOTATION, "")

    @property
    def source(self) -> str:
        """The raw file, scene and time point that the image shows; '' if unknown."""
        return f"{self.raw_sha256}/{self.scene}/{self.time}" if self.raw_sha256 else ""

    @property
    def place(self) -> str:
        """The raw file and scene that the image shows, at any time; '' if unknown."""
        return f"{self.raw_sha256[:12]}/{self.scene}" if self.raw_sha256 else ""

    @property
    def stage_um(self) -> tuple[float, float] | None:
        """The position (x, y) of the stage; None if it is not known."""
        if self.stage_x_um is None or self.stage_y_um is None:
            return None
        return self.stage_x_um, self.stage_y_um

    @property
    def has_cells_of_another_source(self) -> bool:
        """Whether the cells were made on an image with another `source`."""
        return bool(self.cells_source) and self.source not in ("", self.cells_source)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Short reasons for the rejection of the image; empty if it is not rejected."""
        if self.verdict != REJECTED:
            return ()
        return words_of_reason(self.reason) or ("by hand",)

    @property
    def stem(self) -> str:
        """TYPE/NAME: the path of the image below images/, without its suffix."""
        return self.image.removesuffix(".png")

    @property
    def name(self) -> str:
        """NAME: the file name of the image, without folder and suffix."""
        return self.stem.rpartition("/")[2]


def words_of_reason(reason: str) -> tuple[str, ...]:
    """Returns the reasons in the column `reason`, without their numbers, each once."""
    words = (part.split(":")[0].strip() for part in reason.split(";"))
    return tuple(dict.fromkeys(filter(None, words)))


COLUMNS = tuple(field.name for field in dataclasses.fields(ImageRow))
# The columns that people edit; every version has written them.
EDITED_COLUMNS = COLUMNS[: COLUMNS.index("split") + 1]


def columns_of(*parts: str) -> tuple[str, ...]:
    """Returns the columns that belong to the given PARTS."""
    fields = dataclasses.fields(ImageRow)
    return tuple(field.name for field in fields if field.metadata["part"] in parts)


def image_name(
    file_name: str, endings: Iterable[str] | None = None, *, as_before: bool = False
) -> str:
    """Returns the NAME of the image that is made of a file.

    The ending of the file name is removed, and each run of special characters becomes
    '_'. The result does not begin with a dot, is not empty, and is not reserved by
    Windows. A name of more than LONGEST_NAME characters is cut, and ends with a hash of
    the whole name.

    Args:
      file_name: the file name without folders.
      endings: endings to remove, in upper or lower case, together with an '.ome' before
        them; None for any ending.
      as_before: whether a long name is cut without a hash, as in earlier versions.
    """
    known = r"\.[^.]*" if endings is None else "|".join(map(re.escape, endings))
    stem = re.sub(rf"(?<=.)(\.ome)?({known})$", "", file_name, flags=re.IGNORECASE)
    name = re.sub(r"[^\w.+-]+", "_", stem).lstrip(".") or "_"
    if len(name) > LONGEST_NAME and as_before:
        name = name[:LONGEST_NAME]
    elif len(name) > LONGEST_NAME:
        # Two files may differ only in the part that is cut off.
        digest = hashlib.sha256(stem.encode(errors="surrogateescape")).hexdigest()[:8]
        name = f"{name[: LONGEST_NAME - 9]}_{digest}"
    return f"_{name}" if is_of_windows(name) else name


class Cost(NamedTuple):
    """What is lost because of one reason for rejection.

    Attributes:
      fields: number of rejected images.
      cells: number of annotated cells in them; for images that are not annotated, the
        estimated number of nuclei.
    """

    fields: int
    cells: int


def costs_of_rejection(rows: Iterable[ImageRow]) -> dict[str, Cost]:
    """Returns what each reason costs; an image with two reasons counts for both."""
    costs: dict[str, Cost] = collections.defaultdict(lambda: Cost(0, 0))
    for row in rows:
        cells = row.nuclei_estimate if row.cells is None else row.cells
        for reason in row.reasons:
            fields, total = costs[reason]
            costs[reason] = Cost(fields + 1, total + (cells or 0))
    return dict(sorted(costs.items()))


def uneven_rejection(rows: Iterable[ImageRow]) -> str:
    """Warns if the share of rejected images differs between types beyond chance.

    Each type is compared with all others by Fisher's exact test. The smallest p value,
    multiplied by the number of types (Bonferroni), has to be at most 0.01. Images of
    mixed cultures count as a type of their own.

    Returns:
      A warning of two sentences; '' if there is no reason for one.
    """
    counts: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for row in rows:
        if row.verdict:
            counts[row.cell_type][row.verdict == REJECTED] += 1
    if len(counts) < 2 or not any(rejected for _, rejected in counts.values()):
        return ""
    from scipy import stats

    totals = [sum(column) for column in zip(*counts.values(), strict=True)]
    found = {
        name: stats.fisher_exact(
            [own, [total - n for total, n in zip(totals, own, strict=True)]]
        )[1]
        for name, own in sorted(counts.items())
    }
    p = min(min(found.values()) * (len(found) if len(found) > 2 else 1), 1.0)
    if p > _UNEVEN_P:
        return ""
    shares = ", ".join(
        f"{rejected} of {accepted + rejected} {name}"
        for name, (accepted, rejected) in sorted(counts.items())
    )
    return (
        f"The share of rejected images differs between types beyond chance ({shares}; "
        f"p = {p:.2g}). The criteria may respond to the look of a type instead of the "
        "quality of its images: look at the contact sheets, and accept or reject by hand."
    )


def row_from_strings(line: Mapping[str, str]) -> ImageRow:
    """Parses a line of images.csv as programs and spreadsheets write it.

    Raises:
      ValueError: if a value is not valid; the message names the column and what is
        expected. An invalid value is never replaced by a default.
    """
    values = {}
    for field in dataclasses.fields(ImageRow):
        text = (line.get(field.name) or "").strip()
        parse = _PARSER_OF_COLUMN.get(field.name) or _PARSERS[str(field.type)]
        try:
            values[field.name] = parse(text)
        except ValueError as error:
            raise ValueError(
                f"column {field.name}: expected {error}; got {text!r}"
            ) from error
    if not values["image"] or not values["cell_type"]:
        raise ValueError("expected at least the columns image and cell_type, filled")
    return ImageRow(**values)


def to_float(text: str) -> float | None:
    """Parses a number with a point or comma as decimal separator; '' gives None.

    Raises:
      ValueError: if the text is not a number.
    """
    try:
        return float(text.replace(",", ".")) if text else None
    except ValueError as error:
        raise ValueError("a number, or nothing") from error


def _to_pixel_size(text: str) -> float | None:
    size_um, (least, most) = to_float(text), PIXEL_SIZES_UM
    if size_um is not None and not least <= size_um <= most:
        raise ValueError(
            f"the width of a pixel in the specimen, {least} to {most:.0f} µm, or nothing "
            "(did a spreadsheet remove the decimal separator?)"
        )
    return size_um


def _to_int(text: str) -> int | None:
    number = to_float(text)
    if number is not None and not number.is_integer():
        raise ValueError("a whole number, or nothing")
    return None if number is None else int(number)


def _to_bool(text: str) -> bool:
    for value, words in ((True, _YES), (False, _NO)):
        if text.casefold() in words:
            return value
    raise ValueError("true or false (or yes, no, 1, 0, WAHR, FALSCH, VRAI, FAUX …)")


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text and text.casefold() not in words:
            raise ValueError(f"{', '.join(words)}, or nothing")
        return text.casefold()

    return parse


def _matching(pattern: str, what: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text and not re.fullmatch(pattern, text):
            raise ValueError(
                f"{what}, or nothing (did a spreadsheet turn it into a date?)"
            )
        return text

    return parse


# True and false as people and spreadsheets in several languages write them.
_YES = [
    "true",
    "1",
    "1.0",
    "1,0",
    "yes",
    "y",
    "x",
    "wahr",
    "ja",
    "j",
    "vrai",
    "oui",
    "o",
    "verdadero",
    "si",
    "sí",
    "s",
    "vero",
    "sim",
]
_NO = [
    "false",
    "0",
    "0.0",
    "0,0",
    "no",
    "n",
    "falsch",
    "nein",
    "faux",
    "non",
    "falso",
    "não",
    "",
]
_NUMBER = r"[\d.,]+(e[+-]?\d+)?"
_LIMITS = _matching(rf"-?{_NUMBER}--?{_NUMBER}", "two numbers such as 90-4000")
_PARSER_OF_COLUMN: dict[str, Callable[[str], Any]] = {
    "cell_type": type_name,
    "verdict": _one_of(ACCEPTED, REJECTED),
    "split": _one_of(*SPLITS),
    "pixel_size_um": _to_pixel_size,
    "nuclei_limits": _LIMITS,
    "cytoplasm_limits": _LIMITS,
}
# The keys are the annotations of fields, which are strings because of the __future__ import.
_PARSERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": lambda text: _to_int(text) or 0,
    "int | None": _to_int,
    "float | None": to_float,
    "bool": _to_bool,
}
