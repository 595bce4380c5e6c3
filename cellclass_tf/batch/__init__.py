"""One function over many files: progress, resume, and failures that harm nobody else."""

from cellclass_tf.batch.jobs import Attempt, Job, attempt
from cellclass_tf.batch.runner import Engine, Outcome, remember, results, run

__all__ = [
    "Attempt",
    "Engine",
    "Job",
    "Outcome",
    "attempt",
    "remember",
    "results",
    "run",
]
