"""Reads and checks the labels that people gave the cells of a spot check."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cellclass_tf import process_state
from cellclass_tf.analysis import table_files
from cellclass_tf.analysis.spot_check import sample
from cellclass_tf.analysis.spot_check.sample import Sample
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.errors import InputError, first_names
from cellclass_tf.storage import csv_json, digests, ledger, lock, trash

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
# Kinds of rows: an outlined cell, a cell that was clicked, a finished window.
_CELL, _MISSED, _DONE = "cell", "missed", "done"
_EXPECTED = "the table that the page of `cellclass spotcheck` saves"


@dataclasses.dataclass(frozen=True)
class LabelledWindow:
    """Labels that one person gave in a window.

    Attributes:
      cells: {number: label} of the outlined cells. A label is a type, NOT_A_CELL,
        CANNOT_TELL, or two types if the outline contains two cells.
      missed: types of the cells without an outline.
    """

    cells: Mapping[int, tuple[str, ...]]
    missed: tuple[str, ...]


# {name of the person: {index of a finished window, from 0: labels}}; people without a finished
# window are left out.
Labels = Mapping[str, Mapping[int, LabelledWindow]]


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Agreement of several people.

    Attributes:
      cells: number of cells that several people labelled.
      differ: number of these cells that got different labels.
      kappa: Cohen's kappa (1960, doi:10.1177/001316446002000104); with more than two people
        the mean over all pairs. None if it is undefined, since chance alone would give full
        agreement.
    """

    cells: int
    differ: int
    kappa: float | None


@dataclasses.dataclass(frozen=True)
class ImportedLabels:
    """Result of `import_spotcheck`.

    Attributes:
      windows: {name of the person: number of finished windows}.
      drawn: number of windows in the sample.
      agreement: agreement of the people; None if there is only one.
    """

    windows: Mapping[str, int]
    drawn: int
    agreement: Agreement | None

    def __str__(self) -> str:
        lines = [
            f"{name}: {count} of {self.drawn} windows labelled"
            for name, count in self.windows.items()
        ]
        if self.agreement:
            lines.append(in_words(self.agreement))
        lines.append(
            "Next: `cellclass report` estimates the proportions from the labels."
        )
        return "\n".join(lines)


@process_state.keep()
@lock.writes("predictions")
def import_spotcheck(
    predictions: str | os.PathLike | Predictions,
    source: str | os.PathLike,
    *,
    overwrite: bool = False,
) -> ImportedLabels:
    """Imports the labels that people saved on the page of `spotcheck`.

    PREDICTIONS/spotcheck/labels.csv keeps all labels of a spot check. A table of a person who
    is already in it adds labels. Names that differ only in case or spaces are those of one
    person.

    Args:
      predictions: output folder of `predict` that has the spot check.
      source: table that the page saved, or a folder with one such table per person.
      overwrite: for labels of a spot check: also import a table in which labels that were
        imported for this person before are missing or different. The old labels are kept
        in PREDICTIONS/.trash/DATE.

    Returns:
      The number of labelled windows, and the agreement of the people.

    Raises:
      InputError: if there is no spot check, or a table has the wrong columns, belongs to
        another spot check, names a window or cell that is not in the sample, or has no
        finished window, or finished windows after an unfinished one; if labels would be
        lost and `overwrite` is not set; or if there are several people, and one has no
        name.
    """
    predictions = Predictions.open(predictions)
    drawn = current_sample(predictions)
    tables = _tables_in(pathlib.Path(source))
    path = labels_path(predictions)
    known = _people_in(path, drawn) if path.exists() else {}
    read: dict[str, _Person] = {}
    for table in tables:
        for key, person in _people_in(table, drawn).items():
            if key in read:
                raise InputError(
                    f"{table}: {person.name or 'a person without a name'!r} also labelled "
                    "another of the tables. If these are two tables of one person, leave "
                    "only the newer one in the folder; otherwise give each person a name of "
                    "their own in the column labeller."
                )
            _check_order(person)
            read[key] = person
    lost = [key for key in read.keys() & known.keys() if read[key].loses(known[key])]
    if lost and not overwrite:
        raise InputError(_refusal_of_lost(known[min(lost)], read[min(lost)]))
    together = dict(sorted((known | read).items()))
    if len(together) > 1 and "" in together:
        raise InputError(
            f"{together[''].source}: these labels have no name, and with several people "
            "each needs one. Write the person's name into the column labeller, and import "
            "again."
        )
    found = _parsed(together, drawn)
    if not found:
        raise InputError(
            f"{tables[0]}: the first window is not finished, so no labels can be used. Label "
            "it, choose `next`, and save the table again."
        )
    rows = [row for person in together.values() for row in person.rows]
    if lost:
        trash.keep(predictions.folder, [path])
    ledger.write_text(predictions.folder, path, csv_json.csv_text(COLUMNS, rows))
    return ImportedLabels(
        {of.name: len(found.get(of.name, ())) for of in together.values()},
        len(drawn.windows),
        agreement(found),
    )


