"""Saves a copy of an exported model that returns its detections as one tensor.

Some programs expect a network to be a function of one image with ordered outputs. The
outputs of a SavedModel with several outputs have no order.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellclass_tf.core.model_metadata import ModelMetadata
from cellclass_tf.maskrcnn.resizing import resized
from cellclass_tf.maskrcnn.tiled_network import cut_tile

if TYPE_CHECKING:
    import tensorflow as tf

INPUT, OUTPUT = "images", "detections"
# The outputs that are concatenated, in this order; each is (B, D) or (B, D, …).
_PARTS = ("boxes", "outer_boxes", "scores", "probabilities", "masks")
_SIDES = ("top", "left", "bottom", "right")


def columns(type_names: Sequence[str], mask_px: int) -> tuple[str, ...]:
    """Returns the names of the columns (the last axis) of the tensor.

    Args:
      type_names: names of the cell types, in class order.
      mask_px: width of a mask.
    """
    return (
        *_SIDES,
        *(f"mask_{side}" for side in _SIDES),
        "score",
        *(f"p_{name}" for name in type_names),
        *(f"mask_{y}_{x}" for y in range(mask_px) for x in range(mask_px)),
    )


def save(model: str | os.PathLike, output: str | os.PathLike) -> None:
    """Saves a copy of an exported model, with one more function.

    Its function `serve` takes `images` (B, S, S, 3) uint8 and returns `detections` (B, D, C)
    float32; `columns` names the last axis. D is the largest number of detections in a tile
    of the batch, and at least 1; unused rows are 0. The signature `serving_default` returns
    this tensor in addition to its other outputs, so `maskrcnn.predictor` can also read the
    copy.

    Args:
      model: folder of the model; see `export.export`.
      output: folder of the copy, which must not exist or be empty.
    """
    import tensorflow as tf

    model, output = pathlib.Path(model), pathlib.Path(output)
    loaded = tf.saved_model.load(os.fspath(model))
    serve_all = loaded.signatures["serving_default"]
    (spec,) = serve_all.structured_input_signature[1].values()

    def together(found: Mapping[str, tf.Tensor]) -> tf.Tensor:
        scores = found["detection_scores"]
        parts = {name: found[f"detection_{name}"] for name in _PARTS}
        parts["scores"] = scores[..., tf.newaxis]
        masks = parts["masks"]
        flat = tf.concat([tf.shape(masks)[:2], [masks.shape[2] * masks.shape[3]]], 0)
        parts["masks"] = tf.reshape(masks, flat)
        rows = tf.concat([parts[name] for name in _PARTS], axis=-1)
        is_found = tf.sequence_mask(found["num_detections"], tf.shape(scores)[1])
        rows = tf.where(is_found[..., tf.newaxis], rows, 0.0)
        # At least one row, because some programs do not accept an empty tensor.
        missing = tf.maximum(1 - tf.shape(rows)[1], 0)
        return tf.pad(rows, [[0, 0], [0, missing], [0, 0]])

    module = tf.Module()
    # The variables exist only as long as the loaded model.
    module.original = loaded
    images = tf.TensorSpec(spec.shape, spec.dtype, name=INPUT)
    module.serve = tf.function(
        lambda images: {OUTPUT: together(serve_all(images=images))},
        input_signature=[images],
    )

    def serve_both(images: tf.Tensor) -> dict[str, tf.Tensor]:
        found = serve_all(images=images)
        return {**found, OUTPUT: together(found)}

    signatures = dict(loaded.signatures)
    signatures["serving_default"] = tf.function(serve_both, input_signature=[images])
    tf.saved_model.save(module, os.fspath(output), signatures=signatures)
    # The metadata beside the SavedModel.
    for path in sorted(model.glob("*.json")):
        (output / path.name).write_bytes(path.read_bytes())


def run(model: str | os.PathLike, tile: np.ndarray) -> np.ndarray:
    """Returns the detections in one tile, (1, D, C) float32.

    Args:
      model: folder of a model that `save` wrote.
      tile: (1, S, S, 3) uint8.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(os.fspath(model))
    return loaded.serve(tf.constant(tile))[OUTPUT].numpy()


def mask_px_of(detections: np.ndarray, type_names: Sequence[str]) -> int:
    """Returns the width of the masks in a tensor of detections."""
    return round((detections.shape[-1] - len(columns(type_names, 0))) ** 0.5)


def tile_of(image: np.ndarray, metadata: ModelMetadata) -> np.ndarray:
    """Returns the central tile of a field, at the scale of the network's input.

    Args:
      image: (H, W, 3) uint8 merged image at the training images' scale.
      metadata: metadata of the model.

    Returns:
      (1, S, S, 3) uint8, padded with black if the field is smaller.
    """
    seen, side = resized(image, metadata.scale), metadata.tile_px
    corner = [max(0, length - side) // 2 for length in seen.shape[:2]]
    return cut_tile(seen, corner, side)[np.newaxis]
