"""Judges a study's fields against their groups, and draws a contact sheet of each group."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Iterable, Iterator

import numpy as np

from cellclass_tf import batch
from cellclass_tf.core.manifest import (
    ACCEPTED,
    REJECTED,
    VERDICT,
    costs_of_rejection,
    uneven_rejection,
)
from cellclass_tf.core.study import MIXED, ImageRow, Study
from cellclass_tf.errors import InputError, first_names
from cellclass_tf.messages import logger
from cellclass_tf.microscopy.quality import contact_sheet, criteria
from cellclass_tf.microscopy.quality.figures import Figures
from cellclass_tf.storage import atomic, digests, ledger, png

CULTURES_SHEET = "pure_and_mixed.png"
# Number of fields of each culture on the sheet of cultures.
_FIELDS_BESIDE = 5
# A field is rejected if the contrast limits of its group leave more than this share of a
# channel's pixels white.
_MOST_WHITE = 0.5
_FIGURES = tuple(field.name for field in dataclasses.fields(Figures))


def judge(study: Study, images: Iterable[str], engine: batch.Engine) -> None:
    """Judges the groups to which some images belong, and records their verdicts.

    Writes the manifest's columns verdict and reason, STUDY/quality/GROUP.png and, if there
    are pure and mixed cultures, pure_and_mixed.png. A verdict that a person changed is
    kept.

    Args:
      study: the study; its manifest has the figures of every image.
      images: the images that were converted.
      engine: what runs the jobs that draw the sheets.
    """
    images = set(images)
    rows = study.rows()
    touched = {row.contrast_group for row in rows if row.image in images}
    groups = collections.defaultdict(list)
    for row in rows:
        if row.contrast_group in touched and row.focus_slope is not None:
            groups[row.contrast_group].append(row)
    found: list[ImageRow] = []
    for members in groups.values():
        by_figures = criteria.judge([_figures(row) for row in members])
        reasons = map(_with_reason_of_contrast, members, by_figures)
        found += map(_with_verdict, members, reasons)
    study.update(found, VERDICT)
    # Read again, since a person's verdict takes precedence.
    now = {row.image: row for row in study.rows()}
    judged = {
        name: [now[row.image] for row in members if row.image in now]
        for name, members in sorted(groups.items())
    }
    if judged:
        _draw_sheets(study, judged, engine)
    _log_warnings(study, judged)


def write_thumbnail(study: Study, row: ImageRow, merged: np.ndarray) -> None:
    """Writes the thumbnail of a merged image, (H, W, 3) uint8, for contact sheets."""
    from PIL import Image

    with atomic.atomic_path(_thumbnail_path(study, row)) as temporary:
        picture = contact_sheet.thumbnail(merged)
        Image.fromarray(picture).save(temporary, format="JPEG", quality=90)


def _thumbnail_path(study: Study, row: ImageRow) -> pathlib.Path:
    path = study.image_path(row).relative_to(study.root / "images")
    return study.root / ".journal" / "thumbnails" / path.with_suffix(".jpg")


def _read_thumbnail(study: Study, row: ImageRow) -> np.ndarray:
    from PIL import Image

    if not _thumbnail_path(study, row).exists():
        write_thumbnail(study, row, study.read_image(row))
    with Image.open(_thumbnail_path(study, row)) as picture:
        return np.asarray(picture)


def _figures(row: ImageRow) -> Figures:
    found = {name: getattr(row, name) for name in _FIGURES}
    return Figures(
        **{name: value for name, value in found.items() if value is not None}
    )


def _with_reason_of_contrast(row: ImageRow, reason: str) -> str:
    """Adds a reason if the field is too bright for the contrast limits of its group."""
    white = max(row.nuclei_clipped or 0.0, row.cytoplasm_clipped or 0.0)
    if row.contrast != "group" or white <= _MOST_WHITE:
        return reason
    own = f"too bright: white share of pixels {white:.1%} (limit {_MOST_WHITE:.1%})"
    return f"{reason}; {own}" if reason else own


def _with_verdict(row: ImageRow, reason: str) -> ImageRow:
    verdict = REJECTED if reason else ACCEPTED
    return dataclasses.replace(row, verdict=verdict, reason=reason)


@dataclasses.dataclass(frozen=True)
class _Sheet:
    """The contact sheet of a group, with its worst fields first."""

    study: Study
    group: str
    rows: list[ImageRow]
    total: int

    @property
    def path(self) -> pathlib.Path:
        return self.study.root / "quality" / f"{_slug(self.group)}.png"

    @property
    def key(self) -> str:
        shown = [(row.image_sha256, row.verdict, row.reason) for row in self.rows]
        return digests.fingerprint(self.total, shown)

    def draw(self) -> tuple[np.ndarray, int]:
        """Returns the picture, and the number of fields on it."""
        fields = []
        for row in self.rows:
            with _reported(self.path, row):
                thumbnail = _read_thumbnail(self.study, row)
                shown = row.verdict, row.reason, _in_words(_figures(row))
                fields.append(contact_sheet.SheetField(row.stem, thumbnail, *shown))
        if not fields:
            raise InputError("none of its images can be read.")
        return contact_sheet.draw(self.group, fields, self.total), len(fields)


@dataclasses.dataclass(frozen=True)
class _Cultures:
    """The sheet of pure and mixed cultures side by side, with some fields of each."""

    study: Study
    rows: dict[str, list[ImageRow]]

    @property
    def path(self) -> pathlib.Path:
        return self.study.root / "quality" / CULTURES_SHEET

    @property
    def key(self) -> str:
        return digests.fingerprint(
            [
                (name, [(row.image_sha256, row.verdict) for row in rows])
                for name, rows in self.rows.items()
            ]
        )

    def draw(self) -> tuple[np.ndarray, int]:
        """Returns the picture, and the number of fields on it."""
        shown = {}
        for name, rows in self.rows.items():
            drawn = []
            for row in rows:
                with _reported(self.path, row):
                    told = f"median grey level {_medians(self.study.read_image(row))}"
                    picture = _read_thumbnail(self.study, row)
                    drawn.append(
                        contact_sheet.SheetField(
                            row.stem, picture, row.verdict, "", told
                        )
                    )
            if drawn:
                shown[name] = drawn
        if not shown:
            raise InputError("none of its images can be read.")
        return contact_sheet.draw_beside(shown), sum(map(len, shown.values()))


@contextlib.contextmanager
def _reported(sheet: pathlib.Path, row: ImageRow) -> Iterator[None]:
    """Warns of an image that cannot be read, and goes on without it."""
    try:
        yield
    except InputError as error:
        logger.warning("%s is missing on %s: %s", row.image, sheet, error)


def _draw_sheets(
    study: Study, judged: dict[str, list[ImageRow]], engine: batch.Engine
) -> None:
    sheets: dict[str, _Sheet | _Cultures] = {}
    for group, rows in judged.items():
        worst = sorted(rows, key=_badness, reverse=True)[: contact_sheet.MOST_FIELDS]
        sheets[group or "-"] = _Sheet(study, group, worst, len(rows))
    cultures = _cultures(study)
    if cultures is None:
        (study.root / "quality" / CULTURES_SHEET).unlink(missing_ok=True)
    else:
        sheets[CULTURES_SHEET] = cultures
    outcome = batch.run(
        _draw_sheet,
        [batch.Job(name, s, s.key, (s.path,)) for name, s in sheets.items()],
        description="contact sheets",
        journal=batch.Journal(study.journal("contact_sheets")),
        engine=engine,
    )
    for name, reason in outcome.failures.items():
        logger.warning("The contact sheet of %s was not drawn: %s", name, reason)


def _cultures(study: Study) -> _Cultures | None:
    """Chooses fields of each culture, mixed last; None unless there are pure and mixed."""
    cultures: dict[str, list[ImageRow]] = {}
    for row in study.accepted_rows():
        cultures.setdefault(row.cell_type, []).append(row)
    if MIXED not in cultures or len(cultures) < 2:
        return None
    ordered = sorted(cultures.items(), key=lambda item: item[0] == MIXED)
    return _Cultures(
        study,
        {name: rows[:: -(-len(rows) // _FIELDS_BESIDE)] for name, rows in ordered},
    )


def _draw_sheet(sheet: _Sheet | _Cultures) -> dict:
    drawn, fields = sheet.draw()
    ledger.write_picture(sheet.study.root, sheet.path, png.encode_png(drawn))
    return {"fields": fields}


def _medians(merged: np.ndarray) -> str:
    cytoplasm, nuclei = (int(np.median(merged[..., c])) for c in (1, 2))
    return f"{cytoplasm} cytoplasm, {nuclei} nuclei"


def _slug(group: str) -> str:
    """Returns a unique file name for a group."""
    digest = hashlib.sha256(group.encode()).hexdigest()[:6]
    text = re.sub(r"[^\w+-]+", "_", group)[-60:].strip("_")
    is_own = text == group and f"{text}.png" != CULTURES_SHEET
    return text if is_own else f"{text}-{digest}"


def _badness(row: ImageRow) -> tuple:
    figures = _figures(row)
    return row.verdict == REJECTED, criteria.severity(figures, row.reason), row.image


def _in_words(figures: Figures) -> str:
    at_top = figures.saturated_share or figures.display_clipped_share
    word = "clipped" if figures.display_clipped_share else "saturated"
    return (
        f"sharp {criteria.focus_score(figures):.2f}, {figures.nuclei_estimate} nuclei, "
        f"{word} {at_top:.1%}, glow {figures.glow_share:.0%}, "
        f"uneven {figures.unevenness:.0%}"
    )


def _log_warnings(study: Study, judged: dict[str, list[ImageRow]]) -> None:
    """Warns of clipped fields, of rejected fields, and of types rejected more often."""
    rows = [row for members in judged.values() for row in members]
    rejected = [row for row in rows if row.verdict == REJECTED]
    accepted = [row for row in rows if row.verdict != REJECTED]
    clipped = [r.image for r in accepted if criteria.is_clipped(_figures(r))]
    if clipped:
        logger.warning(
            "8-bit fields with more than %.1g%% of their pixels at 255: %d (%s). Usually a "
            "program stretched the contrast for display, and not the camera. The fields "
            "are accepted, but brighter details are lost.",
            100 * criteria.CLIPPED_SHARE,
            len(clipped),
            first_names(clipped, 3),
        )
    if not rejected:
        return
    costs = costs_of_rejection(rejected).items()
    logger.warning(
        "%d of %d fields are rejected (%s). Look at the contact sheets in %s. To keep a "
        "field, write accepted into its column verdict of %s.",
        len(rejected),
        len(rows),
        ", ".join(f"{cost.fields} {reason}" for reason, cost in costs),
        study.root / "quality",
        study.manifest_path,
    )
    # The whole study counts, since the dataset is made of it.
    if uneven := uneven_rejection(study.rows()):
        logger.warning("%s", uneven)
