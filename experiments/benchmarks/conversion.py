"""Compares the time of `cellclass convert` with bare reading and PNG writing.

    python -m experiments.benchmarks.conversion --folder=/tmp/conversion

Every row of the table is measured in a separate process, on the same simulated fields (two
channels, 1104 x 1104 px, uint16, uncompressed OME-TIFF). Ratios are from one run.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import sys
import time

import numpy as np
from absl import app, flags

from experiments.benchmarks import processes

SIZE_PX = 1104
# Number of simulated fields; the others are rotated and shifted copies.
DRAWN = 8
_NAMES = {
    "convert 1": "convert, one process",
    "convert 2": "convert, two processes",
    "many": "convert, one process",
}

_FOLDER = flags.DEFINE_string("folder", None, "Working folder.", required=True)
_FIELDS = flags.DEFINE_integer("fields", 200, "Number of fields to measure speed.")
_MANY = flags.DEFINE_integer(
    "many", 2000, "Number of fields to measure memory; 0 for none."
)
_TASK = flags.DEFINE_string(
    "task", "", "For internal use: row to measure in a separate process."
)


def make_fields(folder: pathlib.Path, count: int) -> None:
    """Writes `count` raw fields."""
    import tifffile

    from cellclass_tf.datasets.culture import field, looks

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    drawn = []
    for number in range(DRAWN):
        dish = looks.Dish.random(np.random.default_rng(number))
        shares = {"HEK": 1.0}
        drawn.append(
            field.simulate_field(shares, size_px=SIZE_PX, rng=rng, dish=dish).pixels
        )
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    for number in range(count):
        path = folder / f"{number:05d}.ome.tif"
        pixels = np.rot90(drawn[number % DRAWN], number // DRAWN % 4, axes=(1, 2))
        pixels = np.roll(pixels, 37 * (number // (4 * DRAWN)), axis=2)
        tifffile.imwrite(
            path, pixels, ome=True, photometric="minisblack", metadata=metadata
        )


def bare(folder: pathlib.Path, study: pathlib.Path, default_png: bool) -> float:
    """Reads every raw field and writes the PNG of its merged pixels; returns the seconds.

    The merged pixels are taken from an earlier conversion, which is not timed.
    """
    import tifffile
    from PIL import Image

    from cellclass_tf.storage import png

    seconds, target = 0.0, study / "bare.png"
    for path in sorted(folder.glob("*.tif")):
        name = path.name.removesuffix(".ome.tif")
        merged = png.read_png(study / "images" / "HEK" / f"{name}.png")
        start = time.perf_counter()
        tifffile.imread(path)
        if default_png:
            Image.fromarray(merged).save(target)
        else:
            png.write_png(target, merged)
        seconds += time.perf_counter() - start
    return seconds


def converted(folder: pathlib.Path, study: pathlib.Path, processes: int) -> float:
    """Converts every raw field into a new study; returns the seconds."""
    import cellclass_tf as cc

    shutil.rmtree(study, ignore_errors=True)
    start = time.perf_counter()
    outcome = cc.convert(folder, study, cell_type="HEK", processes=processes)
    seconds = time.perf_counter() - start
    if outcome.failures:
        raise RuntimeError(next(iter(outcome.failures.values())))
    return seconds


def measure(task: str) -> dict:
    """Measures one row in a separate process."""
    print(task, file=sys.stderr, flush=True)
    flags = {flag.name: flag.value for flag in (_FOLDER, _FIELDS, _MANY)}
    return processes.run_again(__spec__.name, task=task, **flags)


def run_task(task: str) -> dict:
    """Measures one row: its time, and the memory of this process or its largest child."""
    folder = pathlib.Path(_FOLDER.value)
    raw, study = folder / "raw", folder / "study"
    seconds = 0.0
    if task == "draw":
        make_fields(raw, _FIELDS.value)
        make_fields(folder / "many", _MANY.value)
    elif task == "many":
        seconds = converted(folder / "many", folder / "study_many", 1)
    elif task.startswith("convert"):
        seconds = converted(raw, study, int(task[-1]))
    else:
        seconds = bare(raw, study, task == "bare, Pillow's defaults")
    return {"seconds": seconds, "peak_mb": processes.peak_mb(children=True)}


def main(_) -> None:
    """Prints the table."""
    if _TASK.value:
        print(json.dumps(run_task(_TASK.value)))
        return
    # A child inherits its parent's peak memory, so the fields are drawn in a child.
    measure("draw")
    tasks = ("convert 1", "bare", "convert 2", "bare, Pillow's defaults")
    rows = {task: measure(task) for task in tasks}
    if _MANY.value:
        rows["many"] = measure("many")
    print("| task | fields | ms per field | times bare | peak MB |")
    print("|---|---|---|---|---|")
    each = rows["bare"]["seconds"] / _FIELDS.value
    for task, row in rows.items():
        fields = _MANY.value if task == "many" else _FIELDS.value
        ms = 1e3 * row["seconds"] / fields
        print(
            f"| {_NAMES.get(task, task)} | {fields} | {ms:.0f} | "
            f"{ms / each / 1e3:.2f} | {row['peak_mb']:.0f} |"
        )
    speed_up = rows["convert 1"]["seconds"] / rows["convert 2"]["seconds"]
    print(
        f"Two processes are {speed_up:.2f} times as fast as one ({os.cpu_count()} cores)."
    )


if __name__ == "__main__":
    app.run(main)
