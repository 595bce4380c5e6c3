"""Compares the time of a training step with that of Model Garden's own task.

    python -m experiments.benchmarks.training_step --study=STUDY

STUDY has a prepared dataset. Both tasks build the network of `cellclass_maskrcnn_small` and do
steps on the same batches, in turns in one process, so that only the step differs and not the
reading. The input pipeline has its own benchmark, `input_path.py`.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
from absl import app, flags

_STUDY = flags.DEFINE_string(
    "study", None, "Study with a prepared dataset.", required=True
)
_ROUNDS = flags.DEFINE_integer("rounds", 8, "Number of turns per task.")
_STEPS = flags.DEFINE_integer("steps", 5, "Number of steps per turn.")


def main(_) -> None:
    """Prints the seconds per step of both tasks, and their ratio."""
    import tensorflow as tf
    from official.core import exp_factory
    from official.modeling import optimization
    from official.vision.tasks import maskrcnn

    from cellclass_tf.maskrcnn import data_facts, parameters
    from cellclass_tf.maskrcnn.task import CellMaskRCNNTask

    params = exp_factory.get_exp_config("cellclass_maskrcnn_small")
    data = params.task.train_data
    data.tfds_name, data.tfds_data_dir = (
        parameters.STUDY_DATASET,
        f"{_STUDY.value}/tfds",
    )
    found = data_facts.facts_of_dataset(data.tfds_name, data.tfds_data_dir)
    data_facts.apply_facts(params, found)
    batches = list(
        itertools.islice(CellMaskRCNNTask(params.task).build_inputs(data), 8)
    )

    def stepper(kind):
        task = kind(params.task)
        model = task.build_model()
        factory = optimization.OptimizerFactory(params.trainer.optimizer_config)
        optimizer = factory.build_optimizer(factory.build_learning_rate())

        @tf.function
        def step(images, labels):
            return task.train_step((images, labels), model, optimizer)[task.loss]

        return lambda batch: float(step(*batch))

    steps = {
        "stock task": stepper(maskrcnn.MaskRCNNTask),
        "ours": stepper(CellMaskRCNNTask),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(_ROUNDS.value + 1):
        for name, step in steps.items():
            start = time.monotonic()
            for number in range(_STEPS.value):
                step(batches[(turn + number) % len(batches)])
            seconds[name].append((time.monotonic() - start) / _STEPS.value)
    medians = {name: np.median(times[1:]) for name, times in seconds.items()}
    print("| task | s | ratio |\n|---|---|---|")
    for name, value in medians.items():
        print(f"| {name} | {value:.3f} | {value / medians['stock task']:.3f} |")


if __name__ == "__main__":
    app.run(main)
