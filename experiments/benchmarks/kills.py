"""Kills every command that writes with SIGKILL at every write, and runs it again.

python -m experiments.benchmarks.kills --folder=/tmp/kills

A command first runs undisturbed, and its write operations are counted: opening a file to write,
renaming, removing, making a folder. Then, once for each of these operations, the command starts
again from the same state, is killed right before the operation, and runs twice more. The first
of these runs must leave the same files as the undisturbed run (except for dates), with everything
that a person made and nothing half-written. The second one must change nothing.

Files written by other libraries than Python's (such as TensorFlow's records of examples) are not
counted; there are kills before and after such writes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
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

_FOLDER = flags.DEFINE_string("folder", None, "Working folder.", required=True)
_ONLY = flags.DEFINE_list("only", [], "Commands to test; all by default.")
_MOST = flags.DEFINE_integer(
    "most", None, "Maximum number of kills per command; all by default."
)

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link"}


def main(_) -> None:
    """Prints a table with a row per command; fails if a kill did harm."""
    folder = pathlib.Path(_FOLDER.value)
    print(
        "| command | write operations | killed at | s | harm |\n|---|---|---|---|---|",
        flush=True,
    )
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
    """A command, and the files that exist when it starts.

    Attributes:
      name: name of the command.
      prepare: function that fills a folder.
      act: function that runs the command in the folder.
      kept: patterns of files that a person made; files with the same bytes must still exist
        somewhere below the folder in the end.
    """

    name: str
    prepare: Callable[[pathlib.Path], Any]
    act: Callable[[pathlib.Path], Any]
    kept: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Found:
    """The number of write operations, the number of kills, and what went wrong."""

    writes: int
    kills: int
    harm: tuple[str, ...]


def kill_everywhere(
    scenario: Scenario, folder: pathlib.Path, most: int | None = None
) -> Found:
    """Kills a command at every write operation.

    Args:
      scenario: the command and its start.
      folder: working folder, which is emptied.
      most: maximum number of kills, evenly spaced over the write operations; None for all.
    """
    shutil.rmtree(folder, ignore_errors=True)
    work, base = folder / "work", folder / "base"
    work.mkdir(parents=True)
    # Preparing in this process imports all modules before the forks. A thread of tqdm would
    # not exist in a fork.
    tqdm.tqdm.monitor_interval = 0
    scenario.prepare(work)
    shutil.copytree(work, base, symlinks=True)
    made = {digest_of(p) for pattern in scenario.kept for p in base.glob(pattern)}
    if scenario.kept and not made:
        raise ValueError(f"{scenario.name}: no file matches {scenario.kept}.")
    undisturbed = _not_killed(scenario.act, work, folder)
    expected = state_of(work, undisturbed)
    harm, kills = lost(work, made), 0
    total = undisturbed["writes"]
    for number in np.unique(np.linspace(1, total, most or total).astype(int)).tolist():
        shutil.rmtree(work)
        shutil.copytree(base, work, symlinks=True)
        if in_a_fork(scenario.act, work, folder, kill_at=number) is not None:
            harm.append(f"write {number}: the command ended before it")
            continue
        kills += 1
        for run in ("next", "second"):
            result = _not_killed(scenario.act, work, folder)
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
    """Runs a function in a forked process, which is killed at a write operation.

    Returns:
      The number of write operations and the failures; None if it was killed.

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


def _not_killed(
    function: Callable[[pathlib.Path], Any], work: pathlib.Path, folder: pathlib.Path
) -> dict[str, Any]:
    result = in_a_fork(function, work, folder)
    if result is None:
        raise RuntimeError("The process was killed by another program.")
    return result


def _as_a_child(function, work, folder, result, kill_at) -> None:
    """Runs the function and ends the process, so that only the parent continues."""
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
    # The parent reports the error.
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

    # An audit hook cannot be removed.
    sys.addaudithook(hook)
    try:
        yield
    finally:
        is_on[0] = False


def _is_below(path: Any, root: str) -> bool:
    if isinstance(path, int):
        return False
    # A name without a folder occurs when a folder is being removed.
    name = os.fsdecode(path)
    return name.startswith(root) or os.sep not in name


def lost(work: pathlib.Path, made: set[str]) -> list[str]:
    """Returns one line for each file that a person made and that no longer exists."""
    if not made:
        return []
    there = {digest_of(path) for path in work.rglob("*") if path.is_file()}
    return [
        f"lost a file that a person made: {digest}" for digest in sorted(made - there)
    ]


