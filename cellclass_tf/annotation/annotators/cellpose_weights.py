"""cellpose's weights: named ones, downloaded by cellpose, and files, checked."""

from __future__ import annotations

import contextlib
import functools
import http.client
import importlib.metadata
import logging
import pathlib
import pickle
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cellclass_tf import process_state
from cellclass_tf.errors import InputError
from cellclass_tf.storage import pickled_npy

_MODELS_WITH_SIZE = ("cyto3", "cyto2", "cyto", "nuclei")
_SIZE_KEYS = {"A", "smean", "ymean", "diam_mean"}
_NETWORK_TIMEOUT_S = 30
# The two numbers that old weights lack; the network then keeps its defaults.
_OPTIONAL_WEIGHTS = {"diam_mean", "diam_labels"}


def known_models() -> list[str]:
    """Names that cellpose knows, with those added in its own window, sorted."""
    models = cellpose_models()
    names = {*models.MODEL_NAMES, *models.get_user_models()}
    # Transformers need another network, and packages that cellpose does not bring.
    return sorted(name for name in names if name and "transformer" not in name)


def cellpose_models() -> Any:
    """Returns the module cellpose.models of cellpose 3.

    Raises:
      InputError: if cellpose is not installed, or in another version.
    """
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
    return models


@contextlib.contextmanager
def contain_effects() -> Iterator[None]:
    """Runs cellpose and PyTorch in the block without effects on the rest of the process.

    cellpose's warnings, such as of a field without cells, stay off the terminal: the
    callers report the same in their own words.
    """
    with (
        process_state.log_level("cellpose", logging.ERROR),
        process_state.hide_triton(),
    ):
        yield


def find_weights(model: str) -> pathlib.Path:
    """Returns the checked file of a named model, or of a path.

    Raises:
      InputError: if there is none, it cannot be downloaded, is not for this network, or
        is unsafe.
    """
    models = cellpose_models()
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
    folder = pathlib.Path(cellpose_models().MODEL_DIR)
    before = set(folder.glob("*"))
    try:
        with _restored_network_settings(), contain_effects():
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
        broken = [n for n, value in weights.items() if not torch.isfinite(value).all()]
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
    if broken:
        raise InputError(
            f"{path}: expected finite numbers in weights; {broken[0]} holds others. The "
            "training that wrote them went wrong, or the file is damaged: get it again."
        )
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


def find_size_model(model: str) -> pathlib.Path | None:
    """Returns the size model of a named model, or of weights; None without one.

    It is size_NAME.npy or NAME_size.npy beside the weights NAME.
    """
    models = cellpose_models()
    if model in known_models():
        if model not in _MODELS_WITH_SIZE:
            return None
        return _fetch(models.size_model_path, model, read_size_model)
    path = pathlib.Path(model)
    for beside in (f"size_{path.name}.npy", f"{path.name}_size.npy"):
        if path.with_name(beside).is_file():
            return path.with_name(beside)
    return None


def read_size_model(path: pathlib.Path) -> dict[str, Any]:
    """Reads the numbers of a size model, and nothing else that may be in its file.

    Raises:
      InputError: if the file holds something else.
    """
    parameters = pickled_npy.load(path)
    if not isinstance(parameters, dict) or not _SIZE_KEYS <= set(parameters):
        raise InputError(
            f"{path}: expected a cellpose size model, a dictionary with "
            f"{', '.join(sorted(_SIZE_KEYS))}. Give the diameter, or remove the file."
        )
    for name in sorted(_SIZE_KEYS):
        value = parameters[name]
        # Of lists that hold each other numpy would never make an array.
        is_array = isinstance(value, (int, float, np.number, np.ndarray))
        is_number = is_array and np.asarray(value).dtype.kind in "iuf"
        if not is_number or not np.isfinite(value).all():
            raise InputError(
                f"{path}: expected finite numbers as {name} of a cellpose size model. "
                "Give the diameter, or remove the file."
            )
    return parameters
