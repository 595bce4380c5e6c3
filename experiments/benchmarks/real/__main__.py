"""Compares this package with other programs on real fields; writes a page with pictures.

    python -m experiments.benchmarks real --folder=/tmp/real --three_types=FOLDER \
        --coculture=FOLDER --hek=HEK.png --hek_labels=LABELS.png --weights=WEIGHTS --output=docs

The data are fields of three cell types (see `fields.drawn_by_hand`), one co-culture (see
`tasks.CoCulture`), and one HEK field with its label image; WEIGHTS are cellpose's. Leave out the
flags of data that you do not have. StarDist is included if it is installed, see
`stardist_classes`. Each method runs in a separate process; an interrupted run continues.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import app, flags, logging
from PIL import Image

from cellclass_tf.core.cells import Cells
from cellclass_tf.drawing import caption, overlay, picture
from cellclass_tf.storage import atomic, csv_json
from experiments.benchmarks import processes
from experiments.benchmarks.real import methods, page, tasks

_FOLDER = flags.DEFINE_string("folder", None, "Working folder.", required=True)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder to write the page to; it is printed by default."
)
_THREE_TYPES = flags.DEFINE_string(
    "three_types", None, "Folder of fields of three types with hand-drawn masks."
)
_NOTE = flags.DEFINE_string("page_note", "", "Remark about these runs for the page.")
_COCULTURE = flags.DEFINE_string("coculture", None, "Folder of pure and mixed dishes.")
_HEK = flags.DEFINE_string("hek", None, "Merged image of a HEK field.")
_HEK_LABELS = flags.DEFINE_string("hek_labels", None, "Label image of the HEK field.")
_WEIGHTS = flags.DEFINE_string("weights", None, "Weights of cellpose.", required=True)
_FOLDS = flags.DEFINE_list("folds", ["0", "1", "2"], "Folds of the three types to run.")
_METHODS = flags.DEFINE_list("methods", None, "Methods to run; all by default.")
_NAME = flags.DEFINE_string("name", "run", "Name of this run in the working folder.")
_EXPERIMENT = flags.DEFINE_string(
    "experiment", "cellclass_maskrcnn_small", "Our experiment."
)
_STEPS = flags.DEFINE_integer(
    "steps", None, "Number of training steps; the experiment's own by default."
)
_SEEDS = flags.DEFINE_list(
    "seeds", ["0"], "Random seeds of the trainings; their networks form one model."
)
_OVERRIDE = flags.DEFINE_string(
    "override", "", "Overrides of the experiment's parameters."
)
_INIT = flags.DEFINE_string(
    "init", None, "Starting weights; the experiment's own by default."
)
_ONE = flags.DEFINE_string(
    "one", None, "For internal use: TASK:METHOD to run in this process."
)
# Width of the central part of a field that is shown, so that cells are large enough.
_SHOWN_PX = 400
_PANEL_PX = 500
# Longest side of a whole picture.
_PICTURE_PX = 2000


def _tasks() -> Mapping[str, Callable[[], tasks.Task]]:
    root = pathlib.Path(_FOLDER.value)
    found: dict[str, Callable[[], tasks.Task]] = {}
    if _THREE_TYPES.value:
        images = pathlib.Path(_THREE_TYPES.value)
        for fold in map(int, _FOLDS.value):
            found[f"three_types_{fold}"] = functools.partial(
                tasks.three_types, root / f"three_types_{fold}", images, fold
            )
    if _COCULTURE.value:
        culture = tasks.CoCulture(pathlib.Path(_COCULTURE.value))
        found["coculture"] = functools.partial(
            culture.task, root / "coculture" / "study"
        )
    if _HEK.value:
        paths = pathlib.Path(_HEK.value), pathlib.Path(_HEK_LABELS.value)
        found["hek"] = functools.partial(tasks.hek, root / "hek", *paths)
    return found


def _options() -> methods.Options:
    return methods.Options(
        weights=_WEIGHTS.value,
        experiment=_EXPERIMENT.value,
        steps=_STEPS.value,
        seeds=tuple(map(int, _SEEDS.value)),
        override=_OVERRIDE.value,
        init=_INIT.value,
    )


def _place(task: str) -> pathlib.Path:
    return pathlib.Path(_FOLDER.value) / task / _NAME.value


def run_one(task: tasks.Task, method: str) -> dict:
    """Runs one method on one task; writes its scores, costs and label images."""
    place = _place(task.name)
    found = methods.METHODS[method](task, place, _options())
    for image, cells in found.cells.items():
        cells.write(_cells_path(task.name, method, image), types_csv=True)
    result = task.score(found.cells) | {
        "training_s": found.training_s,
        "prediction_s": found.prediction_s,
        "peak_mb": processes.peak_mb(),
        "notes": list(found.notes),
    }
    csv_json.write_json(place / f"{method}.json", result)
    return result


def _cells_path(task: str, method: str, image: str) -> pathlib.Path:
    return _place(task) / "cells" / method / pathlib.Path(image).with_suffix(".tif")


def _result(task: str, method: str) -> dict | None:
    """Returns the result of a method; runs it in a new process if there is none yet."""
    path = _place(task) / f"{method}.json"
    if not path.exists():
        if method == "stardist" and importlib.util.find_spec("stardist") is None:
            logging.warning("StarDist is not installed and is left out.")
            return None
        given = {
            flag.name: ",".join(flag.value)
            if isinstance(flag.value, list)
            else flag.value
            for flag in flags.FLAGS.flags_by_module_dict()[sys.argv[0]]
            if flag.value is not None
            and flag.name not in ("one", "output", "page_note")
        }
        processes.run_again(
            "experiments.benchmarks.real", **given, one=f"{task}:{method}"
        )
    return json.loads(path.read_text())


def draw(task: tasks.Task, names: list[str]) -> np.ndarray:
    """Draws truth and all methods side by side, for the centre of a field of each type."""
    strips = []
    for row in task.rows()[:3]:
        image = task.test.read_image(row)
        window = _middle(image.shape[:2])
        panels = [_panel(image, task.truth(row), window, "truth")]
        for method in names:
            path = _cells_path(task.name, method, row.image)
            cells = Cells.read(path, task.test.cell_types)
            panels.append(_panel(image, cells, window, method.replace("_", " ")))
        strips.append(picture.side_by_side(panels))
    return np.concatenate(strips)


def _write_picture(path: pathlib.Path, drawn: np.ndarray) -> None:
    """Writes a JPEG of limited width, because a repository keeps every version of it."""
    shown = Image.fromarray(drawn)
    shown.thumbnail((_PICTURE_PX, _PICTURE_PX), Image.Resampling.LANCZOS)
    with atomic.atomic_path(path) as temporary:
        shown.save(temporary, "JPEG", quality=85, subsampling=0)


def _middle(shape_yx: Sequence[int]) -> tuple[slice, slice]:
    top, left = (max(0, (side - _SHOWN_PX) // 2) for side in shape_yx)
    return slice(top, top + _SHOWN_PX), slice(left, left + _SHOWN_PX)


def _panel(image, cells: Cells, window, title: str) -> np.ndarray:
    labels = cells.labels[window]
    types = [cells.cell_types[i - 1] for i in np.unique(labels) if i]
    shown = Cells.from_labels(labels, cells.type_names, types)
    drawn = overlay.draw_overlay(
        np.ascontiguousarray(image[window]), shown, min_probability=0.0
    )
    panel = np.concatenate([caption.title(drawn.shape[1], title), drawn])
    shrunk = Image.fromarray(panel)
    shrunk.thumbnail((_PANEL_PX, 2 * _PANEL_PX), Image.Resampling.LANCZOS)
    return np.asarray(shrunk)


def main(_) -> None:
    """Runs the methods that have no result yet, and writes the page."""
    made = _tasks()
    if _ONE.value:
        task, method = _ONE.value.split(":")
        print(json.dumps(run_one(made[task](), method)))
        return
    results: dict[str, dict[str, dict]] = {}
    titles: dict[str, str] = {}
    pictures: dict[str, str] = {}
    for name, make in made.items():
        task = make()
        wanted = _METHODS.value or methods.methods_of(task)
        reached = {m: _result(name, m) for m in methods.methods_of(task) if m in wanted}
        results[name] = {m: r for m, r in reached.items() if r is not None}
        # The page shows the first of several folds.
        folder = pathlib.Path(_FOLDER.value)
        if _OUTPUT.value and task.title not in titles.values():
            folder = pathlib.Path(_OUTPUT.value)
        titles[name] = task.title
        pictures[name] = f"comparison_{name}.jpg"
        drawn = draw(task, list(results[name]))
        _write_picture(folder / pictures[name], drawn)
        print(name, json.dumps(results[name]), flush=True)
    text = page.page(results, titles, pictures, len(_SEEDS.value), _NOTE.value)
    if _OUTPUT.value:
        page.write(pathlib.Path(_OUTPUT.value), text)
    else:
        print(text)


if __name__ == "__main__":
    app.run(main)
