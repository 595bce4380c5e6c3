"""Exports one or several trained checkpoints to a SavedModel.

python -m experiments.export --experiment=cellclass_maskrcnn_small \
  --checkpoint=MODEL_DIR --output=DIR
"""

import sys

from absl import app, flags

from cellclass_tf import process_state
from cellclass_tf.errors import InputError

_EXPERIMENT = flags.DEFINE_string("experiment", None, "The experiment trained.")
_CHECKPOINT = flags.DEFINE_list(
    "checkpoint",
    None,
    "Its model_dir, or a checkpoint; of several, with commas between them, the first "
    "outlines the cells and all name them.",
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the SavedModel.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where the dataset of the training is now, if it has moved."
)
_OUTLINES = flags.DEFINE_enum(
    "outlines",
    None,
    ["cellpose", "watershed"],
    "Measure, on held-out fields, how well cells are named in outlines of theirs too.",
)
_WEIGHTS = flags.DEFINE_string(
    "weights", "cyto3", "cellpose model by name, or path to weights."
)
_DIAMETER = flags.DEFINE_float("diameter", None, "Of a cell in px; else estimated.")
_VIEWS = flags.DEFINE_integer(
    "views",
    None,
    "Rotated and mirrored views of a field that are predicted and merged, 1 to 8: more are "
    "slower and more accurate; else as the training chose.",
)
_NO_CALIBRATION = flags.DEFINE_bool(
    "no-calibration",
    False,
    "Export without the dataset; scores and probabilities stay the network's own.",
)


def main(_) -> int:
    """Exports what the flags name."""
    # TensorFlow loads only now, with the settings made below.
    from cellclass_tf.annotation.annotators import by_name
    from cellclass_tf.maskrcnn import export

    try:
        annotators = []
        if _OUTLINES.value:
            settings = by_name.Settings(_WEIGHTS.value, _DIAMETER.value)
            annotators.append(by_name.make_annotator(_OUTLINES.value, settings))
        exported = export.export(
            _EXPERIMENT.value,
            _CHECKPOINT.value,
            _OUTPUT.value,
            data_dir=_DATA_DIR.value,
            calibrate=not _NO_CALIBRATION.value,
            annotators=annotators,
            views=_VIEWS.value,
        )
        print(exported)
    except InputError as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    process_state.begin_program()
    flags.mark_flags_as_required(["experiment", "checkpoint", "output"])
    app.run(main)
