"""Runs the commands on 2,000 small fields, and measures memory and open files.

python -m experiments.benchmarks many_fields --folder=/tmp/many --model=MODEL --fields=2000

Each command runs in a separate process, one field after the other. Its resident memory (RSS) and
its open file descriptors are sampled twice a second. If both are the same in the second and in the
last quarter of the time, they do not depend on the number of fields. An eighth of the fields is
simulated; the others are rotated and mirrored copies.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import threading
import time

import numpy as np
import psutil
import tifffile
from absl import app, flags

import cellclass_tf as cc
from cellclass_tf.datasets import simulation
from experiments.benchmarks import processes

_FOLDER = flags.DEFINE_string("folder", None, "Working folder.", required=True)
_MODEL = flags.DEFINE_string("model", None, "Exported model.", required=True)
_FIELDS = flags.DEFINE_integer(
    "fields", 2000, "Number of fields; a tenth of them is mixed."
)
_SIZE = flags.DEFINE_integer("size", 128, "Width of a field in px.")
_ONE = flags.DEFINE_string(
    "one", None, "For internal use: command to run in this process."
)

_EVERY_S = 0.5
# Number of orientations of a square.
_TURNS = 8
_COMMANDS = ("simulate", "convert", "annotate", "dataset", "predict")


def main(_) -> None:
    """Prints a table with a row per command."""
    if _ONE.value:
        print(json.dumps(_watched(_ONE.value)))
        return
    print(
        "| command | fields | s | MB, second quarter of the time | MB, last quarter "
        "| peak MB | open files, second quarter | open files, last quarter "
        "| open files, maximum |\n|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for command in _COMMANDS:
        found = processes.run_again(
            __spec__.name,
            folder=_FOLDER.value,
            model=_MODEL.value,
            fields=_FIELDS.value,
            size=_SIZE.value,
            one=command,
        )
        print(f"| {command} | {' | '.join(map(str, found))} |", flush=True)


def _watched(command: str) -> list:
    """Runs a command; returns the values of its row in the table."""
    seen: list[tuple[float, float, int]] = []
    ends = threading.Event()
    process, begun_s = psutil.Process(), time.perf_counter()

    def look() -> None:
        while not ends.wait(_EVERY_S):
            passed_s = time.perf_counter() - begun_s
            seen.append(
                (passed_s, process.memory_info().rss / 2**20, process.num_fds())
            )

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    fields = _run(command)
    ends.set()
    thread.join()
    times, memory, files = np.array(seen).T
    total_s = times[-1]
    second = (times >= total_s / 4) & (times < total_s / 2)
    last = times >= total_s * 3 / 4
    return [
        fields,
        round(total_s),
        round(float(np.median(memory[second]))),
        round(float(np.median(memory[last]))),
        round(processes.peak_mb()),
        int(np.median(files[second])),
        int(np.median(files[last])),
        int(files.max()),
    ]


def _run(command: str) -> int:
    """Runs a command; returns the number of its fields."""
    folder = pathlib.Path(_FOLDER.value)
    study = folder / "study"
    if command == "simulate":
        drawn = _FIELDS.value // _TURNS
        mixed = drawn // 10
        outcome = cc.simulate(
            study,
            images_per_type=(drawn - mixed) // 2,
            mixed=mixed,
            size=_SIZE.value,
            dishes=8,
        )
        return len(outcome.results) * _turn(study / "raw")
    elif command == "convert":
        outcome = cc.convert(study / "raw", study, group=simulation.GROUP_PATTERN)
        # Such small fields may be rejected as empty, but are needed here.
        opened = cc.Study.open(study)
        opened.update(
            dataclasses.replace(row, verdict="accepted") for row in opened.rows()
        )
    elif command == "annotate":
        outcome = cc.annotate(study, annotator="watershed")
    elif command == "dataset":
        import tfds_builders

        outcome = tfds_builders.dataset(study).outcome
    else:
        outcome = cc.predict(_MODEL.value, study, folder / "predictions")
    for name, reason in list(outcome.failures.items())[:5]:
        print(f"{command}: {name}: {reason}", file=sys.stderr)
    return len(outcome.results)


def _turn(raw: pathlib.Path) -> int:
    """Adds rotated and mirrored copies of each field, which is faster than simulation."""
    for path in sorted(raw.rglob("*.ome.tif")):
        with tifffile.TiffFile(path) as file:
            pixels, description = file.asarray(), file.ome_metadata
        for turn in range(1, _TURNS):
            turned = np.rot90(pixels, turn % 4, axes=(1, 2))
            turned = turned[..., ::-1] if turn >= 4 else turned
            name = path.name.replace(".ome.tif", f"_{turn}.ome.tif")
            # The scene is the same, so the dish must be, too.
            tifffile.imwrite(
                path.with_name(name),
                np.ascontiguousarray(turned),
                description=(description or "").encode(),
                metadata=None,
                photometric="minisblack",
            )
    return _TURNS


if __name__ == "__main__":
    app.run(main)
