"""Writes a SavedModel without training, for tests that need a model."""

from cellclass_tf.core.model_metadata import METADATA_FILE
from tests.metadata import model_metadata


def save_model(folder, score=None):
    """Saves a model that finds one N2a cell of 24 px in every tile of 64 px.

    For given boxes, the score and the probability of N2a are the height of the box as a share
    of the tile's. The feature of a cell is the mean brightness of the tile.

    Args:
      folder: folder to write to.
      score: score of the cell; None for a score that rises with the tile's brightness.

    Returns:
      The folder.
    """
    import tensorflow as tf

    @tf.function(
        input_signature=[tf.TensorSpec([None, 64, 64, 3], tf.uint8, name="images")]
    )
    def serve(images):
        count = tf.shape(images)[0]
        light = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2, 3])[:, None]
        boxes = tf.tile([[[20.0, 20.0, 44.0, 44.0]]], [count, 1, 1])
        return {
            "num_detections": tf.ones([count], tf.int32),
            "detection_boxes": boxes,
            "detection_outer_boxes": boxes,
            "detection_scores": 0.5 + light / 512
            if score is None
            else 0 * light + score,
            "detection_probabilities": tf.tile([[[0.25, 0.75]]], [count, 1, 1]),
            "detection_masks": tf.ones([count, 1, 4, 4]),
            "detection_features": tf.stack([light, light], axis=-1),
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 64, 64, 3], tf.uint8, name="images"),
            tf.TensorSpec([None, None, 4], tf.float32, name="boxes"),
        ]
    )
    def name(images, boxes):
        heights = (boxes[..., 2] - boxes[..., 0]) / 64
        light = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2, 3])
        light = tf.tile(light[:, None], [1, tf.shape(boxes)[1]])
        return {
            "scores": heights,
            "probabilities": tf.stack([1 - heights, heights], axis=-1),
            "features": tf.stack([light, light], axis=-1),
        }

    module = tf.Module()
    module.serve, module.name_cells = serve, name
    signatures = {"serving_default": serve, "name": name}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    model_metadata().write(folder / METADATA_FILE)
    return folder
