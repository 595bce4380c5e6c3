"""What people said of the cells of a sample."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cellclass_tf import process_state
from cellclass_tf.analysis.spot_check import sample
from cellclass_tf.analysis.spot_check.sample import Sample
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json, digests, ledger, lock

LABELS_FILE = "labels.csv"
NOT_A_CELL, CANNOT_TELL = "not a cell", "cannot tell"
COLUMNS = (
    "spotcheck",
    "window",
    "kind",
    "cell",
    "y_px",
    "x_px",
    "label",
    "second_label",
    "labeller",
)
# Kinds of rows: an outlined cell, one that was clicked, a window that is finished.
_CELL, _MISSED, _DONE = "cell", "missed", "done"
_EXPECTED = "the table that the page of `cellclass spotcheck` saves"


@dataclasses.dataclass(frozen=True)
class LabelledWindow:
    """What one person said of a window.

    Attributes:
      cells: what each outlined cell is, by its number: a type, NOT_A_CELL, CANNOT_TELL, or
        two types where the outline holds two cells.
      missed: types of the cells without an outline.
    """

    cells: Mapping[int, tuple[str, ...]]
    missed: tuple[str, ...]


# What each person said, by name: the windows that they finished, by number from 0.
Labels = Mapping[str, Mapping[int, LabelledWindow]]


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far people agree on the cells that several of them labelled.

    Attributes:
      cells: that several labelled.
      differ: cells of which they said different things.
      kappa: Cohen's, of two people (1960, doi:10.1177/001316446002000104); the mean of all
        pairs of more. None where chance alone would have them agree.
    """

    cells: int
    differ: int
    kappa: float | None


@dataclasses.dataclass(frozen=True)
class ImportedLabels:
    """What `import_spotcheck` read.

    Attributes:
      windows: finished ones by labeller.
      drawn: windows of the sample.
      agreement: None of one person alone.
    """

    windows: Mapping[str, int]
    drawn: int
    agreement: Agreement | None

    def __str__(self) -> str:
        told = [
            f"{name}: {count} of {self.drawn} windows"
            for name, count in self.windows.items()
        ]
        if self.agreement:
            told.append(in_words(self.agreement))
        return "\n".join([*told, "`cellclass report` now gives the shares."])


@process_state.keep()
@lock.writes("predictions")
def import_spotcheck(
    predictions: str | os.PathLike | Predictions, source: str | os.PathLike
) -> ImportedLabels:
    """Reads what people labelled on the page of `spotcheck`.

    All labels of a spot check are in PREDICTIONS/spotcheck/labels.csv; those of a person who
    is in it already are replaced.

    Args:
      predictions: what `predict` wrote, and `spotcheck` drew from.
      source: the table that the page saved, or a folder of such tables, one a person.

    Returns:
      How much was labelled, and how far people agree.

    Raises:
      InputError: if there is no spot check, or a table is no such table, is of another spot
        check, names what is not in the sample, or has no finished window.
    """
    if not isinstance(predictions, Predictions):
        predictions = Predictions(predictions)
    drawn = current_sample(predictions)
    tables = _tables_in(pathlib.Path(source))
    read: dict[str, list[dict[str, str]]] = {}
    for path in tables:
        for name, rows in _by_labeller(_checked_rows(path, drawn)).items():
            if name in read:
                raise InputError(
                    f"{path}: {name or 'a person without a name'!r} labelled another of "
                    "the tables, too. Write one name for each person into the column "
                    "labeller."
                )
            read[name] = rows
    path = predictions.folder / sample.SPOT_CHECK_FOLDER / LABELS_FILE
    known = _by_labeller(_checked_rows(path, drawn)) if path.exists() else {}
    together = known | read
    rows = list(
        itertools.chain.from_iterable(together[name] for name in sorted(together))
    )
    found = _parsed(rows, drawn, tables[0])
    if not any(found.values()):
        raise InputError(
            f"{tables[0]}: no window is finished. Label the first window, choose `next`, "
            "and save the table again."
        )
    ledger.write_text(predictions.folder, path, csv_json.csv_text(COLUMNS, rows))
    return ImportedLabels(
        {name: len(windows) for name, windows in found.items()},
        len(drawn.windows),
        agreement(found),
    )