def _converted(work: pathlib.Path) -> pathlib.Path:
    root = work / "study"
    cc.simulate(root, images_per_type=2, mixed=1, size=128, dishes=2)
    cc.convert(root / "raw", root, group=simulation.GROUP_PATTERN)
    # As a person would: add a column, and accept all fields.
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
    """Makes a study with cells; those of two fields were corrected by a person."""
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
        # The file was written by the export above.
        content = np.load(path, allow_pickle=True).item()
        content["masks"][-6:, -6:] = content["masks"].max() + 1
        np.save(path, content, allow_pickle=True)


def _coco_elsewhere(work: pathlib.Path) -> None:
    _truth_of_another_file(work)
    cc.export_coco(work / "study", work / "coco")


def _predicted(work: pathlib.Path) -> None:
    """Makes predictions, with a table that a person changed."""
    root = _annotated(work)
    cc.annotate(root, annotator="watershed")
    study, out = cc.Study.open(root), work / "predictions"
    from cellclass_tf.analysis import cell_table, table_files

    tables, counts = [], []
    for row in study.rows():
        cells = study.read_cells(row)
        cells.write(out / "labels" / f"{row.stem}.tif")
        tables.append(cell_table.cell_table(cells, None, name=row.stem))
        counts.append(cell_table.count_row(cells, name=row.stem))
    table_files.write_cells_csv(out / "cells.csv", tables, study.cell_types)
    table_files.write_counts_csv(out / "counts.csv", counts, study.cell_types)
    cc.evaluate(out, root)
    cc.report(out)
    with open(out / "evaluation_fields.csv", "a", encoding="utf-8") as file:
        file.write("mine\n")


def _no_network(**_: Any) -> dict:
    raise NotImplementedError


class _Stub(Predictor):
    """A stub that outlines nuclei, in place of a network."""

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
        super().__init__(_no_network, metadata, "f")

    def predict(self, image: np.ndarray, **_: Any) -> cc.Cells:
        """Labels bright pixels of the nuclei channel."""
        labels, count = ndimage.label(image[..., 2] > image[..., 2].mean())
        ids = np.arange(count, dtype=np.int32) % 2 + 1
        probabilities = np.eye(2, dtype=np.float32)[ids - 1]
        scores = np.ones(count, np.float32)
        labels = labels.astype(np.int32)
        return cc.Cells(labels, self.type_names, ids, scores, probabilities)


def _predict(work: pathlib.Path) -> Any:
    # The process is a fork, so nothing needs to be restored.
    Predictor.load = classmethod(lambda cls, path: _Stub())  # type: ignore[assignment, method-assign]
    return cc.predict("model", work / "study", work / "predictions")


def _some_predicted(work: pathlib.Path) -> None:
    """Makes predictions with a table that a person changed, without some of the fields."""
    root = _annotated(work)
    cc.annotate(root, annotator="watershed")
    load = Predictor.__dict__["load"]
    try:
        _predict(work)
    finally:
        Predictor.load = load  # type: ignore[method-assign]
    with open(work / "predictions" / "counts.csv", "a", encoding="utf-8") as file:
        file.write("mine\n")
    for path in (work / "predictions" / "labels" / "HEK").iterdir():
        path.unlink()


def _all_corrected(work: pathlib.Path) -> None:
    """Makes a study with hand-drawn cells, and untrained weights."""
    import torch
    from cellpose import resnet_torch

    root = _converted(work)
    cc.import_masks(root, root / "truth")
    torch.manual_seed(0)
    network = resnet_torch.CPnet([2, 32, 64, 128, 256], 3, sz=3)
    network.diam_labels.data[:] = 24
    torch.save(network.state_dict(), work / "base")


def _to_be_dataset(work: pathlib.Path) -> None:
    # Import TensorFlow before the fork; no other command needs it.
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
    # The oldest folder has no number after its date.
    first = re.compile(r"[\d-]{10}/cells/mixed/.*\.tif")
    labels = [name for name in cc.restore(work / "study") if first.fullmatch(name)]
    # After a kill, a person would look whether it was already restored.
    return cc.restore(work / "study", labels[0]) if labels else None


def _export(name: str, work: pathlib.Path) -> Any:
    return cc.export_cells(work / "study", work / "exported", format=name)


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
            functools.partial(_export, name),
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
