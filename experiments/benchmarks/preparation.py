"""Measures the time and the memory for preparing a study's dataset.

python -m experiments.benchmarks.preparation --folder=/tmp/preparation --fields=100,1000

The fields have 1104 x 1104 px and some 110 cells. A dozen are simulated. Each field of the study
is one of them, rotated and cyclically shifted differently, so that no two are near-duplicates.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import time

import numpy as np
from absl import app, flags

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.splits import near_duplicates
from cellclass_tf.storage import png
from experiments.benchmarks import fields, processes

_FOLDER = flags.DEFINE_string("folder", None, "Working folder.", required=True)
_FIELDS = flags.DEFINE_list(
    "fields", ["100", "1000"], "Numbers of fields of the studies."
)
_PROCESSES = flags.DEFINE_integer(
    "processes", 2, "Number of processes that check the images."
)
_ONE = flags.DEFINE_string(
    "one", None, "For internal use: study to measure in this process."
)

_SIZE_PX = 1104
_DRAWN = 12
_GROUPS = 10
_SHIFTS = 11


def main(_) -> None:
    """Prints a table with a row per number of fields, each measured in a new process."""
    if _ONE.value:
        print(json.dumps(_measured(pathlib.Path(_ONE.value))))
        return
    folder = pathlib.Path(_FOLDER.value)
    print(
        "| fields | check, s | write, s | fields/s | kB per field | peak MB | again, s |"
    )
    print("|---|---|---|---|---|---|---|")
    for number in map(int, _FIELDS.value):
        root = folder / f"study_{number}"
        shutil.rmtree(root, ignore_errors=True)
        _make_study(root, number)
        found = processes.run_again(
            __spec__.name, folder=folder, processes=_PROCESSES.value, one=root
        )
        total = found["check"] + found["write"]
        print(
            f"| {number} | {found['check']:.1f} | {found['write']:.1f} | "
            f"{number / total:.1f} | {found['bytes'] / number / 1e3:.0f} | "
            f"{found['peak']:.0f} | {found['again']:.1f} |"
        )


def _measured(root: pathlib.Path) -> dict:
    import tfds_builders
    from cellclass_tf import batch
    from cellclass_tf.datasets import examples

    start = time.perf_counter()
    engine = batch.Engine(processes=_PROCESSES.value)
    examples.check_study(Study.open(root), engine)
    checked = time.perf_counter()
    prepared = tfds_builders.dataset(root)
    written = time.perf_counter()
    tfds_builders.dataset(root)
    return {
        "check": checked - start,
        "write": written - checked,
        "again": time.perf_counter() - written,
        "bytes": int(prepared.info.dataset_size),
        "peak": processes.peak_mb(),
    }


def _make_study(root: pathlib.Path, number: int) -> None:
    study = Study.create(root)
    drawn = [_drawn(study, i) for i in range(_DRAWN)]
    rows = []
    for i in range(number):
        cell_type, image, labels = drawn[i % _DRAWN]
        image, labels = (_changed(array, i // _DRAWN) for array in (image, labels))
        group = f"{cell_type}_{i // 2 % _GROUPS}"
        row = ImageRow(
            f"{cell_type}/{i:05d}.png",
            cell_type,
            group=group,
            scene_hash=near_duplicates.scene_hash(image),
        )
        png.write_png(study.image_path(row), image)
        cells = Cells.from_labels(labels, study.cell_types, cell_type)
        cells.write(study.cells_path(row))
        rows.append(row)
    study.update(rows)


def _changed(array: np.ndarray, number: int) -> np.ndarray:
    """Rotates or mirrors an array (8 ways) and shifts it cyclically (11 x 11 ways)."""
    turned = np.rot90(array, number % 4)
    turned = turned[::-1] if number // 4 % 2 else turned
    shift = np.array(divmod(number // 8, _SHIFTS)) * (_SIZE_PX // _SHIFTS)
    return np.ascontiguousarray(np.roll(turned, shift, (0, 1)))


def _drawn(study: Study, seed: int):
    cell_type = study.cell_types[seed % 2]
    return cell_type, *fields.merged_field(cell_type, seed, cells=110, size_px=_SIZE_PX)


if __name__ == "__main__":
    app.run(main)
