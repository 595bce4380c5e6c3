"""Runs jobs on Apache Beam, with any runner whose workers share the files."""

from __future__ import annotations

import json
import pathlib
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cellclass_tf import errors, process_state
from cellclass_tf.batch.jobs import Attempt, Job, attempt
from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic

# Beam's default for DirectRunner may download a program from the network.
_IN_MEMORY = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
_DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"
_POLL_S = 0.5


def execute(
    function: Callable,
    jobs: Sequence[Job],
    options: Sequence[str],
    beside: pathlib.Path | None,
) -> Iterator[Attempt]:
    """Yields the outcome of each job as soon as its worker has written it.

    Workers write each result to a file of its own. In this way, if the calling process is
    killed, the journal has the results so far.

    Args:
      function: function to call, which has to be picklable.
      jobs: jobs with arguments that are picklable.
      options: flags of Beam.
      beside: path of a file in a folder that the caller and the workers share; results are
        written to this folder. None for the folder of the first output.

    Raises:
      InputError: if Beam is not installed, or if the pipeline fails.
    """
    if not jobs:
        return
    pipeline = _pipeline(options)
    with atomic.temporary_folder(_shared_folder(jobs, beside)) as folder:
        # Dask would interpret a tuple that begins with a function as one of its own tasks.
        elements = [(str(i), pickle.dumps(j.argument)) for i, j in enumerate(jobs)]
        _build(pipeline, elements, function, str(folder))
        runner = _Runner(pipeline)
        runner.start()
        waiting = dict(enumerate(jobs))
        while waiting:
            is_over = not runner.is_alive()
            for number in sorted(waiting):
                path = folder / str(number)
                if path.exists():
                    found = json.loads(path.read_text(encoding="utf-8"))
                    yield waiting.pop(number), *found
            if is_over:
                break
            runner.join(_POLL_S)
        runner.join()
        if runner.error is not None:
            raise InputError(f"Apache Beam failed: {errors.one_line(runner.error)}")
        for job in waiting.values():
            yield job, None, f"{job.name}: the pipeline ended without its result."


class _Runner(threading.Thread):
    """Thread that runs a pipeline, since Beam's local runner returns only at the end."""

    def __init__(self, pipeline: Any) -> None:
        super().__init__(daemon=True)
        self._pipeline = pipeline
        self.error: str | None = None

    def run(self) -> None:
        # The caller's thread reports the error.
        _, self.error = attempt(_run_to_its_end, self._pipeline)


def _run_to_its_end(pipeline: Any) -> None:
    result = pipeline.run()
    try:
        result.wait_until_finish()
    finally:
        # Dask's runner closes neither its connections nor the workers that it started.
        if hasattr(result, "client"):
            result.client.close()


def pipeline_options(options: Sequence[str]) -> Any:
    """Parses flags of Beam into its `PipelineOptions`, with an installed runner.

    Raises:
      InputError: if Beam is not installed, or does not accept the flags.
    """
    try:
        with process_state.keep_logging():
            import apache_beam as beam
    except ImportError as error:
        raise InputError(
            "--engine=beam needs Apache Beam, which is not installed. Run: "
            "pip install 'cellclass_tf[beam]'"
        ) from error
    known = beam.options.pipeline_options
    try:
        parsed = known.PipelineOptions(list(options))
        standard = parsed.view_as(known.StandardOptions)
        if (standard.runner or "DirectRunner").lower() in ("directrunner", "direct"):
            standard.runner = _IN_MEMORY
        elif standard.runner.rpartition(".")[2].lower() in ("daskrunner", "dask"):
            standard.runner = _DASK
            _share_out_on_dask(parsed)
        return parsed
    except (ValueError, AttributeError, SystemExit) as error:
        raise _refusal(options, error) from error


def _share_out_on_dask(parsed: Any) -> None:
    """Makes every job a task of its own; by default a worker gets 128 jobs at once."""
    from apache_beam.runners.dask.dask_runner import DaskOptions

    dask = parsed.view_as(DaskOptions)
    if not dask.npartitions and not dask.partition_size:
        dask.partition_size = 1


def _pipeline(options: Sequence[str]) -> Any:
    parsed = pipeline_options(options)
    import apache_beam as beam

    try:
        return beam.Pipeline(options=parsed)
    except (ValueError, ImportError, AttributeError, SystemExit) as error:
        raise _refusal(options, error) from error


def _refusal(options: Sequence[str], error: BaseException) -> InputError:
    return InputError(
        f"--beam_options={','.join(options)}: Apache Beam does not accept these flags "
        f"({error})."
    )


def _build(pipeline: Any, elements: list, function: Callable, folder: str) -> None:
    import apache_beam as beam

    _ = (
        pipeline
        | beam.Create(elements)
        # Otherwise one worker would run all jobs.
        | beam.Reshuffle()
        | beam.Map(_attempt_and_write, function, folder)
    )


def _attempt_and_write(
    element: tuple[str, bytes], function: Callable, folder: str
) -> None:
    number, argument = element
    path = pathlib.Path(folder) / number
    # A runner repeats the jobs of a worker that it has lost.
    if not path.exists():
        found = attempt(lambda pickled: function(pickle.loads(pickled)), argument)
        atomic.write_text(path, json.dumps(found))


def _shared_folder(jobs: Sequence[Job], beside: pathlib.Path | None) -> pathlib.Path:
    outputs = [path for job in jobs for path in job.outputs]
    neighbour = beside or (outputs[0] if outputs else None)
    return neighbour.parent if neighbour else pathlib.Path(tempfile.gettempdir())
