"""Summarizes the result of a command in a few lines, and names the next command."""

from __future__ import annotations

import collections
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cellclass_tf.analysis import shares_in_words
from cellclass_tf.annotation.review import queue
from cellclass_tf.core.manifest import REJECTED, costs_of_rejection
from cellclass_tf.core.study import MIXED, ImageRow, Study
from cellclass_tf.errors import command


def lines_after(name: str, values: Mapping[str, Any]) -> list[str]:
    """Returns lines with the result of a successful command, and the next command.

    Args:
      name: name of the command.
      values: values of its flags.

    Returns:
      The lines; empty for commands that print them themselves.
    """
    lines_of = _LINES_OF.get(name)
    return lines_of(values) if lines_of else []


def images_in_words(rows: Iterable[ImageRow]) -> str:
    """Counts images in words: '9 images: 3 HEK, 3 N2a, 2 mixed; 1 rejected: 1 blurred.'."""
    rows = list(rows)
    kept = collections.Counter(r.cell_type for r in rows if r.verdict != REJECTED)
    # Mixed fields come last.
    order = sorted(kept, key=lambda name: (name == MIXED, name))
    text = f"{len(rows)} image{'s' * (len(rows) != 1)}: "
    text += ", ".join(f"{kept[name]} {name}" for name in order) or "none accepted"
    rejected = len(rows) - sum(kept.values())
    if rejected:
        reasons = costs_of_rejection(rows)
        why = ", ".join(f"{cost.fields} {reason}" for reason, cost in reasons.items())
        text += f"; {rejected} rejected: {why}"
    return f"{text}."


def next_is(name: str, **flags: object) -> str:
    """Returns the line that names the next command."""
    return f"Next: {command(name, **flags)}"


def _after_simulate(values: Mapping[str, Any]) -> list[str]:
    # Its import takes long.
    from cellclass_tf.datasets import simulation

    study = values["study"]
    return [
        next_is(
            "convert",
            input=f"{study}/raw",
            study=study,
            group=simulation.GROUP_PATTERN,
        )
    ]


def _after_convert(values: Mapping[str, Any]) -> list[str]:
    study = Study.open(values["study"])
    lines = [images_in_words(study.rows())]
    lines.append(f"Look at the pictures of each dish in {study.root / 'quality'}.")
    return [*lines, next_is("annotate", study=study.root)]


def _after_annotate(values: Mapping[str, Any]) -> list[str]:
    study = Study.open(values["study"])
    cells: collections.Counter[str] = collections.Counter()
    for row in study.accepted_rows():
        cells[row.cell_type] += row.cells or 0
    counts = ", ".join(
        f"{count} in {name} fields" for name, count in sorted(cells.items())
    )
    lines = [f"{sum(cells.values())} cells: {counts}."]
    lines += filter(None, [queue.worth_correcting(study)])
    return [*lines, next_is("dataset", study=study.root)]


def _after_export(values: Mapping[str, Any]) -> list[str]:
    if values["format"] != "cellpose":
        return []
    study, output = values["study"], values["output"]
    reading = command("import", study=study, format="cellpose", source=output)
    return [
        f"Next: correct the cells in {output} with the cellpose GUI, and read them: {reading}"
    ]


def _after_import(values: Mapping[str, Any]) -> list[str]:
    if not values["study"]:
        return []
    return [next_is("dataset", study=values["study"])]


def _after_dataset(values: Mapping[str, Any]) -> list[str]:
    return [next_is("train", study=values["study"], output="training")]


def _after_predict(values: Mapping[str, Any]) -> list[str]:
    output = pathlib.Path(values["output"])
    path = output / "mixture.json"
    if not path.exists():
        return []
    mixture = json.loads(path.read_text(encoding="utf-8"))
    shares, heading = shares_in_words.best_shares(mixture)
    return [
        heading,
        *shares_in_words.lines(shares or {}),
        f"Report: {output / 'report.html'}",
        (
            f"{next_is('spotcheck', predictions=output)}, to measure how often the model errs "
            "in these fields"
        ),
    ]


_LINES_OF: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "simulate": _after_simulate,
    "convert": _after_convert,
    "annotate": _after_annotate,
    "export": _after_export,
    "import": _after_import,
    "dataset": _after_dataset,
    "predict": _after_predict,
}
