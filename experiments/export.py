"""Exports a trained checkpoint to a SavedModel.

python -m experiments.export --experiment=cellclass_maskrcnn_small \
  --checkpoint=MODEL_DIR --output=DIR
"""

import sys

from absl import app, flags

from cellclass_tf.files import InputError
from cellclass_tf.maskrcnn import export

_EXPERIMENT = flags.DEFINE_string("experiment", None, "The experiment trained.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Its model_dir, or a checkpoint.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the SavedModel.")


def main(_) -> int:
    """Exports what the flags name."""
    try:
        print(export.export(_EXPERIMENT.value, _CHECKPOINT.value, _OUTPUT.value))
    except InputError as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    flags.mark_flags_as_required(["experiment", "checkpoint", "output"])
    app.run(main)
