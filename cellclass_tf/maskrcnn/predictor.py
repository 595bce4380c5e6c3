"""Outlines and classifies the cells of a field of any size, with TensorFlow alone."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from cellclass_tf.core.cells import UNKNOWN, Cells
from cellclass_tf.core.model_metadata import (
    BY_DETECTOR,
    METADATA_FILE,
    OF_DATASET,
    ModelMetadata,
    NamingRecord,
)
from cellclass_tf.core.study import check_merged
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import classifiers as other_classifiers
from cellclass_tf.maskrcnn import combining, postprocessing
from cellclass_tf.maskrcnn.familiarity import (
    FAMILIARITY_FILE,
    Familiarity,
    Judgement,
    Look,
)
from cellclass_tf.maskrcnn.tiled_network import TiledNetwork
from cellclass_tf.storage import atomic, digests

# Maximum number of views to classify cells in given outlines; more did not improve the result.
_VIEWS_TO_NAME = 4
# A larger ratio of pixel sizes is an error of units, and the resized field would fill memory.
_LARGEST_RATIO = 8


class Predictor:
    """A trained model that predicts cells in merged images.

    Attributes:
      metadata: content of cellclass.json beside the SavedModel: how the model was trained
        and calibrated.
      type_names: names of the cell types, in class order.
      fingerprint: SHA-256 of the SavedModel's files.
      familiarity: statistics of the training cells; None if the model has none.
    """

    familiarity: Familiarity | None = None

    def __init__(
        self,
        serve: Callable[..., Mapping[str, Any]],
        metadata: ModelMetadata,
        fingerprint: str,
        name_cells: Callable[..., Mapping[str, Any]] | None = None,
        classifiers: Mapping[str, other_classifiers.Classifier] = MappingProxyType({}),
    ) -> None:
        self._network = TiledNetwork(
            serve,
            name_cells,
            tile_px=metadata.tile_px,
            model_diameter_px=metadata.model_diameter_px,
            types=len(metadata.type_names),
        )
        self._can_name = name_cells is not None
        self._classifiers = classifiers
        self.metadata = metadata
        self.type_names = metadata.type_names
        self.fingerprint = fingerprint
        self._path: pathlib.Path | None = None
        # The loaded SavedModel, of which `serve` and the others are signatures.
        self._model: Any = None

    @classmethod
    def load(cls, path: str | os.PathLike) -> Predictor:
        """Loads a SavedModel written by `cellclass_tf.maskrcnn.export`.

        Raises:
          InputError: if the folder is not such a model.
        """
        path = pathlib.Path(path)
        # An interrupted export may have left the model half replaced.
        atomic.recover_folder(path)
        metadata = _read_metadata(path)
        import tensorflow as tf

        try:
            model = tf.saved_model.load(os.fspath(path))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise InputError(
                f"{path}: the SavedModel cannot be loaded ({error})."
            ) from error
        serve = model.signatures.get("serving_default")
        _check_fits(path, serve, metadata)
        # Models exported by earlier versions do not have these signatures.
        name_cells = model.signatures.get("name")
        classifiers = other_classifiers.of_model(path, model.signatures, metadata)
        fingerprint = digests.sha256_of_tree(path)
        predictor = cls(serve, metadata, fingerprint, name_cells, classifiers)
        # The variables of the signatures exist only as long as the loaded model.
        predictor._model = model
        predictor._path = path
        known = path / FAMILIARITY_FILE
        if known.exists():
            predictor.familiarity = Familiarity.read(known)
        return predictor

    def __reduce__(self) -> tuple:
        """Pickles the path only; the process that unpickles it loads the network itself."""
        if self._path is None:
            raise TypeError(
                "Only a predictor that was loaded from a folder can be pickled."
            )
        return _load_once, (self._path.absolute(), self.fingerprint)

    def predict(
        self,
        image: np.ndarray,
        *,
        pixel_size_um: float | None = None,
        score_threshold: float | None = None,
    ) -> Cells:
        """Outlines and classifies the cells of one field.

        Args:
          image: (H, W, 3) uint8 merged image of any size: 0, cytoplasm, nuclei.
          pixel_size_um: pixel size of the image. If it and that of the training images are
            known, the image is resized so that cells are as large as in training.
            Otherwise the image is taken to have the scale of the training images.
          score_threshold: cells with a lower score are left out; None for the model's own
            `score_threshold`.

        Returns:
          The cells. The type of a cell is the most probable one.

        Raises:
          InputError: if the image has another shape or type, or has no nuclei although the
            model was trained with nuclei.
        """
        self._check(image)
        if score_threshold is None:
            score_threshold = self.score_threshold
        detections = self.detect(
            image, scale=self.scale_for(pixel_size_um), score_threshold=score_threshold
        )
        cells = postprocessing.cells_from_detections(
            detections,
            image.shape[:2],
            self.type_names,
            mask_threshold=self.metadata.mask_threshold,
        )
        cells = self.with_all_classifiers(image, cells, pixel_size_um=pixel_size_um)
        return _at_temperature(cells, self.metadata.temperature)

    def name(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        *,
        sure: np.ndarray | None = None,
        pixel_size_um: float | None = None,
        score_threshold: float | None = None,
        measured: NamingRecord | None = None,
    ) -> Cells:
        """Classifies cells that were outlined by a person or another program.

        Args:
          image: (H, W, 3) uint8 merged image of any size: 0, cytoplasm, nuclei.
          labels: (H, W) label image; 0 is background.
          sure: (N,) in [0, 1], the other program's probability that each cell is a cell;
            None if it has none.
          pixel_size_um: as in `predict`.
          score_threshold: cells with a lower score are left out; None for that of
            `measured`.
          measured: calibration for such outlines, one of `metadata.naming`; None for the
            calibration for the outlines of the dataset.

        Returns:
          The cells with unchanged outlines, numbered 1 to N in the order of their labels.
          The score is the network's probability that there is a cell of any type; with
          `sure`, the geometric mean of both.

        Raises:
          InputError: as in `predict`, and if the labels have another size, or the model was
            exported by a version that could not classify cells in given outlines.
        """
        measured = measured or self.metadata.naming_of(OF_DATASET)
        cells = self.name_uncalibrated(
            image, labels, sure=sure, pixel_size_um=pixel_size_um
        )
        if score_threshold is None:
            score_threshold = measured.score_threshold if measured else 0.0
        cells = cells.kept(cells.scores >= score_threshold)
        temperature = measured.temperature if measured else self.metadata.temperature
        return _at_temperature(cells, temperature)

    def name_uncalibrated(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        *,
        sure: np.ndarray | None = None,
        pixel_size_um: float | None = None,
    ) -> Cells:
        """Classifies all cells in given outlines, without calibration."""
        cells = self.name_by_detector(
            image, labels, sure=sure, pixel_size_um=pixel_size_um
        )
        return self.with_all_classifiers(image, cells, pixel_size_um=pixel_size_um)

    def name_by_detector(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        *,
        sure: np.ndarray | None = None,
        pixel_size_um: float | None = None,
    ) -> Cells:
        """Classifies all cells in given outlines by the detector alone, uncalibrated."""
        self._check(image)
        labels = np.asarray(labels)
        is_whole = labels.dtype.kind in "iu" and labels.min(initial=0) >= 0
        if labels.shape != image.shape[:2] or not is_whole:
            raise InputError(
                f"Expected a label image of integers from 0, with the size of the image, "
                f"{image.shape[:2]} px; got {labels.shape} of {labels.dtype}. Use outlines "
                "of this image, neither cropped nor resized."
            )
        self.check_can_name()
        cells = Cells.from_labels(labels, self.type_names, UNKNOWN)
        scale = self.scale_for(pixel_size_um)
        found = self._network.types_at(
            image, cells.boxes_yxyx, scale=scale, views=self._views_to_name
        )
        scores, probabilities = found["scores"], found["probabilities"]
        if sure is not None:
            scores = np.sqrt(scores * sure).astype(np.float32)
        ids = (probabilities.argmax(axis=1) + 1).astype(np.int32)
        return dataclasses.replace(
            cells,
            type_ids=ids,
            scores=scores,
            probabilities=probabilities,
            features=found["features"],
        )

    def with_all_classifiers(
        self, image: np.ndarray, cells: Cells, *, pixel_size_um: float | None = None
    ) -> Cells:
        """Classifies cells by all classifiers that the model's metadata name.

        Args:
          image: (H, W, 3) uint8 merged image.
          cells: cells with the detector's uncalibrated probabilities.
          pixel_size_um: as in `predict`.

        Returns:
          The cells with new types and uncalibrated probabilities; unchanged if the
          detector alone classifies.
        """
        named_by = self.metadata.named_by
        if named_by == (BY_DETECTOR,):
            return cells
        found = {
            name: self.probabilities_by(
                name, image, cells.labels, pixel_size_um=pixel_size_um
            )
            for name in named_by
            if name != BY_DETECTOR
        }
        found[BY_DETECTOR] = cells.probabilities
        probabilities = combining.combine(found, named_by)
        ids = (probabilities.argmax(axis=1) + 1).astype(np.int32)
        return dataclasses.replace(cells, type_ids=ids, probabilities=probabilities)

    def probabilities_by(
        self,
        classifier: str,
        image: np.ndarray,
        labels: np.ndarray,
        *,
        pixel_size_um: float | None = None,
    ) -> np.ndarray:
        """Returns the probabilities of the types by one classifier, (N, K) float32.

        The namer's are the geometric mean over as many orientations of a crop as the model
        has views, at most four. A cell that is too small for the classifier has a row of
        NaN.

        Args:
          classifier: 'namer' or 'cellpose_features'.
          image: (H, W, 3) uint8 merged image.
          labels: (H, W) label image; 0 is background.
          pixel_size_um: as in `predict`.

        Raises:
          ValueError: if the model has no such classifier.
        """
        if classifier not in self._classifiers:
            raise ValueError(f"The model has no {classifier}.")
        if not labels.any():
            return np.zeros((0, len(self.type_names)), np.float32)
        return self._classifiers[classifier].probabilities_of(
            image,
            labels,
            ratio=self._ratio_of(pixel_size_um),
            views=self._views_to_name,
        )

    def judge(
        self, image: np.ndarray, cells: Cells, *, pixel_size_um: float | None = None
    ) -> Judgement | None:
        """Compares a field with the fields that the model was trained on.

        Args:
          image: the image that was given to `predict`.
          cells: the cells that `predict` or `name` returned.
          pixel_size_um: as in `predict`.

        Returns:
          The comparison; None if the model was exported without its dataset, or by a
          version without such statistics.
        """
        if self.familiarity is None or cells.features is None:
            return None
        width = self.familiarity.means.shape[1]
        features = cells.features if len(cells) else np.zeros((0, width), np.float32)
        if features.shape[1] != width:
            return None
        cells = dataclasses.replace(cells, features=features)
        scale = self.scale_for(pixel_size_um)
        grayscale = self.metadata.grayscale
        return self.familiarity.judge(Look.of(image, cells, scale, grayscale=grayscale))

    def check_can_name(self) -> None:
        """Raises InputError if the model cannot classify cells in given outlines."""
        if not self._can_name:
            raise InputError(
                "The model was exported by a version of cellclass_tf that could not "
                "classify cells in given outlines. Export it again."
            )

    def _check(self, image: np.ndarray) -> None:
        check_merged(image)
        if not self.metadata.grayscale and _has_no_nuclei(image):
            raise InputError(
                "The image has no nuclei (its blue channel is all 0), but the model was "
                "trained with nuclei. Convert the field with --nuclei=..., or train a "
                "model with --params_override=task.grayscale=true."
            )

    @property
    def _views_to_name(self) -> int:
        return min(self.metadata.views, _VIEWS_TO_NAME)

    @property
    def score_threshold(self) -> float:
        """The score threshold that was fitted on held-out fields."""
        return self.metadata.score_threshold

    def scale_for(self, pixel_size_um: float | None) -> float:
        """Returns the number of network pixels per image pixel, for a pixel size.

        Raises:
          InputError: if the pixel size is far from that of the training images.
        """
        return self.metadata.scale * self._ratio_of(pixel_size_um)

    def _ratio_of(self, pixel_size_um: float | None) -> float:
        """Returns the ratio of an image's pixel size to that of training; 1 if unknown."""
        ratio, trained = (
            self.metadata.ratio_of(pixel_size_um),
            self.metadata.pixel_size_um,
        )
        if not 1 / _LARGEST_RATIO <= ratio <= _LARGEST_RATIO:
            raise InputError(
                f"The pixel size of {pixel_size_um} µm differs from that of the training "
                f"images, {trained} µm, by a factor of more than {_LARGEST_RATIO}. Check "
                "that the unit is µm."
            )
        return ratio

    def detect(
        self, image: np.ndarray, *, scale: float, score_threshold: float
    ) -> postprocessing.Detections:
        """Returns the detections in a field, merged over its views, which may overlap.

        Args:
          image: (H, W, 3) uint8 merged image.
          scale: network pixels per image pixel; see `scale_for`.
          score_threshold: detections with a lower score are left out.
        """
        return self._network.detect(
            image,
            scale=scale,
            score_threshold=score_threshold,
            views=self.metadata.views,
        )


