"""Cells by cellpose: named models, or weights of one's own."""

from __future__ import annotations

import contextlib
import functools
import http.client
import importlib.metadata
import logging
import os
import pathlib
import pickle
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cellclass_tf import files
from cellclass_tf.annotation import pickled_npy
from cellclass_tf.files import InputError
from cellclass_tf.study import check_merged

# Of the merged image, counted from 1 as cellpose does: cytoplasm green, nuclei blue.
CHANNELS = (2, 3)

_MODELS_WITH_SIZE = ("cyto3", "cyto2", "cyto", "nuclei")
_SIZE_KEYS = {"A", "smean", "ymean", "diam_mean"}
# Images are enlarged until a cell has the model's diameter. A smaller estimate comes
# from specks in a field without cells, and would enlarge it beyond any memory.
_MIN_ESTIMATE_PX = 6.0
_NETWORK_TIMEOUT_S = 30
# The two numbers that old weights lack; the network then keeps its defaults.
_OPTIONAL_WEIGHTS = {"diam_mean", "diam_labels"}


class CellposeAnnotator:
    """Finds cells with a cellpose 3 network.

    Stringer et al., "Cellpose: a generalist algorithm for cellular segmentation",
    Nature Methods 2021. Pickles are never run: weights and size models load as data.

    Attributes:
      name: 'cellpose:' and the model's name, or the name of the weights' file.
      weights_sha256: of the weights' file.
      fingerprint: hash of all that the labels depend on.
    """

    def __init__(
        self,
        model: str | os.PathLike = "cyto3",
        diameter_px: float | None = None,
        flow_threshold: float = 0.4,
        cellprob_threshold: float = 0.0,
        *,
        batch_size: int = 8,
    ):
        """Finds and checks the weights, and downloads those of a named model.

        Args:
          model: a name that cellpose knows, or a path to weights ('./cyto3' for a file
            that is called like a model).
          diameter_px: of a typical cell; None to estimate it for each image with the
            size model of a named model, or with size_NAME.npy (or NAME_size.npy)
            beside the weights NAME. Without a size model it is the mean diameter of
            the cells that the weights were trained on, as stored in them.
          flow_threshold: largest error of a cell's flows that is accepted; higher
            finds more cells, and more bad ones.
          cellprob_threshold: logit from which a pixel belongs to a cell; lower gives
            more and larger cells.
          batch_size: tiles of 224 px that go through the network together.

        Raises:
          InputError: if there are no such weights, they cannot be downloaded, are not
            for this network or are unsafe, or a number makes no sense.
        """
        if diameter_px is not None and not 0 < diameter_px < np.inf:
            raise InputError(
                f"Expected a cell diameter above 0 px, or none to estimate it; got "
                f"{diameter_px}."
            )
        models = _cellpose_models()
        self._diameter_px = diameter_px
        self._thresholds = {
            "flow_threshold": flow_threshold,
            "cellprob_threshold": cellprob_threshold,
        }
        self._batch_size = batch_size
        self._named = str(model) in known_models()
        self._weights = _find_weights(str(model), models)
        self._size_path = None
        if diameter_px is None:
            self._size_path = self._find_size_model(str(model), models)
        self._size = self._size_path and _read_size_model(self._size_path)
        self.name = f"cellpose:{model if self._named else self._weights.name}"
        self.weights_sha256 = files.sha256_of_file(self._weights)
        self.fingerprint = files.fingerprint(
            "cellpose",
            # The builtin diameter of a named model is not in its file.
            self.name if self._named else "",
            self.weights_sha256,
            self._size_path and files.sha256_of_file(self._size_path),
            importlib.metadata.version("cellpose"),
            importlib.metadata.version("torch"),
            diameter_px,
            self._thresholds,
        )

    def annotate(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """Finds the cells in a merged image.

        Args:
          image: (H, W, 3) uint8; green is cytoplasm and blue nuclei.

        Returns:
          (H, W) int32 labels, 0 background and 1..N the cells, and the cell diameter in
          pixels that was used.

        Raises:
          InputError: if the image is something else.
        """
        check_merged(image)
        with warnings.catch_warnings():
            # An empty channel, or a field without cells, is no reason to warn of means.
            warnings.simplefilter("ignore")
            diameter_px = self._diameter_of(image)
            labels = self._eval(
                self._network, image, diameter=diameter_px, **self._thresholds
            )
        return labels.reshape(image.shape[:2]).astype(np.int32), diameter_px

    def __getstate__(self) -> dict[str, Any]:
        # The network is large; a process that gets this loads its own when it needs it.
        return {k: v for k, v in self.__dict__.items() if k != "_network"}

    @functools.cached_property
    def _network(self) -> Any:
        # cellpose takes a named model's diameter from its name, hence the two ways.
        key = "model_type" if self._named else "pretrained_model"
        model = self.name.removeprefix("cellpose:") if self._named else self._weights
        return _cellpose_models().CellposeModel(gpu=True, **{key: str(model)})

    def _eval(self, model: Any, image: np.ndarray, **options: Any) -> Any:
        return model.eval(
            image,
            channels=list(CHANNELS),
            channel_axis=2,
            batch_size=self._batch_size,
            **options,
        )[0]

    def _diameter_of(self, image: np.ndarray) -> float:
        if self._diameter_px is not None:
            return float(self._diameter_px)
        if self._size is None:
            return float(self._network.diam_labels)
        size_model = _cellpose_models().SizeModel(self._network)
        size_model.params = self._size
        size_model.diam_mean = float(self._size["diam_mean"])
        estimate = self._eval(size_model, image)
        return float(estimate) if estimate >= _MIN_ESTIMATE_PX else size_model.diam_mean

    def _find_size_model(self, model: str, models: Any) -> pathlib.Path | None:
        if self._named:
            if model not in _MODELS_WITH_SIZE:
                return None
            return _fetch(models.size_model_path, model, _read_size_model)
        name = self._weights.name
        for beside in (f"size_{name}.npy", f"{name}_size.npy"):
            if self._weights.with_name(beside).is_file():
                return self._weights.with_name(beside)
        return None


def known_models() -> list[str]:
    """Names that cellpose knows, with those added in its own window, sorted."""
    models = _cellpose_models()
    names = {*models.MODEL_NAMES, *models.get_user_models()}
    # Transformers need another network, and packages that cellpose does not bring.
    return sorted(name for name in names if name and "transformer" not in name)


def _cellpose_models() -> Any:
    try:
        version = importlib.metadata.version("cellpose")
        from cellpose import models
    except ImportError as error:
        raise InputError(
            f"cellpose cannot be loaded ({error}). Install it with `pip install "
            "'cellpose<4'`, or use --annotator=watershed."
        ) from error
    if int(version.split(".")[0]) >= 4:
        raise InputError(
            f"cellpose {version} is installed, which has another network and ignores "
            "these settings. Install `pip install 'cellpose<4'`."
        )
    logger = logging.getLogger("cellpose")
    if logger.level == logging.NOTSET:
        # What it warns of, such as a field without cells, is told by the callers.
        logger.setLevel(logging.ERROR)
    return models


def _find_weights(model: str, models: Any) -> pathlib.Path:
    names = known_models()
    if model in names:
        return _fetch(models.model_path, model, _check_weights)
    path = pathlib.Path(model)
    if not path.is_file():
        raise InputError(
            f"{model}: neither a file with cellpose weights nor a model that cellpose "
            f"knows. Known are {', '.join(names)}."
        )
    _check_weights(path)
    return path


def _fetch(
    path_of: Callable[[str], str], name: str, check: Callable[[pathlib.Path], Any]
) -> pathlib.Path:
    """Returns a file of a named model, downloaded by cellpose where it is not there."""
    folder = pathlib.Path(_cellpose_models().MODEL_DIR)
    before = set(folder.glob("*"))
    try:
        with _restored_network_settings():
            path = pathlib.Path(path_of(name))
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"The files of the cellpose model {name!r} are not in {folder} and cannot "
            f"be downloaded ({error}). Give weights that you have with --model=PATH, "
            "or use --annotator=watershed, which needs none."
        ) from error
    try:
        check(path)
    except InputError:
        # A download that broke off looks complete to cellpose, and would stay for good.
        if path not in before:
            path.unlink(missing_ok=True)
        raise
    return path


