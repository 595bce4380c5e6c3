"""Runs one function over many files, with progress, resuming, and isolated failures."""

from cellclass_tf.batch.engine import IN_THIS_PROCESS, Engine, takes_engine
from cellclass_tf.batch.jobs import Attempt, Job, attempt
from cellclass_tf.batch.journal import Journal
from cellclass_tf.batch.runner import Outcome, run

__all__ = [
    "IN_THIS_PROCESS",
    "Attempt",
    "Engine",
    "Job",
    "Journal",
    "Outcome",
    "attempt",
    "run",
    "takes_engine",
]
