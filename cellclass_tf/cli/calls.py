"""Commands that do more than call the public function of their name."""

from __future__ import annotations

import dataclasses
from typing import Any

from cellclass_tf import batch
from cellclass_tf.errors import FOR_TRAINING, InputError, one_line, require
from cellclass_tf.workflows import demo as demonstration

# What a flag is that nobody gave.
_UNSAID = (None, False, "left_out")


def import_(
    study: str | None,
    format: str,
    source: str,
    allow_gaps: bool,
    label_components: bool,
    crowds: str,
    group: str | None,
    overwrite_corrected: bool,
    predictions: str | None = None,
) -> Any:
    import cellclass_tf

    options = {
        "masks": {"allow_gaps": allow_gaps, "label_components": label_components},
        "coco": {"group": group, "crowds": crowds},
    }
    for of_format, named in options.items():
        given = [name for name, value in named.items() if value not in _UNSAID]
        if given and of_format != format:
            raise InputError(f"--{given[0]} is for --format={of_format}, not {format}.")
    is_check = format == "spotcheck"
    wanted, other = ("predictions", "study") if is_check else ("study", "predictions")
    if not (predictions if is_check else study) or (study if is_check else predictions):
        raise InputError(f"--format={format} needs --{wanted}, and no --{other}.")
    if is_check:
        if overwrite_corrected:
            raise InputError("--overwrite_corrected is for a study.")
        return cellclass_tf.import_spotcheck(predictions, source)
    function = getattr(cellclass_tf, f"import_{format}")
    outcome = function(
        study,
        source,
        overwrite_corrected=overwrite_corrected,
        **options.get(format, {}),
    )
    for line in _change_lines(outcome):
        print(line)
    return outcome


def _change_lines(outcome: batch.Outcome) -> list[str]:
    """A line for each field that was read: what changed, and what was resolved."""
    lines = []
    for name, result in sorted(outcome.done.items()):
        counts = [f"{n} {what}" for what, n in result["changes"].items() if n]
        lines.append(f"  {one_line(name)}: {', '.join(counts) or 'nothing'}")
        lines += [f"    {one_line(note)}" for note in result["notes"]]
    return lines


def export(
    study: str | None,
    predictions: str | None,
    format: str,
    output: str,
    segmentation: str,
    first: int | None,
) -> Any:
    import cellclass_tf

    if bool(study) == bool(predictions):
        raise InputError("Expected either --study or --predictions.")
    if first is not None and format != "cellpose":
        raise InputError(f"--first is for --format=cellpose, not {format}.")
    if segmentation != "rle" and not (study and format == "coco"):
        raise InputError("--segmentation is for --format=coco of a --study.")
    if study and format == "coco":
        return cellclass_tf.export_coco(study, output, segmentation=segmentation)
    if format == "cellpose":
        if not study:
            raise InputError("--format=cellpose is for correcting a --study.")
        return cellclass_tf.export_cellpose(study, output, first=first)
    return cellclass_tf.export_cells(study or predictions, output, format=format)


def dataset(study: str, **options: Any) -> batch.Outcome:
    require("cellclass dataset", "tensorflow_datasets")
    import tfds_builders

    prepared = tfds_builders.dataset(study, **options)
    print(prepared)
    return prepared.outcome


def train(study: str, output: str, experiment: str, **options: Any) -> str:
    require("cellclass train", *FOR_TRAINING)
    # Registers the study's dataset with TFDS.
    import tfds_builders  # noqa: F401
    from cellclass_tf.maskrcnn import training

    folder = training.train(experiment, output, study=study, **options)
    return (
        f"Trained: {folder}. `cellclass export-model --training={folder} --output=model` "
        "makes a model of it."
    )


def export_model(
    training: str,
    output: str,
    experiment: str,
    outlines: str | None,
    weights: str,
    diameter: float | None,
    **options: Any,
) -> str:
    require("cellclass export-model", *FOR_TRAINING)
    import tfds_builders  # noqa: F401
    from cellclass_tf.annotation.annotators import by_name
    from cellclass_tf.maskrcnn import export

    annotators = []
    if outlines:
        settings = by_name.Settings(weights, diameter)
        annotators.append(by_name.make_annotator(outlines, settings))
    runs = training.split(",")
    model = export.export(experiment, runs, output, annotators=annotators, **options)
    return (
        f"Written: {model}. `cellclass predict --model={model} --input=STUDY "
        "--cell_type=mixed --output=predictions` names cells with it."
    )


def check(study: str | None, dataset: str | None, data_dir: str | None) -> Any:
    if bool(study) == bool(dataset):
        raise InputError("Expected either --study or --dataset.")
    require("cellclass check", "tensorflow_datasets")
    # They load TensorFlow.
    import cellclass_tf
    import tfds_builders

    newest = dataset or tfds_builders.newest_dataset(study, data_dir)
    return cellclass_tf.check_dataset(newest)


@dataclasses.dataclass(frozen=True)
class _Told:
    """What a command found, in words, and whether nothing failed."""

    text: str
    passed: bool

    def __str__(self) -> str:
        return self.text


def evaluate(predictions: str, study: str) -> _Told:
    import cellclass_tf

    scores = cellclass_tf.evaluate(predictions, study)
    names = ("AP", "AP50", "AP75", "PQ", "F1", "type_accuracy", "balanced_accuracy")
    lines = [f"{name:<18}{_with_interval(scores, name)}" for name in names]
    told = ", ".join(f"{n} {kind}" for kind, n in scores["errors"].items())
    lines.append(
        f"{scores['images']} fields, {scores['cells_true']} true cells: {told}"
    )
    if scores["intervals_reason"]:
        lines.append(f"No intervals: {scores['intervals_reason']}.")
    failures = scores["failures"]
    lines += [f"left out: {one_line(why)}" for why in failures.values()]
    lines.append(f"All of it is in {predictions}/evaluation.json")
    return _Told("\n".join(lines), not failures)


def _with_interval(scores: dict[str, Any], name: str) -> str:
    ends = (scores["intervals"] or {}).get(name) or [None]
    shown = demonstration.format_score(scores[name])
    if None in ends:
        return shown
    return f"{shown}  ({ends[0]:.3f} to {ends[1]:.3f})"


def conditions(study: str) -> str:
    import cellclass_tf

    path = cellclass_tf.conditions(study)
    return (
        f"Written: {path}. Fill in the column condition, and replicate if dishes belong "
        "together; then `cellclass compare-conditions`."
    )


def report(predictions: str, **options: Any) -> str:
    import cellclass_tf

    return f"Written: {cellclass_tf.report(predictions, **options)}"


def restore(folder: str, file: str | None) -> str:
    import cellclass_tf

    found = cellclass_tf.restore(folder, file)
    told = f"{len(found)} files are kept." if file is None else "brought back."
    return "\n".join([*map(one_line, found), told])


def demo(**values: Any) -> str:
    return demonstration.summary(demonstration.demo(**values))
