"""Trains or evaluates an experiment, with Model Garden's flags.

python -m experiments.train --experiment=cellclass_maskrcnn_small \
  --mode=train_and_eval --model_dir=DIR --study=STUDY

`cellclass train` does the same with fewer flags. This program also trains on simulated
cultures (without --study), and has Model Garden's flags for several workers and TPUs.
"""

import sys

from absl import app, flags
from official.common import flags as model_garden_flags

import cellclass_tf as cc
from cellclass_tf import process_state
from cellclass_tf.cli import signatures
from cellclass_tf.errors import InputError


def main(_: list[str]) -> int:
    """Trains with the parameters that follow from flags and data."""
    # TensorFlow is imported only now, after the settings of `begin_program`.
    import tfds_builders  # noqa: F401 - registers cell_types with TFDS.
    from cellclass_tf.maskrcnn import parameters, training

    try:
        settings = parameters.Settings.of_flags(flags.FLAGS)
        training.run(settings, flags.FLAGS.model_dir, flags.FLAGS.mode)
    except InputError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    return 0


def define_flags() -> None:
    """Defines Model Garden's flags, and the other arguments of `cc.train`."""
    model_garden_flags.define_flags()
    own = ("output", "experiment", "params_override")
    for flag in signatures.flags_of(cc.train, leave_out=own):
        flag.define(flags.FLAGS)


if __name__ == "__main__":
    process_state.begin_program()
    define_flags()
    flags.mark_flags_as_required(["experiment", "mode", "model_dir"])
    app.run(main)