def current_sample(predictions: Predictions) -> Sample:
    """Reads the sample that was drawn from predictions as they are now.

    Raises:
      InputError: if there is none, or if the predictions have changed since, or the model
        has seen labels of some of its fields.
    """
    path = predictions.folder / sample.SPOT_CHECK_FOLDER / sample.SAMPLE_FILE
    if not path.exists():
        raise InputError(
            f"{path} does not exist: there is no spot check of these predictions. Run "
            "`cellclass spotcheck`."
        )
    drawn = Sample.read(path)
    if drawn.cells_sha256 != digests.sha256_of_file(predictions.cells_path):
        raise InputError(
            f"{path}: the spot check is of other predictions than those that are in "
            f"{predictions.folder} now (another SHA-256 of cells.csv). Run `cellclass "
            "spotcheck --overwrite`, and label anew."
        )
    fields = {window.image for window in drawn.windows}
    seen = predictions.record_if_any.labelled_stems & fields
    if seen:
        raise InputError(
            f"{path}: {sample.why_seen(len(seen), len(fields))} of the spot check "
            f"({', '.join(sorted(seen)[:3])}): labels are for the model or for its estimate, "
            "never for both. Run `cellclass spotcheck --overwrite`, which leaves these "
            "fields out."
        )
    return drawn


def read_labels(predictions: Predictions, drawn: Sample) -> Labels:
    """Reads what was imported; nothing if nothing was.

    Raises:
      InputError: if it is of another sample, or broken.
    """
    path = predictions.folder / sample.SPOT_CHECK_FOLDER / LABELS_FILE
    if not path.exists():
        return {}
    return _parsed(_checked_rows(path, drawn), drawn, path)


def agreement(labels: Labels) -> Agreement | None:
    """How far people agree on the cells that they both labelled; None of one person."""
    if len(labels) < 2:
        return None
    both: dict[tuple[int, int], set[tuple[str, ...]]] = {}
    kappas = []
    for one, other in itertools.combinations(labels.values(), 2):
        pairs = []
        for number in one.keys() & other.keys():
            for cell, said in one[number].cells.items():
                pairs.append((said, other[number].cells[cell]))
                both.setdefault((number, cell), set()).update(pairs[-1])
        kappas.append(_kappa(pairs))
    known = [kappa for kappa in kappas if kappa is not None]
    return Agreement(
        len(both),
        sum(len(said) > 1 for said in both.values()),
        sum(known) / len(known) if known else None,
    )


def in_words(agreement: Agreement) -> str:
    """Says how far people agree."""
    kappa = "" if agreement.kappa is None else f" (Cohen's kappa {agreement.kappa:.2f})"
    return (
        f"Of {agreement.cells} cells that several people labelled they differ on "
        f"{agreement.differ}{kappa}."
    )