@functools.lru_cache(maxsize=1)
def _load_once(path: pathlib.Path, fingerprint: str) -> Predictor:
    """Loads a model once per process, however often it is unpickled."""
    predictor = Predictor.load(path)
    if predictor.fingerprint != fingerprint:
        raise InputError(
            f"{path}: the model was changed while it was in use. Run the command again."
        )
    return predictor


def _at_temperature(cells: Cells, temperature: float) -> Cells:
    probabilities = postprocessing.at_temperature(cells.probabilities, temperature)
    return dataclasses.replace(cells, probabilities=probabilities)


def _read_metadata(path: pathlib.Path) -> ModelMetadata:
    file = path / METADATA_FILE
    if not file.exists():
        raise InputError(
            f"{file} does not exist: {path} is not an exported model. Export one with "
            "`cellclass export-model`."
        )
    return ModelMetadata.read(file)


def _check_fits(path: pathlib.Path, serve: Any, metadata: ModelMetadata) -> None:
    """Raises InputError if a network does not have the shapes in its metadata."""
    side, count = metadata.tile_px, len(metadata.type_names)
    wanted = {"images": [None, side, side, 3]}
    wanted["detection_probabilities"] = [None, None, count]
    found = {}
    if serve is not None:
        of_network = serve.structured_input_signature[1] | serve.structured_outputs
        found = {name: spec.shape for name, spec in of_network.items()}
    for name, shape in wanted.items():
        there = found.get(name)
        if there is None or not there.is_compatible_with(shape):
            raise InputError(
                f"{path}: according to {METADATA_FILE}, tiles are {side} px wide and there "
                f"are {count} cell types, so the shape of {name} should be {shape}; the "
                f"network has {None if there is None else there.as_list()}. The files are "
                "not from the same export. Export the model again."
            )


def _has_no_nuclei(image: np.ndarray) -> bool:
    """Returns whether there is cytoplasm but no nuclei; an all-black field is just empty."""
    return bool(image[..., 1].any()) and not image[..., 2].any()
