"""Trains the classifier of cellpose's features on the training fields of a dataset."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np

from cellclass_tf.core.encoder_weights import EncoderWeights
from cellclass_tf.core.micrograph import pixel_size_ratio
from cellclass_tf.core.model_metadata import CellposeFeaturesRecord
from cellclass_tf.maskrcnn import config, sampling
from cellclass_tf.maskrcnn.cellpose_features import classifier, pooling
from cellclass_tf.maskrcnn.cellpose_features.encoder import Encoder
from cellclass_tf.maskrcnn.input import reading
from cellclass_tf.messages import logger, progress_bar

# Enough for a linear classifier; more would only take time.
_MOST_FIELDS = 100


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained classifier of cellpose's features.

    Attributes:
      encoder: the encoder.
      linear: the classifier.
      record: what cellclass.json says of both.
    """

    encoder: Encoder
    linear: classifier.LinearClassifier
    record: CellposeFeaturesRecord


def train(
    weights: EncoderWeights,
    task: config.CellMaskRCNNTask,
    fields: Iterable[reading.Field],
) -> Trained | None:
    """Fits the classifier on the annotated cells of known type.

    Args:
      weights: weights of cellpose's encoder.
      task: parameters of the training run.
      fields: training fields, of which the first 100 are used.

    Returns:
      The classifier; None if a type has no cells in these fields.
    """
    encoder = Encoder(weights.tensors)
    scale = weights.diameter_px / task.cell_diameter_px
    names = task.type_names
    kept: list[list[np.ndarray]] = [[] for _ in names]
    rng = np.random.default_rng(task.train_data.seed)
    sample = sampling.TypeSample(len(names), sampling.MOST_CELLS, rng)
    chosen = itertools.islice(fields, _MOST_FIELDS)
    for field in progress_bar(chosen, "cellpose features"):
        known = field.cells.type_ids > 0
        if not known.any():
            continue
        ratio = pixel_size_ratio(field.pixel_size_um, task.pixel_size_um)
        found = pooling.features_of(
            encoder.encode,
            field.image,
            field.cells.labels,
            scale=scale * ratio,
            grayscale=task.grayscale,
        )
        for index in np.flatnonzero(known & np.isfinite(found).all(axis=1)):
            kind = int(field.cells.type_ids[index]) - 1
            place = sample.place_for(kind)
            if place is not None:
                kept[kind][place : place + 1] = [found[index].copy()]
    counts = [len(cells) for cells in kept]
    if not all(counts):
        logger.warning(
            "The features of cellpose's network are not used: the training fields have no "
            "cells of type %s.",
            names[counts.index(0)],
        )
        return None
    ids = np.repeat(np.arange(len(names)), counts)
    fitted = classifier.fit(np.concatenate(kept), ids, len(names))
    record = CellposeFeaturesRecord(scale, weights.sha256, len(ids))
    return Trained(encoder, fitted, record)