@contextlib.contextmanager
def _restored_network_settings() -> Iterator[None]:
    # cellpose turns certificate checks off for the whole process when it downloads,
    # and would wait for a silent server without end.
    context, timeout = ssl._create_default_https_context, socket.getdefaulttimeout()
    socket.setdefaulttimeout(_NETWORK_TIMEOUT_S)
    try:
        yield
    finally:
        ssl._create_default_https_context = context
        socket.setdefaulttimeout(timeout)


def _check_weights(path: pathlib.Path) -> None:
    import torch

    try:
        # cellpose loads in the same safe way, but its network keeps random numbers
        # where names do not fit, and does not say so.
        weights = torch.load(path, map_location="cpu", weights_only=True)
        found = {name: tuple(value.shape) for name, value in weights.items()}
    except (
        pickle.UnpicklingError,
        AttributeError,
        EOFError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path}: expected cellpose weights, a file of tensors only; it was "
            f"refused and nothing in it was run ({reason}). Get it again "
            "from its source."
        ) from error
    wanted = _weight_shapes()
    strange = [
        name
        for name, shape in wanted.items()
        if found.get(name, None if name not in _OPTIONAL_WEIGHTS else shape) != shape
    ]
    if strange:
        raise InputError(
            f"{path}: not weights of the cellpose 3 U-net with two channels; "
            f"{strange[0]} should be {wanted[strange[0]]} and is "
            f"{found.get(strange[0], 'missing')}. Weights of cellpose 4 do not fit."
        )


@functools.cache
def _weight_shapes() -> dict[str, tuple[int, ...]]:
    from cellpose import resnet_torch

    network = resnet_torch.CPnet([2, 32, 64, 128, 256], 3, sz=3)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _read_size_model(path: pathlib.Path) -> dict[str, Any]:
    parameters = pickled_npy.load(path)
    if not isinstance(parameters, dict) or not _SIZE_KEYS <= set(parameters):
        raise InputError(
            f"{path}: expected a cellpose size model, a dictionary with "
            f"{', '.join(sorted(_SIZE_KEYS))}. Give the diameter, or remove the file."
        )
    return parameters
