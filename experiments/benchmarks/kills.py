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
import json
import os
import pathlib
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

from experiments.benchmarks.kill_scenarios import SCENARIOS, Scenario
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


if __name__ == "__main__":
    app.run(main)
