"""The manifest's rows: one merged image each, and all that is known of it."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

ACCEPTED, REJECTED = "accepted", "rejected"


@dataclasses.dataclass(frozen=True)
class ImageRow:
    """One row of images.csv: one merged image and all that is known of it.

    Contrast limits are 'low-high' in the raw file's numbers, `contrast` says whose
    they are ('group', 'field', or 'kept' of 8-bit colour images), and `contrast_group`
    names the acquisition group whose images are compared with each other; shares lie in
    [0, 1]. `scene_hash` is that of `near_duplicates`, '' where it is not known or the field has
    too little in it. Quality figures are those of `quality.figures`. `verdict` is '' (not judged), 'accepted' or 'rejected';
    rejected images stay out of the dataset. `annotation` is the fingerprint of what
    made the cells, `annotator_settings` says it in words, `cells_sha256` is that of the
    label image and `types_sha256` that of the table of types beside it, `by_hand` names the cells that a person drew ('3,17-20'), and `doubts`
    counts the doubtful ones by reason.
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
    contrast: str = ""
    nuclei_limits: str = ""
    cytoplasm_limits: str = ""
    nuclei_clipped: float | None = None
    cytoplasm_clipped: float | None = None
    pixel_size_um: float | None = None
    image_sha256: str = ""
    scene_hash: str = ""
    focus_slope: float | None = None
    focus_laplacian: float | None = None
    saturated_share: float | None = None
    nuclei_estimate: int | None = None
    nucleus_px: float | None = None
    specks_per_nucleus: float | None = None
    debris_share: float | None = None
    glow_share: float | None = None
    unevenness: float | None = None
    verdict: str = ""
    reason: str = ""
    annotator: str = ""
    annotator_sha256: str = ""
    annotation: str = ""
    annotator_settings: str = ""
    diameter_px: float | None = None
    cells: int | None = None
    cells_sha256: str = ""
    types_sha256: str = ""
    corrected: bool = False
    by_hand: str = ""
    doubts: str = ""
    split: str = ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the image is rejected, in short words; empty if it is not."""
        if self.verdict != REJECTED:
            return ()
        words = (part.split(":")[0].strip() for part in self.reason.split(";"))
        return tuple(dict.fromkeys(filter(None, words))) or ("by hand",)

    @property
    def stem(self) -> str:
        """TYPE/NAME, the image's path below images/ without its suffix."""
        return self.image.removesuffix(".png")

    @property
    def name(self) -> str:
        """NAME, the image's own name without folder and suffix."""
        return self.stem.rpartition("/")[2]


COLUMNS = tuple(field.name for field in dataclasses.fields(ImageRow))


def image_name(file_name: str, endings: Iterable[str] | None = None) -> str:
    """Returns the NAME of the image of a file: without its ending, odd characters as '_'.

    It never begins with a dot, and is neither empty nor longer than names may be.

    Args:
      file_name: without folders.
      endings: those that are taken away, in any case, with an '.ome' before them; None
        for whatever ending there is.
    """
    known = r"\.[^.]*" if endings is None else "|".join(map(re.escape, endings))
    stem = re.sub(rf"(?<=.)(\.ome)?({known})$", "", file_name, flags=re.IGNORECASE)
    return re.sub(r"[^\w.+-]+", "_", stem).lstrip(".")[:100] or "_"


class Cost(NamedTuple):
    """What a reason for rejection costs.

    Attributes:
      fields: rejected images.
      cells: annotated cells in them; where there are none, the estimate of nuclei.
    """

    fields: int
    cells: int


def costs_of_rejection(rows: Iterable[ImageRow]) -> dict[str, Cost]:
    """What every reason costs; an image with two reasons counts for each."""
    costs = collections.defaultdict(lambda: Cost(0, 0))
    for row in rows:
        cells = row.nuclei_estimate if row.cells is None else row.cells
        for reason in row.reasons:
            fields, total = costs[reason]
            costs[reason] = Cost(fields + 1, total + (cells or 0))
    return dict(sorted(costs.items()))


def row_from_strings(line: Mapping[str, str]) -> ImageRow:
    """Parses a line of images.csv.

    Raises:
      KeyError, TypeError or ValueError: if it is none.
    """
    values = {}
    for field in dataclasses.fields(ImageRow):
        text = (line.get(field.name) or "").strip()
        values[field.name] = _PARSERS.get(field.type, str)(text)
    if not values["image"] or not values["cell_type"]:
        raise ValueError("expected at least the columns image and cell_type, filled")
    return ImageRow(**values)


def to_float(text: str) -> float | None:
    """Returns a number; None for ''."""
    return float(text) if text else None


# Annotations are strings here (see the __future__ import), which makes them keys.
_PARSERS = {
    "int": lambda text: int(text or 0),
    "int | None": lambda text: int(text) if text else None,
    "float | None": to_float,
    "bool": lambda text: text.lower() in ("true", "1", "yes"),
}
