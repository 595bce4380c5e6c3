"""Commands that do more than call the public function of the same name."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from cellclass_tf import batch
from cellclass_tf.cli import next_steps
from cellclass_tf.errors import InputError, one_line, require
from cellclass_tf.workflows.demo import format_score


def import_(
    source: str,
    *,
    study: str | None = None,
    predictions: str | None = None,
    format: Literal["masks", "cellpose", "coco", "spotcheck"] = "masks",
    overwrite_corrected: bool = False,
    training_share: float | None = None,
    **options: Any,
) -> Any:
    """Imports cells or labels from another program.

    Args:
      source: folder of the labels, or COCO file, or table of a spot check.
      study: folder of the study.
      predictions: for labels of a spot check: output folder of `predict`.
      format: what the source is: 'masks' (label images, or one mask per cell), 'cellpose'
        (_seg.npy files), 'coco', or 'spotcheck' (the table that its page saved).
      overwrite_corrected: also import files that were imported before and have not changed,
        and files that would remove cells from corrected fields. The old cells are kept in
        STUDY/.trash/DATE.
      training_share: share of a spot check's labelled cells whose types go into the study,
        for training, 0 to 1. Labels of these fields no longer give an estimate for the
        model that is trained with them.
      options: those of `import_masks`, `import_coco` and `import_spotcheck`.
    """
    import cellclass_tf

    function = getattr(cellclass_tf, f"import_{format}")
    others = (
        cellclass_tf.import_masks,
        cellclass_tf.import_coco,
        cellclass_tf.import_spotcheck,
    )
    _refuse_others(options, function, others, format)
    if format == "spotcheck":
        if not predictions or bool(study) != (training_share is not None):
            raise InputError(
                "--format=spotcheck needs --predictions; and --study and --training_share "
                "together, or neither."
            )
        if overwrite_corrected and not study:
            raise InputError("--overwrite_corrected needs --study.")
        imported = cellclass_tf.import_spotcheck(
            predictions, source, **_of(options, function)
        )
        if not study:
            return imported
        print(imported)
        outcome = cellclass_tf.import_spotcheck_types(
            study,
            predictions,
            share=training_share,
            overwrite_corrected=overwrite_corrected,
        )
    elif not study or predictions or training_share is not None:
        raise InputError(
            f"--format={format} needs --study, and no --predictions or --training_share."
        )
    else:
        outcome = function(
            study,
            source,
            overwrite_corrected=overwrite_corrected,
            **_of(options, function),
        )
    for line in _change_lines(outcome):
        print(line)
    return outcome


def _of(options: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """Returns the options that a function takes."""
    taken = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in taken}


def _refuse_others(
    options: Mapping[str, Any],
    function: Callable[..., Any],
    functions: Sequence[Callable[..., Any]],
    format: str,
) -> None:
    """Raises InputError if an option of another format was given."""
    for other in functions:
        parameters = inspect.signature(other).parameters
        for name, value in options.items():
            if name in _of(options, function) or name not in parameters:
                continue
            if value != parameters[name].default:
                of_format = other.__name__.split("_")[-1]
                raise InputError(
                    f"--{name} is for --format={of_format}, not for {format}."
                )


def _change_lines(outcome: batch.Outcome) -> list[str]:
    """Returns lines that say, for each imported field, what changed and was resolved."""
    lines = []
    for name, result in sorted(outcome.done.items()):
        counts = [f"{n} {what}" for what, n in result["changes"].items() if n]
        lines.append(f"  {one_line(name)}: {', '.join(counts) or 'no changes'}")
        lines += [f"    {one_line(note)}" for note in result["notes"]]
    return lines


def export(
    output: str,
    *,
    study: str | None = None,
    predictions: str | None = None,
    format: Literal[
        "cellpose",
        "coco",
        "imagej",
        "geojson",
        "ome",
        "zarr",
        "plate",
        "spatialdata",
    ] = "cellpose",
    **options: Any,
) -> Any:
    """Writes cells for another program.

    Args:
      output: folder to write to.
      study: folder of a study, whose annotated cells are written.
      predictions: output folder of `predict`, instead of a study.
      format: program or format to write for: 'cellpose' (its GUI), 'coco', 'imagej' (ZIP
        of ROIs), 'geojson' (QuPath), 'ome' (OME-TIFF of labels), 'zarr' (OME-Zarr of image
        and labels), 'plate' (OME-Zarr of a multiwell plate), or 'spatialdata'.
      options: those of `export_coco` and `export_cellpose`.
    """
    import cellclass_tf
    from cellclass_tf.analysis import sources

    source = sources.source_of(predictions, study)
    to_coco, to_cellpose = cellclass_tf.export_coco, cellclass_tf.export_cellpose
    function = {"cellpose": to_cellpose}.get(format, cellclass_tf.export_cells)
    if study and format == "coco":
        function = to_coco
    _refuse_others(options, function, (to_coco, to_cellpose), format)
    if format == "cellpose" and not study:
        raise InputError("--format=cellpose is for correcting a study: give --study.")
    if function in (to_coco, to_cellpose):
        return function(study, output, **_of(options, function))
    return cellclass_tf.export_cells(source, output, format=format)


def dataset(study: str, **options: Any) -> batch.Outcome:
    """Prepares a dataset and prints what it holds; returns the outcome by image."""
    import cellclass_tf

    prepared = cellclass_tf.dataset(study, **options)
    print(prepared)
    return prepared.outcome


def train(study: str, output: str, **options: Any) -> str:
    """Trains a network; returns where it is and the next command."""
    import cellclass_tf

    folder = cellclass_tf.train(study, output, **options)
    return (
        f"Trained: {folder}\n"
        f"{next_steps.next_is('export-model', training=folder, output='model')}"
    )


def export_model(training: str, output: str, **options: Any) -> str:
    """Exports a trained model; returns where it is and the next command."""
    import cellclass_tf

    model = cellclass_tf.export_model(training, output, **options)
    return (
        f"Written: {model}\n"
        f"{next_steps.next_is('predict', model=model, input='STUDY', output='predictions')}"
    )


def schemas(output: str) -> str:
    """Writes the JSON Schemas; returns the names of the files."""
    import cellclass_tf

    return "\n".join(f"Written: {path}" for path in cellclass_tf.write_schemas(output))


@dataclasses.dataclass(frozen=True)
class _Summary:
    """Result of a command in words, and whether nothing failed."""

    text: str
    passed: bool

    def __str__(self) -> str:
        return self.text


def check(
    study: str | None = None, dataset: str | None = None, data_dir: str | None = None
) -> Any:
    """Looks for leaks between the splits of a prepared dataset.

    Args:
      study: folder of the study, whose newest dataset is checked.
      dataset: folder of one version of a dataset, with dataset_info.json, instead of a
        study.
      data_dir: folder or bucket with the study's datasets; STUDY/tfds if not given.
    """
    require("cellclass check", "tensorflow_datasets")
    import cellclass_tf

    if dataset and not study:
        return cellclass_tf.check_dataset(dataset)
    if study and not dataset:
        # It loads TensorFlow.
        import tfds_builders

        newest = tfds_builders.newest_dataset(study, data_dir)
        found = cellclass_tf.check_dataset(newest)
        if not found.passed:
            return found
        told = next_steps.next_is("train", study=study, output="training")
        return _Summary(f"{found}\n{told}", passed=True)
    raise InputError("Expected either --study or --dataset.")


def evaluate(predictions: str, study: str, split: str | None = None) -> _Summary:
    """Scores predictions; returns the main scores in words."""
    import cellclass_tf

    scores = cellclass_tf.evaluate(predictions, study, split=split)
    names = ("AP", "AP50", "AP75", "PQ", "F1", "type_accuracy", "balanced_accuracy")
    lines = [f"{name:<18}{_with_interval(scores, name)}" for name in names]
    errors = ", ".join(f"{n} {kind}" for kind, n in scores["errors"].items())
    lines.append(
        f"{scores['images']} fields, {scores['cells_true']} true cells; errors: {errors}"
    )
    if scores["intervals_reason"]:
        lines.append(f"No intervals: {scores['intervals_reason']}.")
    failures = scores["failures"]
    lines += [f"not evaluated: {one_line(why)}" for why in failures.values()]
    lines.append(f"All scores: {predictions}/evaluation.json")
    told = next_steps.next_is("report", predictions=predictions)
    lines.append(f"{told}, to see them beside the proportions")
    return _Summary("\n".join(lines), not failures)


def _with_interval(scores: dict[str, Any], name: str) -> str:
    ends = (scores["intervals"] or {}).get(name) or [None]
    shown = format_score(scores[name])
    if None in ends:
        return shown
    return f"{shown}  ({ends[0]:.3f} to {ends[1]:.3f})"


def conditions(study: str) -> str:
    """Writes conditions.csv; returns where it is and how to fill it in."""
    import cellclass_tf

    path = cellclass_tf.conditions(study)
    return (
        f"Written: {path}. Fill in the column condition, and replicate if dishes belong "
        "together: the same name in two conditions means the same animal, culture or day. "
        "Then run `cellclass compare-conditions`."
    )


def report(predictions: str, **options: Any) -> str:
    """Writes report.html; returns where it is."""
    import cellclass_tf

    return f"Written: {cellclass_tf.report(predictions, **options)}"


def restore(folder: str, file: str | None = None) -> str:
    """Lists the files that were set aside, or brings one back; returns their names."""
    import cellclass_tf

    found = cellclass_tf.restore(folder, file)
    if file is None:
        summary = f"{len(found)} files are set aside. `--file` brings one of them back."
    else:
        summary = f"{len(found)} files were brought back."
    return "\n".join([*map(one_line, found), summary])