def labels_path(predictions: Predictions) -> pathlib.Path:
    """Returns the path of the imported labels."""
    return predictions.folder / sample.SPOT_CHECK_FOLDER / LABELS_FILE


def current_sample(predictions: Predictions) -> Sample:
    """Reads the sample that was drawn from the current predictions.

    Raises:
      InputError: if there is no sample, if the predictions have changed since it was drawn,
        or if the model was trained with labels of some of its fields.
    """
    path = predictions.folder / sample.SPOT_CHECK_FOLDER / sample.SAMPLE_FILE
    if not path.exists():
        raise InputError(
            f"{path} does not exist: these predictions have no spot check. Run `cellclass "
            "spotcheck`."
        )
    drawn = Sample.read(path)
    cells_csv = predictions.cells_path
    if drawn.cells_sha256 not in (
        table_files.sha256_of_cells(cells_csv),
        # As earlier versions recorded it.
        digests.sha256_of_file(cells_csv),
    ):
        raise InputError(
            f"{path}: the spot check was drawn from other predictions than those now in "
            f"{predictions.folder} (the SHA-256 of the cells in cells.csv differs). Run "
            "`cellclass spotcheck --overwrite`, and label the new sample."
        )
    fields = {window.image for window in drawn.windows}
    seen = predictions.record_if_any.labelled_stems & fields
    if seen:
        raise InputError(
            f"{path}: {sample.why_seen(len(seen), len(fields))} of the spot check "
            f"({', '.join(sorted(seen)[:3])}). Labels cannot be used both to train a model and "
            "to estimate its errors. Run `cellclass spotcheck --overwrite`, which leaves "
            "these fields out."
        )
    return drawn


def read_labels(predictions: Predictions, drawn: Sample) -> Labels:
    """Reads the imported labels; empty if none were imported.

    Raises:
      InputError: if the labels belong to another sample, or are not valid.
    """
    path = labels_path(predictions)
    if not path.exists():
        return {}
    return _parsed(_people_in(path, drawn), drawn)


