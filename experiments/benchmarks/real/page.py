"""Writes the page that compares methods: where others are better, and a table per task."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf.storage import atomic
from experiments.benchmarks.real.methods import METHODS, OURS

_HEAD = """# Comparison with other programs, on real fields

```bash
python -m experiments.benchmarks real --folder=/tmp/real --three_types=FOLDER \\
    --coculture=FOLDER --hek=HEK.png --hek_labels=LABELS.png --weights=WEIGHTS \\
    --output=docs
```

This command writes this page. The runs used two cores without a GPU, and {seeds}. All
methods are trained on the same fields and tested on the same other fields, whose types are
used only for the scores. StarDist is trained for as many seconds as our network; cellpose is
not trained. AP is COCO's mean over types and over IoU from 0.5 to 0.95. The proportion's
error is the mean over types of the absolute difference between predicted and true
proportion, in percentage points. The prediction time covers all fields together, including
loading. Memory is the peak of the process, including training.
"""

_NAMES = {
    "network": "ours, its own outlines",
    "given_outlines": "ours, cellpose's outlines",
    "learned_outlines": "ours, its own outlines, learned from the mixed field too",
    "stardist": "StarDist with classes",
    "forest": "cellpose and a random forest, raw",
    "relative_forest": "cellpose and a random forest, relative to the field",
}

_SCORES = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "type_accuracy": "type accuracy",
    "proportion_error_points": "proportion's error",
}
_COSTS = {
    "training_s": "training s",
    "prediction_s": "prediction s",
    "peak_mb": "peak MB",
}
_LOWER_IS_BETTER = {"proportion_error_points", *_COSTS}

_PREDECESSOR = """## The study in which this project began

The notebooks of that study (2021) report results on other fields: an mAP at IoU 0.5 of 0.635
on 60 pure fields, and a proportion of HEK of 49.6 % where half was expected (0.4 points), in
331 s for 93 mixed fields on a GPU. Their images are not available, so these results cannot be
compared with those above.
"""


def page(
    results: Mapping[str, Mapping[str, Mapping]],
    titles: Mapping[str, str],
    pictures: Mapping[str, str],
    seeds: int,
    note: str = "",
) -> str:
    """Returns the page in Markdown.

    Args:
      results: {task: {method: scores and costs}}; numbers may be missing.
      titles: titles of the tasks; tasks with the same title are folds, and their mean is
        shown.
      pictures: file names by task.
      seeds: number of our trainings.
      note: remark about these runs.
    """
    parts = [_HEAD.format(seeds="one seed" if seeds == 1 else f"{seeds} seeds")]
    parts += [f"{note}\n"] if note else []
    by_title: dict[str, list[str]] = collections.defaultdict(list)
    for task in results:
        by_title[titles[task]].append(task)
    means = {
        title: mean_of(results[t] for t in tasks) for title, tasks in by_title.items()
    }
    parts.append(_in_words(means))
    for title, tasks in by_title.items():
        parts.append(f"## {title[0].upper()}{title[1:]}\n")
        parts.append(
            _table(means[title], f"mean of {len(tasks)}" if len(tasks) > 1 else "")
        )
        if len(tasks) > 1:
            parts += [
                _table(results[task], f"fold {number}")
                for number, task in enumerate(tasks, start=1)
            ]
        parts += [
            f"![{title}: truth and every method]({pictures[task]})\n"
            for task in tasks[:1]
            if task in pictures
        ]
    parts.append(_PREDECESSOR)
    return "\n".join(parts)


def write(folder: pathlib.Path, text: str) -> pathlib.Path:
    """Writes the page into a folder of documents."""
    path = folder / "comparison.md"
    atomic.write_text(path, text)
    return path


def mean_of(tasks: Iterable[Mapping[str, Mapping]]) -> dict[str, dict]:
    """Returns the mean of each method's numbers over the tasks that have them.

    For memory it is the maximum, and for notes all different ones.
    """
    gathered: dict[str, dict[str, list]] = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )
    for methods in tasks:
        for method, numbers in methods.items():
            for name, value in numbers.items():
                gathered[method][name] += value if name == "notes" else [value]
    of_name: dict[str, Callable[[list], Any]] = {
        "peak_mb": max,
        "notes": lambda notes: [*dict.fromkeys(notes)],
    }
    return {
        method: {
            name: of_name.get(name, lambda v: float(np.mean(v)))(values)
            for name, values in numbers.items()
        }
        for method, numbers in gathered.items()
    }


def better_than_ours(methods: Mapping[str, Mapping]) -> list[str]:
    """Returns a line for each number in which another method is better than all of ours."""
    lines = []
    for name, title in (_SCORES | _COSTS).items():
        known = {m: numbers[name] for m, numbers in methods.items() if name in numbers}
        ours = {m: value for m, value in known.items() if m in OURS}
        others = {m: value for m, value in known.items() if m not in OURS}
        if not ours or not others:
            continue
        sign = -1 if name in _LOWER_IS_BETTER else 1
        one = max(ours, key=lambda m: sign * ours[m])
        other = max(others, key=lambda m: sign * others[m])
        if sign * others[other] > sign * ours[one]:
            lines.append(
                f"{_NAMES[other]}: {title} {_told(name, others[other])} "
                f"({_told(name, ours[one])} for {_NAMES[one]})"
            )
    return lines


def _in_words(means: Mapping[str, Mapping[str, Mapping]]) -> str:
    lines = ["## Where another method is better\n"]
    for title, methods in means.items():
        found = better_than_ours(methods)
        lines += [f"- *{title}*: " + ("; ".join(found) if found else "nowhere") + "."]
    return "\n".join(lines) + "\n"


def _table(methods: Mapping[str, Mapping], what: str) -> str:
    columns = [*_SCORES.items(), *_COSTS.items()]
    head = f"| {what} | " + " | ".join(title for _, title in columns) + " |"
    lines = [head, "|---" * (len(columns) + 1) + "|"]
    for method in METHODS:
        if method in methods:
            numbers = methods[method]
            told = (_told(n, numbers[n]) if n in numbers else "–" for n, _ in columns)
            lines.append(f"| {_NAMES[method]} | " + " | ".join(told) + " |")
    notes = _notes(methods)
    return "\n".join([*lines, *notes]) + "\n"


def _notes(methods: Mapping[str, Mapping]) -> Sequence[str]:
    lines = []
    for method in METHODS:
        for note in methods.get(method, {}).get("notes", ()):
            lines.append(f"- {_NAMES[method]}: {note}")
    return ["", *lines] if lines else []


def _told(name: str, value: float) -> str:
    if name in _COSTS:
        return f"{value:.0f}"
    return f"{value:.1f}" if name == "proportion_error_points" else f"{value:.3f}"
