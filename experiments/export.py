"""Exports one or several trained checkpoints to a SavedModel.

python -m experiments.export --experiment=cellclass_maskrcnn_small \
  --checkpoint=MODEL_DIR --output=DIR

`cellclass export-model` does the same, with --training instead of --checkpoint.
"""

import sys

from absl import app, flags

import cellclass_tf as cc
from cellclass_tf import process_state
from cellclass_tf.cli import signatures
from cellclass_tf.errors import InputError

_OPTIONS = ("data_dir", "outlines", "weights", "diameter", "views")


def main(_: list[str]) -> int:
    """Exports the training runs that the flags name."""
    values = flags.FLAGS
    try:
        options = {name: values[name].value for name in _OPTIONS}
        exported = cc.export_model(
            values.checkpoint,
            values.output,
            calibrate=not values["no-calibration"].value,
            **options,
        )
        print(exported)
    except InputError as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    return 0


def define_flags() -> None:
    """Defines flags for the arguments of `cc.export_model`, and those of earlier versions."""
    for flag in signatures.flags_of(cc.export_model, names=("output", *_OPTIONS)):
        flag.define(flags.FLAGS)
    flags.DEFINE_string(
        "experiment", None, "Ignored; the experiment is recorded in the training run."
    )
    flags.DEFINE_list(
        "checkpoint", None, "Folders of training runs, or checkpoints in them."
    )
    flags.DEFINE_bool(
        "no-calibration", False, "Export without the dataset and without calibration."
    )


if __name__ == "__main__":
    process_state.begin_program()
    define_flags()
    flags.mark_flags_as_required(["checkpoint", "output"])
    app.run(main)