def agreement(labels: Labels) -> Agreement | None:
    """Returns the agreement on cells that several people labelled; None for one person."""
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
    """Describes the agreement in one sentence."""
    kappa = "" if agreement.kappa is None else f" (Cohen's kappa {agreement.kappa:.2f})"
    return (
        f"Of {agreement.cells} cells that several people labelled, {agreement.differ} got "
        f"different labels{kappa}."
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


@dataclasses.dataclass(frozen=True)
class _Person:
    """The rows of one person in a table.

    Attributes:
      source: path of the table.
      rows: the rows, at least one.
    """

    source: pathlib.Path
    rows: list[dict[str, str]]

    @property
    def name(self) -> str:
        """The name as it is written in the first row."""
        return self.rows[0]["labeller"]

    @property
    def words(self) -> str:
        """The table and the name, for messages."""
        return f"{self.source}, {self.name or 'without a name'}"

    @property
    def finished(self) -> set[int]:
        """Indices of the finished windows, from 0."""
        return {int(row["window"]) - 1 for row in self.rows if row["kind"] == _DONE}

    def loses(self, before: _Person) -> list[int]:
        """Returns the windows of an earlier table in which labels are missing here or differ."""
        lost = before._said() - self._said()
        return sorted({window for window, *_ in lost})

    def _said(self) -> Counter[tuple[int, str, str, tuple[str, ...]]]:
        return Counter(
            (
                int(row["window"]),
                row["kind"],
                row["cell"],
                tuple(sorted((row["label"], row["second_label"]))),
            )
            for row in self.rows
        )


def _people_in(path: pathlib.Path, drawn: Sample) -> dict[str, _Person]:
    """Reads a table; returns its people by name, without differences in spelling."""
    people: dict[str, _Person] = {}
    for row in _checked_rows(path, drawn):
        name = unicodedata.normalize("NFKC", row["labeller"])
        key = " ".join(name.split()).casefold()
        people.setdefault(key, _Person(path, [])).rows.append(row)
    return people


def _check_order(person: _Person) -> None:
    """Raises InputError if there are finished windows after an unfinished one."""
    finished = person.finished
    first = next(number for number in itertools.count() if number not in finished)
    after = sum(number > first for number in finished)
    if after:
        raise InputError(
            f"{person.words}: window {first + 1} is not finished, so {after} finished windows "
            "after it would not count. Open the page again and go to this window; label each "
            "cell, remove clicks without a type, choose `next`, and save the table again."
        )


def _refusal_of_lost(before: _Person, now: _Person) -> str:
    """Says which earlier labels of a person a table would replace, and what to do."""
    windows = now.loses(before)
    shown = first_names(list(map(str, windows)))
    return (
        f"{now.words}: labels of this name are already in {before.source}, and some of them "
        f"are missing from this table or are different, in {len(windows)} windows ({shown}). "
        "If it is an older table, it is not needed. If another person labelled, write that "
        "person's name into its column labeller. If it is a correction, add --overwrite: "
        "the old labels are then kept in .trash."
    )


def _checked_rows(path: pathlib.Path, drawn: Sample) -> list[dict[str, str]]:
    """Reads the rows of a table, and checks that each is one that the page can save."""
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
    """Returns what is wrong with a row, or ''."""
    if row["spotcheck"] != drawn.key:
        return (
            f"the labels belong to another spot check ({row['spotcheck']!r}, expected "
            f"{drawn.key!r}), with other predictions or another random sample. Use the page "
            "in the folder of these predictions."
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
        return f"expected one of the kinds {_CELL}, {_MISSED} and {_DONE}; got {row['kind']!r}."
    if row["label"] not in wanted:
        return f"expected one of the labels {', '.join(wanted)}; got {row['label']!r}."
    if row["second_label"] and {row["label"], row["second_label"]} - set(types):
        return (
            f"expected types as label and second_label; got {row['label']!r} and "
            f"{row['second_label']!r}."
        )
    return ""


def _parsed(
    people: Mapping[str, _Person], drawn: Sample
) -> dict[str, dict[int, LabelledWindow]]:
    """Returns the labels by person, for the windows before the first unfinished one."""
    found = {
        people[key].name: _windows_of(people[key], drawn) for key in sorted(people)
    }
    return {name: windows for name, windows in found.items() if windows}


def _windows_of(person: _Person, drawn: Sample) -> dict[int, LabelledWindow]:
    cells: dict[int, dict[int, tuple[str, ...]]] = {}
    missed: dict[int, list[str]] = {}
    done = person.finished
    for row in person.rows:
        number = int(row["window"]) - 1
        if row["kind"] == _DONE:
            continue
        if row["kind"] == _MISSED:
            missed.setdefault(number, []).append(row["label"])
        else:
            of = cells.setdefault(number, {})
            if int(row["cell"]) in of:
                raise InputError(
                    f"{person.words}: cell {row['cell']} of window {number + 1} has two "
                    f"labels.{_two_spellings(person.rows)}"
                )
            said = filter(None, (row["label"], row["second_label"]))
            of[int(row["cell"])] = tuple(sorted(said))
    found = {}
    # Windows are in random order, so the first ones are a random sample too.
    for number in itertools.takewhile(done.__contains__, itertools.count()):
        unsaid = drawn.windows[number].cells.keys() - cells.get(number, {}).keys()
        if unsaid:
            raise InputError(
                f"{person.words}: window {number + 1} is marked as finished, but its cell "
                f"{min(unsaid)} has no label."
            )
        found[number] = LabelledWindow(
            cells.get(number, {}), tuple(missed.get(number, ()))
        )
    return found


def _two_spellings(rows: Iterable[Mapping[str, str]]) -> str:
    """Returns a sentence about the names of the rows if they differ in spelling, or ''."""
    names = sorted({row["labeller"] for row in rows})
    if len(names) < 2:
        return ""
    return (
        f" The names {' and '.join(names)} count as one person. If they are, delete the "
        "rows of one; otherwise write different names."
    )
