"""The parts of Model Garden's `official.vision` that this package uses.

Only this module imports them, because `official.vision` changes matplotlib's backend when it
is imported, and a notebook would then no longer show figures.
"""

from cellclass_tf import process_state

with process_state.keep_matplotlib_backend():
    from official.vision.configs import backbones as backbone_configs
    from official.vision.configs import common as common_configs
    from official.vision.configs import decoders as decoder_configs
    from official.vision.configs import maskrcnn as configs
    from official.vision.modeling import backbones, factory, maskrcnn_model
    from official.vision.modeling.layers import nn_blocks, roi_generator
    from official.vision.ops import anchor, box_ops, preprocess_ops
    from official.vision.tasks import maskrcnn as tasks
    from official.vision.utils.object_detection import box_list

__all__ = [
    "anchor",
    "backbone_configs",
    "backbones",
    "box_list",
    "box_ops",
    "common_configs",
    "configs",
    "decoder_configs",
    "factory",
    "maskrcnn_model",
    "nn_blocks",
    "preprocess_ops",
    "roi_generator",
    "tasks",
]
