"""Trains or evaluates an experiment: Model Garden's flags, and --study.

python -m experiments.train --experiment=cellclass_maskrcnn_small \
  --mode=train_and_eval --model_dir=DIR --study=STUDY
"""

import sys

from absl import app, flags
from official.common import flags as model_garden_flags

from cellclass_tf import process_state
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import hardware

_STUDY = flags.DEFINE_string(
    "study", None, "Folder of a study with a dataset; else simulated cultures."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where the study's dataset lies, if not in STUDY/tfds."
)
_VERSION = flags.DEFINE_string(
    "dataset_version", None, "Such as 2.1.0; else the newest."
)
_STEPS = flags.DEFINE_integer("steps", None, "Training steps; else the experiment's.")
_MINUTES = flags.DEFINE_float(
    "minutes",
    None,
    "That training may take, instead of --steps: these are timed first.",
)
_INIT = flags.DEFINE_string(
    "init",
    None,
    "Starting weights: simulated, random, imagenet, an .h5 file, a run or a checkpoint; "
    "else the experiment's.",
)
_HEADS = flags.DEFINE_integer(
    "heads_steps", None, "First so many steps for the heads alone; then all, slowly."
)
_SEED = flags.DEFINE_integer("seed", None, "Of crops and new weights; else 0.")
_NAMER = flags.DEFINE_bool(
    "namer",
    True,
    "Train a second network too, which names cells by crops around their nuclei.",
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    hardware.AUTO,
    [hardware.AUTO, *hardware.PRECISIONS],
    "In which the network computes while it trains; auto takes the fastest that the "
    "devices multiply in hardware. The same as runtime.mixed_precision_dtype.",
)


def main(_) -> int:
    """Trains with the parameters that flags and data give."""
    # TensorFlow loads only now, with the settings made below.
    import tfds_builders  # noqa: F401 - registers cell_types with TFDS.
    from cellclass_tf.maskrcnn import training

    try:
        settings = training.Settings.of_flags(flags.FLAGS)
        training.run(settings, flags.FLAGS.model_dir, flags.FLAGS.mode)
    except InputError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    process_state.begin_program()
    model_garden_flags.define_flags()
    flags.mark_flags_as_required(["experiment", "mode", "model_dir"])
    app.run(main)
