"""Kills every command that writes with SIGKILL at every write, and has it go on.

python -m experiments.benchmarks.kills --folder=/tmp/kills

A command runs undisturbed, and all that it is about to do to files is counted: opening one
to write, renaming, removing, making a folder. Then, once for each of these, it begins again
from where it began, is killed right before, and runs twice more: the first has to leave
what the undisturbed run left, byte for byte but for dates, with everything that a person
made and nothing half-written; the second has to change nothing.

What libraries write that are not Python's (TensorFlow's records of examples, for one) is
not seen; kills before and after it are among the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tqdm
from absl import app, flags
from scipy import ndimage

import cellclass_tf as cc
from cellclass_tf.core.model_metadata import ModelMetadata
from cellclass_tf.datasets import simulation
from cellclass_tf.maskrcnn.predictor import Predictor
from experiments.benchmarks.states import differences, digest_of, state_of

_FOLDER = flags.DEFINE_string("folder", None, "Where to work.", required=True)
_ONLY = flags.DEFINE_list("only", [], "Commands; all if none is given.")
_MOST = flags.DEFINE_integer("most", None, "Kills of each command; else all.")

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link"}


def main(_) -> None:
    """Prints a table, a line a command; fails if a kill did harm."""
    folder = pathlib.Path(_FOLDER.value)
    print("| command | writes | kills | s | harm |\n|---|---|---|---|---|", flush=True)
    harm = 0
    for scenario in SCENARIOS:
        if _ONLY.value and scenario.name not in _ONLY.value:
            continue
        begun_s = time.perf_counter()
        found = kill_everywhere(scenario, folder / scenario.name, _MOST.value)
        for line in found.harm:
            print(f"{scenario.name}: {line}", file=sys.stderr)
        harm += len(found.harm)
        print(
            f"| {scenario.name} | {found.writes} | {found.kills} | "
            f"{time.perf_counter() - begun_s:.0f} | {len(found.harm)} |",
            flush=True,
        )
    if harm:
        sys.exit(1)


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A command, and what lies there when it begins.

    Attributes:
      name: of the command.
      prepare: fills a folder.
      act: runs the command in the folder; returns an outcome, or whatever it returns.
      kept: files below the folder, as patterns, that a person made; they have to be
        there in the end, wherever, with the bytes that they have in the beginning.
    """

    name: str
    prepare: Callable[[pathlib.Path], Any]
    act: Callable[[pathlib.Path], Any]
    kept: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Found:
    """How many writes a command has, at how many it was killed, and what went wrong."""

    writes: int
    kills: int
    harm: tuple[str, ...]


def kill_everywhere(
    scenario: Scenario, folder: pathlib.Path, most: int | None = None
) -> Found:
    """Kills a scenario at every write.

    Args:
      scenario: the scenario.
      folder: to work in; it is made anew.
      most: kills, at writes from the first to the last in equal steps; None for all.
    """
    shutil.rmtree(folder, ignore_errors=True)
    work, base = folder / "work", folder / "base"
    work.mkdir(parents=True)
    # Here, so that processes to come find everything imported. A thread of tqdm's would
    # not come along.
    tqdm.tqdm.monitor_interval = 0
    scenario.prepare(work)
    shutil.copytree(work, base, symlinks=True)
    made = {digest_of(p) for pattern in scenario.kept for p in base.glob(pattern)}
    if scenario.kept and not made:
        raise ValueError(f"{scenario.name}: a person made nothing.")
    undisturbed = in_a_fork(scenario.act, work, folder)
    expected = state_of(work, undisturbed)
    harm, kills = lost(work, made), 0
    total = undisturbed["writes"]
    for number in np.unique(np.linspace(1, total, most or total).astype(int)).tolist():
        shutil.rmtree(work)
        shutil.copytree(base, work, symlinks=True)
        if in_a_fork(scenario.act, work, folder, kill_at=number) is not None:
            harm.append(f"write {number}: there was none")
            continue
        kills += 1
        for run in ("next", "second"):
            result = in_a_fork(scenario.act, work, folder)
            found = state_of(work, result if run == "next" else undisturbed)
            where = f"write {number}, {run} run"
            harm += [f"{where}: {line}" for line in differences(expected, found)]
            harm += [f"{where}: {line}" for line in lost(work, made)]
    return Found(undisturbed["writes"], kills, tuple(harm))


