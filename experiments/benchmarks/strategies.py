"""Compares training and evaluation on one device, two replicas and two workers.

    python -m experiments.benchmarks.strategies --folder=/tmp/strategies --study=STUDY

STUDY has a prepared dataset. Three strategies run on one machine: one process, one process with two
logical CPU devices (`mirrored`), and two processes on localhost (`multi_worker_mirrored`). Their
losses differ, because every worker draws other crops and batch statistics are computed for each
replica, so the mean losses of the last steps are compared. All three then evaluate the weights of
the first one; these scores must be equal.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import numpy as np
from absl import app, flags

_FOLDER = flags.DEFINE_string("folder", None, "Working folder.", required=True)
_STUDY = flags.DEFINE_string(
    "study", None, "Study with a prepared dataset.", required=True
)
_STEPS = flags.DEFINE_integer("steps", 120, "Number of steps of each training.")
_TASK = flags.DEFINE_string("task", "", "For internal use: a run, as JSON.")
_LAST = 40
# Logical CPU devices per process, by strategy.
_KINDS = {"one device": 1, "mirrored, 2 replicas": 2, "2 workers": 1}
# Names in the table.
_NAMES = {
    "mirrored, 2 replicas": "`mirrored`, 2 logical processors",
    "2 workers": "`multi_worker_mirrored`, 2 processes",
}


def run(kind: str, model_dir: str, mode: str) -> None:
    """Trains or evaluates in this process."""
    import tensorflow as tf

    import tfds_builders
    from cellclass_tf.maskrcnn import training

    if mode == "train" and kind != "2 workers":
        tfds_builders.dataset(_STUDY.value)
    processors = [tf.config.LogicalDeviceConfiguration()] * _KINDS[kind]
    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, processors)
    strategy = "multi_worker_mirrored" if kind == "2 workers" else "mirrored"
    override = (
        f"runtime.distribution_strategy={strategy},trainer.steps_per_loop=10,"
        f"trainer.summary_interval=10,trainer.checkpoint_interval={_STEPS.value}"
    )
    training.train(
        "cellclass_maskrcnn_small",
        model_dir,
        study=_STUDY.value,
        mode=mode,
        steps=_STEPS.value,
        params_override=override,
    )


def run_apart(kind: str, model_dir: pathlib.Path, mode: str) -> None:
    """Trains or evaluates in new processes, one per worker."""
    workers = 2 if kind == "2 workers" else 1
    hosts = [f"localhost:{_free_port()}" for _ in range(workers)]
    task = json.dumps([kind, os.fspath(model_dir), mode])
    command = [
        sys.executable,
        "-m",
        "experiments.benchmarks.strategies",
        f"--task={task}",
    ]
    command += [f"--{k}={flags.FLAGS[k].value}" for k in ("folder", "study", "steps")]
    processes = []
    for index in range(workers):
        environment = dict(os.environ)
        if workers > 1:
            environment["TF_CONFIG"] = json.dumps(
                {
                    "cluster": {"worker": hosts},
                    "task": {"type": "worker", "index": index},
                }
            )
        processes.append(subprocess.Popen(command, env=environment))
    # Wait for every worker.
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"{kind}: a worker failed.")


def scalars(folder: pathlib.Path) -> dict[str, list[float]]:
    """Reads the TensorBoard scalars in a folder, by name, in order."""
    import tensorflow as tf

    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob("events.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                number = tf.make_ndarray(value.tensor)
                if not number.shape:
                    found.setdefault(value.tag, []).append(float(number))
    return found


def main(_) -> None:
    """Prints a table with a row for each strategy."""
    if _TASK.value:
        run(*json.loads(_TASK.value))
        return
    root = pathlib.Path(_FOLDER.value)
    first = root / next(iter(_KINDS)).replace(" ", "_")
    print(
        f"| strategy | loss of the last {_LAST} steps | divided by the loss of one device "
        "| AP | AP50 | type accuracy |"
    )
    print("|---|---|---|---|---|---|")
    one = None
    for kind in _KINDS:
        folder = root / kind.replace(" ", "_")
        shutil.rmtree(folder, ignore_errors=True)
        run_apart(kind, folder, "train")
        loss = np.mean(scalars(folder / "train")["total_loss"][-_LAST // 10 :])
        one = one or loss
        evaluated = root / f"{folder.name}_evaluated"
        shutil.rmtree(evaluated, ignore_errors=True)
        shutil.copytree(first, evaluated)
        run_apart(kind, evaluated, "eval")
        scores = scalars(evaluated / "validation")
        shown = [f"{scores[key][-1]:.6f}" for key in ("AP", "AP50", "type_accuracy")]
        print(
            f"| {_NAMES.get(kind, kind)} | {loss:.3f} | {loss / one:.3f} | "
            f"{' | '.join(shown)} |"
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    app.run(main)
