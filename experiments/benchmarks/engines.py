"""Runs four commands on every engine, kills workers, and compares all files they write.

python -m experiments.benchmarks engines --folder=/tmp/engines --model=MODEL --fields=12

This needs `pip install 'cellclass_tf[dask]'`. `convert`, `annotate`, `dataset` and `predict` run
in this process, in worker processes, on Beam's DirectRunner, and on Beam's DaskRunner with a new
Dask cluster: a scheduler and worker processes that are connected only by TCP, like other machines.
Each command starts with the files that the previous command left on the first engine. In the rows
"with a kill", a worker gets SIGKILL: Dask's when a third of its tasks is done, a local one after
four seconds. If files failed, the command is run again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
from absl import app, flags

import cellclass_tf as cc
from cellclass_tf import batch
from cellclass_tf.core.study import MIXED
from cellclass_tf.datasets import simulation
from experiments.benchmarks.states import differences, state_of

_FOLDER = flags.DEFINE_string("folder", None, "Working folder.", required=True)
_MODEL = flags.DEFINE_string("model", None, "Exported model.", required=True)
_FIELDS = flags.DEFINE_integer(
    "fields", 12, "Number of fields per type, and of mixed fields."
)
_WORKERS = flags.DEFINE_integer("workers", 2, "Number of worker processes.")
_ONLY = flags.DEFINE_list("only", [], "Engines to run; all by default.")
_COMMANDS = flags.DEFINE_list("commands", [], "Commands to compare; all by default.")

_SIZE_PX, _DISHES = 384, 3
_DONE_BEFORE_KILL = 1 / 3


def main(_) -> None:
    """Prints a table with a row per command and engine; fails if anything differs."""
    folder = pathlib.Path(_FOLDER.value).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    base, work = folder / "base", folder / "work"
    cc.simulate(
        base / "study",
        images_per_type=_FIELDS.value,
        mixed=_FIELDS.value,
        size=_SIZE_PX,
        dishes=_DISHES,
    )
    print(
        "| command | engine | s | processes that worked | killed | files | differ |\n"
        "|---|---|---|---|---|---|---|",
        flush=True,
    )
    differ = 0
    for command, act in COMMANDS.items():
        expected: dict[str, str] = {}
        for name, engine in ENGINES.items():
            is_wanted = not _ONLY.value or name in _ONLY.value
            is_compared = not _COMMANDS.value or command in _COMMANDS.value
            # The first engine always runs: its files are the reference and the next input.
            if expected and not (is_wanted and is_compared):
                continue
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(base, work)
            found = measure(act, engine, work)
            state = state_of(work, {"failures": found.failures})
            if not expected:
                expected = state
                shutil.move(work, folder / "next")
            lines = differences(expected, state)
            differ += len(lines)
            for line in lines:
                print(f"{command}, {name}: {line}", file=sys.stderr)
            print(
                f"| {command} | {name} | {found.seconds:.1f} | {found.workers or ''} | "
                f"{found.kills or ''} | {len(state)} | {len(lines)} |",
                flush=True,
            )
        shutil.rmtree(base)
        shutil.move(folder / "next", base)
    if differ:
        sys.exit(1)


@dataclasses.dataclass(frozen=True)
class Found:
    """The result of a command on an engine.

    Attributes:
      seconds: wall time, including a second run, without the start of the cluster.
      workers: number of processes of the engine that used more than a second of CPU time.
      kills: number of workers that were killed.
      failures: reasons by file, in the last run.
    """

    seconds: float
    workers: int
    kills: int
    failures: dict[str, str]


def measure(
    act: Callable[[pathlib.Path, Any], Any], make_engine: Callable, work: pathlib.Path
) -> Found:
    """Runs a command on an engine, and again if files failed."""
    with make_engine() as (engine, watch):
        begun_s = time.perf_counter()
        # TFDS prints to stdout, which would interrupt the table.
        with contextlib.redirect_stdout(sys.stderr):
            with watch:
                outcome = act(work, engine)
            if outcome.failures:
                outcome = act(work, engine)
        seconds = time.perf_counter() - begun_s
        return Found(seconds, watch.workers, watch.kills, outcome.failures)


class _Watch:
    """Counts the processes that work while it is open, and kills one if `progress` is given.

    Args:
      victims: function that returns the process ids of the workers.
      progress: function that returns the numbers of finished and of all jobs; None to kill
        no worker.
    """

    def __init__(self, victims: Callable[[], list[int]], progress: Callable | None):
        self._victims, self._progress = victims, progress
        self._worked: dict[int, float] = {}
        self.kills = 0

    @property
    def workers(self) -> int:
        return sum(seconds > 1 for seconds in self._worked.values())

    def __enter__(self) -> _Watch:
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ends.set()
        self._thread.join()

    def _look(self) -> None:
        before = {pid: _processor_s(pid) for pid in self._victims()}
        while not self._ends.wait(0.05):
            alive = self._victims()
            for pid in alive:
                self._worked[pid] = _processor_s(pid) - before.get(pid, 0.0)
            if self._progress and not self.kills:
                done, total = self._progress()
                if total and done >= total * _DONE_BEFORE_KILL and alive:
                    # Kill the busiest; one that has worked little may be a helper process.
                    victim = max(alive, key=lambda pid: self._worked.get(pid, 0.0))
                    psutil.Process(victim).kill()
                    self.kills += 1


def _processor_s(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system
    return 0.0


def _children() -> list[int]:
    return [process.pid for process in psutil.Process().children()]


def _local(processes: int, *, kills: bool = False) -> Callable:
    @contextlib.contextmanager
    def make() -> Iterator[tuple]:
        begun_s = time.perf_counter()

        def progress() -> tuple[int, int]:
            # After this time, workers have started and some jobs are done.
            return int(time.perf_counter() - begun_s > _LOCAL_KILL_S), 1

        watch = _Watch(_children, progress if kills else None)
        yield batch.Engine(processes=processes), watch

    return make


_LOCAL_KILL_S = 4.0


def _direct(*options: str) -> Callable:
    @contextlib.contextmanager
    def make() -> Iterator[tuple]:
        yield batch.Engine("beam", beam_options=options), _Watch(_children, None)

    return make


def _dask(*, kills: bool = False) -> Callable:
    @contextlib.contextmanager
    def make() -> Iterator[tuple]:
        import distributed

        with distributed.LocalCluster(
            n_workers=_WORKERS.value,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
        ) as cluster:

            def workers() -> list[int]:
                found = [nanny.pid for nanny in list(cluster.workers.values())]
                return [pid for pid in found if pid]

            def progress() -> tuple[int, int]:
                tasks = list(cluster.scheduler.tasks.values())
                return sum(task.state == "memory" for task in tasks), len(tasks)

            address = f"--dask_client_address={cluster.scheduler_address}"
            options = ("--runner=DaskRunner", address)
            engine = batch.Engine("beam", beam_options=options)
            yield engine, _Watch(workers, progress if kills else None)

    return make


ENGINES = {
    "this process": _local(1),
    "worker processes": lambda: _local(_WORKERS.value)(),
    "worker processes with a kill": lambda: _local(_WORKERS.value, kills=True)(),
    "DirectRunner": _direct(),
    "DirectRunner in processes": lambda: _direct(
        f"--direct_num_workers={_WORKERS.value}",
        "--direct_running_mode=multi_processing",
    )(),
    "DaskRunner": _dask(),
    "DaskRunner with a kill": _dask(kills=True),
}


def _convert(work: pathlib.Path, engine: batch.Engine) -> batch.Outcome:
    root = work / "study"
    return cc.convert(root / "raw", root, group=simulation.GROUP_PATTERN, engine=engine)


def _annotate(work: pathlib.Path, engine: batch.Engine) -> batch.Outcome:
    return cc.annotate(work / "study", annotator="watershed", engine=engine)


def _dataset(work: pathlib.Path, engine: batch.Engine) -> batch.Outcome:
    import tfds_builders

    return tfds_builders.dataset(work / "study", engine=engine).outcome


def _predict(work: pathlib.Path, engine: batch.Engine) -> batch.Outcome:
    study, out = work / "study", work / "predictions"
    return cc.predict(_MODEL.value, study, out, cell_type=MIXED, engine=engine)


COMMANDS = {
    "convert": _convert,
    "annotate": _annotate,
    "dataset": _dataset,
    "predict": _predict,
}


if __name__ == "__main__":
    app.run(main)