def in_a_fork(
    function: Callable[[pathlib.Path], Any],
    work: pathlib.Path,
    folder: pathlib.Path,
    kill_at: int | None = None,
) -> dict[str, Any] | None:
    """Runs a function in a process of its own, which is killed at a write.

    Returns:
      The number of writes, and the failures; None if it was killed.

    Raises:
      RuntimeError: if the function failed.
    """
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    pid = os.fork()
    if not pid:
        _as_a_child(function, work, folder, result, kill_at)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    if status:
        raise RuntimeError((folder / "log.txt").read_text(errors="replace")[-3000:])
    return json.loads(result.read_text())


def _as_a_child(function, work, folder, result, kill_at) -> None:
    """Never returns: what comes after belongs to the parent."""
    status = 1
    try:
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        writes = [0]

        def kill(*_) -> None:
            writes[0] += 1
            if writes[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        with watching_writes(work, kill):
            found = function(work)
        failures = getattr(found, "failures", None) or {}
        result.write_text(json.dumps({"writes": writes[0], "failures": failures}))
        status = 0
    # The parent tells it, whatever it is.
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@contextlib.contextmanager
def watching_writes(root: pathlib.Path, watch: Callable[[str], None]) -> Iterator[None]:
    """Calls `watch` right before Python changes anything below a folder."""
    below, is_on = os.fspath(root), [True]

    def hook(event: str, args: tuple) -> None:
        if not is_on[0]:
            return
        if event == "open":
            writes = isinstance(args[2], int) and args[2] & _WRITING
        else:
            writes = event in _CHANGES
        if writes and _is_below(args[0], below):
            watch(event)

    # It stays as long as the process.
    sys.addaudithook(hook)
    try:
        yield
    finally:
        is_on[0] = False


def _is_below(path: Any, root: str) -> bool:
    if isinstance(path, int):
        return False
    # A name alone is of a folder that is being removed.
    name = os.fsdecode(path)
    return name.startswith(root) or os.sep not in name


def lost(work: pathlib.Path, made: set[str]) -> list[str]:
    """A line for each thing that a person made and that is nowhere any more."""
    if not made:
        return []
    there = {digest_of(path) for path in work.rglob("*") if path.is_file()}
    return [f"lost what a person made: {digest}" for digest in sorted(made - there)]


def _converted(work: pathlib.Path) -> pathlib.Path:
    root = work / "study"
    cc.simulate(root, images_per_type=2, mixed=1, size=128, dishes=2)
    cc.convert(root / "raw", root, group=simulation.GROUP_PATTERN)
    # By hand: a column of one's own, and all fields accepted.
    lines = (root / "images.csv").read_text(encoding="utf-8").splitlines()
    head = [*lines[0].split(","), "note"]
    rows = []
    for line in lines[1:]:
        cells = dict(zip(head, [*line.split(","), "mine"], strict=True))
        rows.append(cells | {"verdict": "accepted", "reason": ""})
    text = "\n".join([",".join(head), *(",".join(row.values()) for row in rows)])
    (root / "images.csv").write_text(text + "\n", encoding="utf-8")
    return root


def _annotated(work: pathlib.Path) -> pathlib.Path:
    """Cells of all fields, those of two of them as a person drew and named them."""
    root = _converted(work)
    cc.annotate(root, annotator="watershed")
    study = cc.Study.open(root)
    rows = {row.cell_type: row for row in study.rows()}
    for row in (rows["HEK"], rows["mixed"]):
        labels = study.read_cells(row).labels.copy()
        labels[:6, :6] = labels.max() + 1
        names = ["HEK", *["N2a"] * (labels.max() - 1)]
        is_mixed = row.cell_type == "mixed"
        cells = cc.Cells.from_labels(labels, study.cell_types, names)
        cells.write(study.cells_path(row), types_csv=is_mixed)
    return root


def _annotate(work: pathlib.Path, **options: Any) -> Any:
    return cc.annotate(
        work / "study",
        annotator="watershed",
        diameter=30,
        change_settings=True,
        **options,
    )


def _truth_of_another_file(work: pathlib.Path) -> None:
    root = _annotated(work)
    cc.annotate(root, annotator="watershed")


def _corrected_in_cellpose(work: pathlib.Path) -> None:
    root = _annotated(work)
    cc.annotate(root, annotator="watershed")
    cc.export_cellpose(root, work / "gui")
    for path in sorted((work / "gui").rglob("*_seg.npy"))[::2]:
        # Written by the export above.
        content = np.load(path, allow_pickle=True).item()
        content["masks"][-6:, -6:] = content["masks"].max() + 1
        np.save(path, content, allow_pickle=True)


def _coco_elsewhere(work: pathlib.Path) -> None:
    _truth_of_another_file(work)
    cc.export_coco(work / "study", work / "coco")


def _predicted(work: pathlib.Path) -> None:
    """What a network is said to have found, and a table that a person changed."""
    root = _annotated(work)
    cc.annotate(root, annotator="watershed")
    study, out = cc.Study.open(root), work / "predictions"
    from cellclass_tf.analysis import cell_table

    tables, counts = [], []
    for row in study.rows():
        cells = study.read_cells(row)
        cells.write(out / "labels" / f"{row.stem}.tif")
        tables.append(cell_table.cell_table(cells, None, name=row.stem))
        counts.append(cell_table.count_row(cells, name=row.stem))
    cell_table.write_cells_csv(out / "cells.csv", tables, study.cell_types)
    cell_table.write_counts_csv(out / "counts.csv", counts, study.cell_types)
    cc.evaluate(out, root)
    cc.report(out)
    with open(out / "evaluation_fields.csv", "a", encoding="utf-8") as file:
        file.write("mine\n")


_CORRECTED = ("study/cells/*/*", "study/.trash/**/*.tif")


class _Stub(Predictor):
    """Outlines nuclei, in place of a network."""

    def __init__(self):
        metadata = ModelMetadata(
            type_names=simulation.CELL_TYPES,
            tile_px=64,
            scale=1.0,
            model_diameter_px=30.0,
            grayscale=False,
            mask_threshold=0.5,
            experiment="small",
            checkpoint="ckpt-1",
            train_steps=1,
            dataset_fingerprint="",
        )
        super().__init__(None, metadata, "f")

    def predict(self, image: np.ndarray, **_: Any) -> cc.Cells:
        labels, count = ndimage.label(image[..., 2] > image[..., 2].mean())
        ids = np.arange(count, dtype=np.int32) % 2 + 1
        probabilities = np.eye(2, dtype=np.float32)[ids - 1]
        scores = np.ones(count, np.float32)
        labels = labels.astype(np.int32)
        return cc.Cells(labels, self.type_names, ids, scores, probabilities)


def _predict(work: pathlib.Path) -> Any:
    Predictor.load = classmethod(lambda cls, path: _Stub())
    return cc.predict("model", work / "study", work / "predictions")


def _some_predicted(work: pathlib.Path) -> None:
    """Predictions with a table that a person changed, and one field less than now."""
    root = _annotated(work)
    cc.annotate(root, annotator="watershed")
    load = Predictor.__dict__["load"]
    try:
        _predict(work)
    finally:
        Predictor.load = load
    with open(work / "predictions" / "counts.csv", "a", encoding="utf-8") as file:
        file.write("mine\n")
    for path in (work / "predictions" / "labels" / "HEK").iterdir():
        path.unlink()


def _all_corrected(work: pathlib.Path) -> None:
    """All fields as a person drew them, and weights that have learnt nothing."""
    import torch
    from cellpose import resnet_torch

    root = _converted(work)
    cc.import_masks(root, root / "truth")
    torch.manual_seed(0)
    network = resnet_torch.CPnet([2, 32, 64, 128, 256], 3, sz=3)
    network.diam_labels.data[:] = 24
    torch.save(network.state_dict(), work / "base")


def _to_be_dataset(work: pathlib.Path) -> None:
    # TensorFlow, which no other command needs.
    importlib.import_module("tfds_builders")
    _annotated(work)


def _dataset(work: pathlib.Path) -> Any:
    import tfds_builders

    return tfds_builders.dataset(work / "study").outcome


def _overwritten(work: pathlib.Path) -> None:
    _annotated(work)
    _annotate(work)
    _annotate(work, overwrite_corrected=True)


def _restore(work: pathlib.Path) -> Any:
    # The oldest, of which the folder has no number behind its date.
    first = re.compile(r"[\d-]{10}/cells/mixed/.*\.tif")
    labels = [name for name in cc.restore(work / "study") if first.fullmatch(name)]
    # Who is told that a command was killed looks whether it was done.
    return cc.restore(work / "study", labels[0]) if labels else None


SCENARIOS = (
    Scenario(
        "simulate",
        lambda work: None,
        lambda work: cc.simulate(
            work / "study", images_per_type=1, mixed=1, size=128, dishes=1
        ),
    ),
    Scenario(
        "convert",
        _annotated,
        lambda work: cc.convert(
            work / "study/raw", work / "study", contrast="field", change_settings=True
        ),
        ("study/cells/HEK/*0002.tif", "study/cells/mixed/*"),
    ),
    Scenario(
        "annotate",
        _annotated,
        _annotate,
        ("study/cells/HEK/*0002.tif", "study/cells/mixed/*"),
    ),
    Scenario(
        "annotate overwriting",
        _annotated,
        lambda work: _annotate(work, overwrite_corrected=True),
        ("study/cells/HEK/*0002.tif", "study/cells/mixed/*"),
    ),
    Scenario(
        "import masks",
        _truth_of_another_file,
        lambda work: cc.import_masks(work / "study", work / "study/truth"),
        ("study/cells/HEK/*0002.tif", "study/cells/mixed/*"),
    ),
    Scenario(
        "import cellpose",
        _corrected_in_cellpose,
        lambda work: cc.import_cellpose(work / "study", work / "gui"),
        ("study/cells/mixed/*.csv", "gui/*/*.npy"),
    ),
    Scenario(
        "import coco",
        _coco_elsewhere,
        lambda work: cc.import_coco(work / "new", work / "coco/annotations"),
        ("study/cells/*/*",),
    ),
    Scenario("dataset", _to_be_dataset, _dataset, ("study/cells/*/*",)),
    Scenario("predict", _some_predicted, _predict, ("predictions/counts.csv",)),
    Scenario(
        "finetune",
        _all_corrected,
        lambda work: cc.finetune(
            work / "study", work / "tuned", model=work / "base", epochs=1, device="cpu"
        ),
        ("study/cells/*/*", "base"),
    ),
    Scenario("restore", _overwritten, _restore, ("study/.trash/*/cells/*/*",)),
    Scenario(
        "evaluate",
        _predicted,
        lambda work: cc.evaluate(work / "predictions", work / "study"),
        ("predictions/evaluation_fields.csv",),
    ),
    Scenario("report", _predicted, lambda work: cc.report(work / "predictions")),
    Scenario(
        "compare",
        _predicted,
        lambda work: cc.compare(
            work / "predictions", work / "study", work / "compared"
        ),
    ),
    *(
        Scenario(
            f"export {name}",
            _predicted,
            lambda work, name=name: cc.export_cells(
                work / "study", work / "exported", format=name
            ),
        )
        for name in ("imagej", "geojson", "ome", "zarr", "coco")
    ),
    Scenario(
        "export coco of a study",
        _annotated,
        lambda work: cc.export_coco(work / "study", work / "coco"),
        ("study/cells/*/*",),
    ),
    Scenario(
        "export cellpose",
        _annotated,
        lambda work: cc.export_cellpose(work / "study", work / "gui"),
        ("study/cells/*/*",),
    ),
)


if __name__ == "__main__":
    app.run(main)
