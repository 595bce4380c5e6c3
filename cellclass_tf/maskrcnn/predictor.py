"""Finds and names the cells of a field of any size, with TensorFlow alone."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
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
from cellclass_tf.maskrcnn import postprocessing
from cellclass_tf.maskrcnn.cell_namer import combining, crops
from cellclass_tf.maskrcnn.familiarity import (
    FAMILIARITY_FILE,
    Familiarity,
    Judgement,
    Look,
)
from cellclass_tf.maskrcnn.tiled_network import TiledNetwork
from cellclass_tf.storage import atomic, digests

_CROPS_A_CALL = 256
# To name cells in given outlines: beyond the quarter turns nothing was gained.
_VIEWS_TO_NAME = 4
# Beyond it a pixel size is a mistake of units, and the scaled field would fill memory.
_LARGEST_RATIO = 8


class Predictor:
    """A trained model, ready for merged images.

    Attributes:
      metadata: what the model was trained on; from cellclass.json beside the SavedModel.
      type_names: names of the cell types, in class order.
      fingerprint: SHA-256 of the SavedModel's files.
      familiarity: what its training cells look like; None if that was not kept.
    """

    familiarity: Familiarity | None = None

    def __init__(
        self,
        serve: Callable[..., Mapping[str, Any]],
        metadata: ModelMetadata,
        fingerprint: str,
        name_cells: Callable[..., Mapping[str, Any]] | None = None,
        name_crops: Callable[..., Mapping[str, Any]] | None = None,
    ) -> None:
        self._network = TiledNetwork(
            serve,
            name_cells,
            tile_px=metadata.tile_px,
            model_diameter_px=metadata.model_diameter_px,
            types=len(metadata.type_names),
        )
        self._can_name = name_cells is not None
        self._name_crops = name_crops
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
          InputError: if the folder holds no such model.
        """
        path = pathlib.Path(path)
        # An export that was killed may have left the model half replaced.
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
        # Models of earlier versions do not have it.
        name_cells = model.signatures.get("name")
        name_crops = model.signatures.get("name_crops")
        if metadata.namer is not None and name_crops is None:
            raise InputError(
                f"{path}: {METADATA_FILE} tells of a namer, which the network lacks. The "
                "two are not of one export: export the model again."
            )
        fingerprint = digests.sha256_of_tree(path)
        predictor = cls(serve, metadata, fingerprint, name_cells, name_crops)
        # The signature's variables live only as long as the model that owns them.
        predictor._model = model
        predictor._path = path
        known = path / FAMILIARITY_FILE
        if known.exists():
            predictor.familiarity = Familiarity.read(known)
        return predictor

    def __reduce__(self) -> tuple:
        """A network does not travel: the process that gets this loads its own."""
        if self._path is None:
            raise TypeError(
                "Only a predictor that was loaded from a folder is pickled."
            )
        return _load_once, (self._path.absolute(), self.fingerprint)

    def predict(
        self,
        image: np.ndarray,
        *,
        pixel_size_um: float | None = None,
        score_threshold: float | None = None,
    ) -> Cells:
        """Outlines and names the cells of one field.

        Args:
          image: (H, W, 3) uint8 merged image of any size: 0, cytoplasm, nuclei.
          pixel_size_um: of the image. Where this and the training images' are known,
            cells are shown to the network at the size that it learned; otherwise the
            image is taken to be at the training images' scale.
          score_threshold: cells of a lower score are left out; None for `score_threshold`
            of the model.

        Returns:
          The cells; one type a cell, the most probable.

        Raises:
          InputError: if the image has another shape or type, or lacks the nuclei that
            the model was trained with.
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
        cells = self.with_namer(image, cells, pixel_size_um=pixel_size_um)
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
        """Names cells that somebody, or another program, outlined.

        Args:
          image: (H, W, 3) uint8 merged image of any size: 0, cytoplasm, nuclei.
          labels: (H, W) of whole numbers, one a cell; 0 is background.
          sure: (N,) in [0, 1], how sure that program is of each cell, if it tells.
          pixel_size_um: as in `predict`.
          score_threshold: cells of a lower score are left out; None for that of
            `measured`.
          measured: of such outlines on held-out fields, of `metadata.naming`; None for
            what was measured in the outlines of the dataset.

        Returns:
          The cells with the outlines as they are, numbered 1 to N in their order; the
          score of each is how sure the network is that there is a cell of any type; with
          `sure`, the geometric mean of both.

        Raises:
          InputError: as `predict`, and if the labels are of another size, or the model
            was exported by a version that could not name outlines.
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
        """Names all cells in given outlines, with the networks' own probabilities."""
        cells = self.name_by_detector(
            image, labels, sure=sure, pixel_size_um=pixel_size_um
        )
        return self.with_namer(image, cells, pixel_size_um=pixel_size_um)

    def name_by_detector(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        *,
        sure: np.ndarray | None = None,
        pixel_size_um: float | None = None,
    ) -> Cells:
        """The same without a namer, whether the model has one or not."""
        self._check(image)
        labels = np.asarray(labels)
        is_whole = labels.dtype.kind in "iu" and labels.min(initial=0) >= 0
        if labels.shape != image.shape[:2] or not is_whole:
            raise InputError(
                f"Expected labels of whole numbers from 0 on, with {image.shape[:2]} px "
                f"like the image; got {labels.shape} of {labels.dtype}. Outlines have to "
                "be of this very image, neither cropped nor resized."
            )
        self.check_can_name()
        cells = Cells.from_labels(labels, self.type_names, UNKNOWN)
        scale = self.scale_for(pixel_size_um)
        views = min(self.metadata.views, _VIEWS_TO_NAME)
        found = self._network.types_at(
            image, cells.boxes_yxyx, scale=scale, views=views
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

    def with_namer(
        self, image: np.ndarray, cells: Cells, *, pixel_size_um: float | None = None
    ) -> Cells:
        """Names cells anew as the model's metadata say: by the namer, or with its help.

        Args:
          image: (H, W, 3) uint8 merged image.
          cells: with the detector's own probabilities.
          pixel_size_um: as in `predict`.

        Returns:
          The cells with their new types and probabilities, before calibration; as they
          are if the model has no namer, or the detector alone does better.
        """
        namer = self.metadata.namer
        if namer is None or namer.named_by == BY_DETECTOR:
            return cells
        probabilities = combining.combine(
            cells.probabilities,
            self.namer_probabilities(image, cells.labels, pixel_size_um=pixel_size_um),
            namer.named_by,
        )
        ids = (probabilities.argmax(axis=1) + 1).astype(np.int32)
        return dataclasses.replace(cells, type_ids=ids, probabilities=probabilities)

    def namer_probabilities(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        *,
        pixel_size_um: float | None = None,
    ) -> np.ndarray:
        """Returns what the namer alone says of cells, (N, K) float32.

        Args:
          image: (H, W, 3) uint8 merged image.
          labels: (H, W) of whole numbers; 0 is background.
          pixel_size_um: as in `predict`.

        Raises:
          ValueError: if the model has no namer.
        """
        namer = self.metadata.namer
        if namer is None or self._name_crops is None:
            raise ValueError("The model has no namer.")
        cut = crops.crops_of(
            image,
            labels,
            zoom=namer.scale * self._ratio_of(pixel_size_um),
            grayscale=self.metadata.grayscale,
        )
        parts = [np.zeros((0, len(self.type_names)), np.float32)]
        for first in range(0, len(cut), _CROPS_A_CALL):
            found = self._name_crops(crops=cut[first : first + _CROPS_A_CALL])
            parts.append(found["probabilities"].numpy())
        return np.concatenate(parts)

    def judge(
        self, image: np.ndarray, cells: Cells, *, pixel_size_um: float | None = None
    ) -> Judgement | None:
        """Says whether a field resembles the fields that the model was trained on.

        Args:
          image: as `predict` got it.
          cells: as `predict` or `name` gave them.
          pixel_size_um: as in `predict`.

        Returns:
          The comparison; None if the model was exported without its dataset, or by a
          version that did not compare.
        """
        if self.familiarity is None or cells.features is None:
            return None
        if cells.features.shape[1] != len(self.familiarity.mean):
            return None
        scale = self.scale_for(pixel_size_um)
        return self.familiarity.judge(Look.of(image, cells, scale))

    def check_can_name(self) -> None:
        """Raises InputError if the model was exported by a version that could not name."""
        if not self._can_name:
            raise InputError(
                "The model was exported by a version of cellclass_tf that could not name "
                "outlines of other programs. Export it again."
            )

    def _check(self, image: np.ndarray) -> None:
        check_merged(image)
        if not self.metadata.grayscale and _has_no_nuclei(image):
            raise InputError(
                "The image has no nuclei (its blue channel is all 0), and the model was "
                "trained with them. Convert the field with --nuclei=..., or train a "
                "model with --params_override=task.grayscale=true."
            )

    @property
    def score_threshold(self) -> float:
        """The score from which on held-out fields say that there is a cell."""
        return self.metadata.score_threshold

    def scale_for(self, pixel_size_um: float | None) -> float:
        """Network pixels per image pixel, for images of a pixel size.

        Raises:
          InputError: if the size is far from that of the training images.
        """
        return self.metadata.scale * self._ratio_of(pixel_size_um)

    def _ratio_of(self, pixel_size_um: float | None) -> float:
        """Returns an image's pixel size over that of the training images, or 1."""
        ratio, trained = (
            self.metadata.ratio_of(pixel_size_um),
            self.metadata.pixel_size_um,
        )
        if not 1 / _LARGEST_RATIO <= ratio <= _LARGEST_RATIO:
            raise InputError(
                f"A pixel size of {pixel_size_um} µm, against {trained} µm in training, "
                f"is more than {_LARGEST_RATIO} times another. Is the unit µm?"
            )
        return ratio

    def detect(
        self, image: np.ndarray, *, scale: float, score_threshold: float
    ) -> postprocessing.Detections:
        """What the network finds in a field, in all views of it, before cells are cut out.

        Args:
          image: (H, W, 3) uint8 merged image.
          scale: network pixels per image pixel; see `scale_for`.
          score_threshold: what has a lower score is left out.
        """
        return self._network.detect(
            image,
            scale=scale,
            score_threshold=score_threshold,
            views=self.metadata.views,
        )


@functools.lru_cache(maxsize=1)
def _load_once(path: pathlib.Path, fingerprint: str) -> Predictor:
    """Loads a model once a process, however often it comes by."""
    predictor = Predictor.load(path)
    if predictor.fingerprint != fingerprint:
        raise InputError(f"{path}: the model has changed while it was in use.")
    return predictor


def _at_temperature(cells: Cells, temperature: float) -> Cells:
    probabilities = postprocessing.at_temperature(cells.probabilities, temperature)
    return dataclasses.replace(cells, probabilities=probabilities)


def _read_metadata(path: pathlib.Path) -> ModelMetadata:
    file = path / METADATA_FILE
    if not file.exists():
        raise InputError(
            f"{file} does not exist: {path} is no exported model. Make one with "
            "`python -m experiments.export`."
        )
    return ModelMetadata.read(file)


def _check_fits(path: pathlib.Path, serve: Any, metadata: ModelMetadata) -> None:
    """Raises InputError if a network is not the one that its metadata describe."""
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
                f"{path}: {METADATA_FILE} tells of tiles of {side} px and {count} cell "
                f"types, so {name} should be {shape}; the network has "
                f"{None if there is None else there.as_list()}. The two are not of one "
                "export: export the model again."
            )


def _has_no_nuclei(image: np.ndarray) -> bool:
    """Whether there is cytoplasm and no grain of blue; a black field is just empty."""
    return bool(image[..., 1].any()) and not image[..., 2].any()
