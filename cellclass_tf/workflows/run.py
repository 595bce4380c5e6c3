"""One command from raw files to the proportions of mixed cultures."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
from typing import Literal

from cellclass_tf import process_state
from cellclass_tf.analysis import shares_in_words
from cellclass_tf.errors import FOR_TRAINING, InputError, one_line, require
from cellclass_tf.maskrcnn import hardware
from cellclass_tf.microscopy.readers import Projection
from cellclass_tf.storage import lock
from cellclass_tf.workflows import run_plan, run_settings, run_steps
from cellclass_tf.workflows.run_settings import RunSettings


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run did.

    Attributes:
      plan: the plan of the run.
      questions: what a person has to look at before the run continues; empty if it has
        ended.
      shares: {type: (share, low, high)} of the mixed fields, the best estimate that there
        is; None without one.
      lines: what to tell a person before the shares.
      next_step: what is most useful to do now.
      report: path of the report; None if the run did not get that far.
    """

    plan: run_plan.Plan
    questions: tuple[str, ...] = ()
    shares: shares_in_words.Shares | None = None
    lines: tuple[str, ...] = ()
    next_step: tuple[str, ...] = ()
    report: pathlib.Path | None = None

    @property
    def passed(self) -> bool:
        """Whether no question is left for a person."""
        return not self.questions

    def __str__(self) -> str:
        if self.questions:
            asked = "\n".join(f"  {line}" for line in self.questions)
            return (
                f"The run stopped before training, since you should look at this:\n{asked}\n"
                "Then run the command again, and it continues. With --yes it does not stop."
            )
        lines = list(self.lines)
        lines += shares_in_words.lines(self.shares or {})
        if self.report:
            lines.append(f"Report: {self.report}")
        lines += self.next_step
        return "\n".join(lines) or str(self.plan)


@process_state.keep()
@lock.writes("output", creates=True)
def run(  # noqa: D417 - RunSettings describes the others.
    output: str | os.PathLike,
    *,
    input: str | os.PathLike | None = None,
    study: str | os.PathLike | None = None,
    group: str | None = None,
    nuclei: str | int | None = None,
    cytoplasm: str | int | None = None,
    projection: Projection | None = None,
    annotator: Literal["cellpose", "watershed"] | None = None,
    model: str | os.PathLike | None = None,
    diameter: float | None = None,
    corrections: str | os.PathLike | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int | None = None,
    namer: bool | None = None,
    precision: hardware.Precision | None = None,
    outlines: str | None = None,
    answer_anyway: bool | None = None,
    plan: bool = False,
    yes: bool = False,
    processes: int = 1,
) -> Run:
    """Goes the whole way from raw files to the proportions of the mixed fields.

    Converts and annotates, reads corrections, prepares the dataset, trains, exports,
    predicts and reports; each step does what has changed since the last call. OUTPUT/run.yaml
    keeps the settings, so that the next call needs none; OUTPUT/training/VERSION holds the
    training on that version of the dataset, OUTPUT/model the model, OUTPUT/predictions the
    results. Before training it stops once so that a person can look at files that could
    not be read, rejected fields, doubtful cells, and types with a single dish. The next
    call continues, unless there is something new to look at.

    The settings from `input` to `answer_anyway` are described in `RunSettings`. Those that
    are not given stay as run.yaml has them.

    Args:
      output: folder for all results and run.yaml; not the folder of the study.
      plan: print what would be done, and stop.
      yes: continue where the command would stop for a person to look.
      processes: number of worker processes for conversion and annotation.

    Returns:
      What was done, and found.

    Raises:
      InputError: if a setting makes no sense, a folder holds something else, or a step
        has nothing to work on.
    """
    output = pathlib.Path(output)
    given = {
        "input": input,
        "study": study,
        "group": group,
        "nuclei": nuclei,
        "cytoplasm": cytoplasm,
        "projection": projection,
        "annotator": annotator,
        "model": model,
        "diameter": diameter,
        "corrections": corrections,
        "minutes": minutes,
        "steps": steps,
        "seed": seed,
        "namer": namer,
        "precision": precision,
        "outlines": outlines,
        "answer_anyway": answer_anyway,
    }
    settings = run_settings.settle(
        output,
        {
            k: os.fspath(v) if isinstance(v, os.PathLike) else v
            for k, v in given.items()
        },
    )
    _check_folders(settings, output)
    planned = run_plan.plan_of(settings)
    if plan:
        return Run(planned)
    outlining = ("cellpose",) if settings.annotator == "cellpose" else ()
    require("cellclass run", *FOR_TRAINING, *outlining)
    run_settings.write(output, settings)
    print(planned, file=sys.stderr, flush=True)
    stages = run_steps.Stages({step.name: step.what for step in planned.steps})
    work = run_steps.Steps(settings, output, stages, processes)
    outcome = work.convert().merge(work.annotate()).merge(work.correct())
    asked = work.questions(outcome.failures)
    if asked and not yes:
        return Run(planned, questions=tuple(asked))
    for line in (*(asked or run_steps.failure_lines(outcome.failures)), *outcome.notes):
        print(one_line(line), file=sys.stderr, flush=True)
    work.train()
    return Run(planned, **vars(work.predict()))


def _check_folders(settings: RunSettings, output: pathlib.Path) -> None:
    if not os.path.exists(settings.input):
        raise InputError(f"{settings.input} does not exist: expected raw files there.")
    if os.path.abspath(output) == os.path.abspath(settings.study):
        raise InputError(
            f"{output}: the results need a folder of their own, not that of the study."
        )
    if settings.corrections and not os.path.isdir(settings.corrections):
        raise InputError(
            f"{settings.corrections} is not a folder: expected corrected cells there. Give "
            "the right one with --corrections, or --corrections= if there are none."
        )