def _kappa(pairs: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> float | None:
    if not pairs:
        return None
    count = len(pairs)
    same = sum(a == b for a, b in pairs) / count
    sides = [Counter(side) for side in zip(*pairs, strict=True)]
    chance = sum(sides[0][said] * sides[1][said] for said in sides[0]) / count**2
    return None if chance >= 1 else (same - chance) / (1 - chance)


def _tables_in(source: pathlib.Path) -> list[pathlib.Path]:
    if not source.is_dir():
        return [source]
    found = sorted(path for path in source.iterdir() if path.suffix.lower() == ".csv")
    if not found:
        raise InputError(f"{source}: expected {_EXPECTED}, found no .csv file.")
    return found


def _by_labeller(
    rows: Iterable[Mapping[str, str]],
) -> dict[str, list[dict[str, str]]]:
    people: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        people.setdefault(row["labeller"], []).append(dict(row))
    return people


def _checked_rows(path: pathlib.Path, drawn: Sample) -> list[dict[str, str]]:
    """The rows of a table, each of which is one that the page may save."""
    rows = csv_json.read_csv(path)
    missing = set(COLUMNS) - set(rows[0] if rows else ())
    if missing:
        raise InputError(
            f"{path}: expected {_EXPECTED}, with the columns {', '.join(COLUMNS)}; "
            f"missing: {', '.join(sorted(missing))}."
        )
    checked = []
    for number, row in enumerate(rows, start=2):
        row = {key: row[key].strip() for key in COLUMNS}
        if any(row.values()):
            problem = _problem(row, drawn)
            if problem:
                raise InputError(f"{path}, line {number}: {problem}")
            checked.append(row)
    return checked


def _problem(row: Mapping[str, str], drawn: Sample) -> str:
    """What is wrong with a row, or ''."""
    if row["spotcheck"] != drawn.key:
        return (
            f"the labels are of another spot check ({row['spotcheck']!r}, expected "
            f"{drawn.key!r}): other predictions, or another draw. Label on the page that is "
            "beside these predictions."
        )
    number = row["window"]
    if not number.isdecimal() or not 1 <= int(number) <= len(drawn.windows):
        return f"expected a window from 1 to {len(drawn.windows)}, got {number!r}."
    if row["kind"] == _DONE:
        return ""
    types = drawn.types
    if row["kind"] == _MISSED:
        wanted = types
    elif row["kind"] == _CELL:
        wanted = (*types, NOT_A_CELL, CANNOT_TELL)
        cells = drawn.windows[int(number) - 1].cells
        if not row["cell"].isdecimal() or int(row["cell"]) not in cells:
            return f"expected a cell of window {number}, got {row['cell']!r}."
    else:
        return (
            f"expected a kind of {_CELL}, {_MISSED} and {_DONE}; got {row['kind']!r}."
        )
    if row["label"] not in wanted:
        return f"expected a label of {', '.join(wanted)}; got {row['label']!r}."
    if row["second_label"] and {row["label"], row["second_label"]} - set(types):
        return (
            f"expected a type as second_label of a type, got {row['second_label']!r}."
        )
    return ""


def _parsed(
    rows: Sequence[Mapping[str, str]], drawn: Sample, path: pathlib.Path
) -> dict[str, dict[int, LabelledWindow]]:
    """What each person said, of the windows up to the first that is not finished."""
    return {
        name: _windows_of(of, drawn, f"{path}, {name or 'without a name'}")
        for name, of in sorted(_by_labeller(rows).items())
    }


def _windows_of(
    rows: Sequence[Mapping[str, str]], drawn: Sample, source: str
) -> dict[int, LabelledWindow]:
    cells: dict[int, dict[int, tuple[str, ...]]] = {}
    missed: dict[int, list[str]] = {}
    done = set()
    for row in rows:
        number = int(row["window"]) - 1
        if row["kind"] == _DONE:
            done.add(number)
        elif row["kind"] == _MISSED:
            missed.setdefault(number, []).append(row["label"])
        else:
            of = cells.setdefault(number, {})
            if int(row["cell"]) in of:
                raise InputError(
                    f"{source}: cell {row['cell']} of window {number + 1} has two labels."
                )
            said = filter(None, (row["label"], row["second_label"]))
            of[int(row["cell"])] = tuple(sorted(said))
    found = {}
    # Windows are in random order, so that the first ones are a random sample, too.
    for number in itertools.takewhile(done.__contains__, itertools.count()):
        unsaid = drawn.windows[number].cells.keys() - cells.get(number, {}).keys()
        if unsaid:
            raise InputError(
                f"{source}: window {number + 1} is finished, and cell {min(unsaid)} of it "
                "has no label."
            )
        found[number] = LabelledWindow(
            cells.get(number, {}), tuple(missed.get(number, ()))
        )
    return found
