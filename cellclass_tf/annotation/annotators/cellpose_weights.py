"""Checks the content of cellpose's files without running any code in them."""

from __future__ import annotations

import dataclasses
import pathlib
import pickle
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from cellclass_tf.annotation.annotators import cellpose_library
from cellclass_tf.errors import InputError
from cellclass_tf.storage import digests, pickled_npy

_SIZE_KEYS = {"A", "smean", "ymean", "diam_mean"}
_NPY = b"\x93NUMPY"

# Kinds of files.
UNET = "weights of the U-net of cellpose 3"
SAM = "weights of the SAM transformer of cellpose 4"
DINO = "weights of the DINOv3 transformer of cellpose 4, which is not supported"
SIZE_MODEL = "a size model of cellpose 3, which estimates diameters and finds no cells"
OTHER = "no weights of a network of cellpose 3 or 4"
# The major versions that run them.
_MAJORS = {UNET: 3, SAM: 4}
# Major version of cellpose that knows each model, for advice to users of the other one.
_MODELS = {"cyto3": 3, "cyto2": 3, "cyto": 3, "nuclei": 3, "cpsam": 4, "cpsam_v2": 4}


@dataclasses.dataclass(frozen=True)
class Contents:
    """The content of a file of weights.

    Attributes:
      kind: UNET, SAM, DINO, SIZE_MODEL or OTHER.
      shapes: shapes of the tensors by name; empty if the file holds none.
    """

    kind: str
    shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)


def inspect(path: pathlib.Path) -> Contents:
    """Identifies the content of a file by the names of its tensors, without running code.

    Raises:
      InputError: if it cannot be read as tensors, or a tensor holds NaN or infinity.
    """
    import torch

    try:
        with open(path, "rb") as file:
            start = file.read(len(_NPY))
        if start == _NPY:
            return Contents(_kind_of_npy(path))
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        shapes = {name: tuple(value.shape) for name, value in tensors.items()}
        broken = [n for n, value in tensors.items() if not torch.isfinite(value).all()]
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
            f"{path}: expected cellpose weights, a file of tensors only. It was refused, "
            f"and no code in it was run ({reason}). Download it again from its source."
        ) from error
    if broken:
        raise InputError(
            f"{path}: expected finite numbers in weights; {broken[0]} holds others. The "
            "training that wrote them failed, or the file is damaged. Download it again."
        )
    return Contents(_kind_of(shapes), shapes)


def _kind_of(names: Collection[str]) -> str:
    if "output.2.weight" in names and any(n.startswith("downsample.") for n in names):
        return UNET
    if "W2" in names and "encoder.cls_token" in names:
        return DINO
    if {"W2", "out.weight", "encoder.pos_embed"} <= set(names):
        return SAM
    return OTHER


def _kind_of_npy(path: pathlib.Path) -> str:
    try:
        read_size_model(path)
    except InputError:
        return OTHER
    return SIZE_MODEL


def check_fit(
    path: pathlib.Path,
    kind: str,
    wanted: Mapping[str, tuple[int, ...]],
    optional: Collection[str] = (),
) -> None:
    """Raises InputError unless a file holds weights for the installed network.

    cellpose only logs a warning if names do not fit, and keeps random numbers; version 4
    loads its default weights if it does not find a file.

    Args:
      path: the file.
      kind: kind of weights that the installed version uses.
      wanted: shapes of the network's tensors by name.
      optional: names of tensors that may be missing.
    """
    found = inspect(path)
    version = cellpose_library.installed_version()
    if found.kind != kind:
        raise InputError(
            f"{path} (SHA-256 {digests.sha256_of_file(path)}): {found.kind}. cellpose "
            f"{version} is installed, which needs {kind}. {_advice(found.kind, kind)}"
        )
    shapes = found.shapes
    strange = [
        name
        for name, shape in wanted.items()
        if (name in shapes or name not in optional) and shapes.get(name) != shape
    ]
    if strange:
        raise InputError(
            f"{path} (SHA-256 {digests.sha256_of_file(path)}): {kind}, but of another "
            f"size than in cellpose {version}, which is installed: {strange[0]} should "
            f"be {wanted[strange[0]]} and is {shapes.get(strange[0], 'missing')}. "
            f"Give {kind} as cellpose trains them (version 3 with two channels)."
        )


def _advice(found: str, wanted: str) -> str:
    """Returns advice for a file of one kind where another kind is needed."""
    if found in _MAJORS:
        requirement = cellpose_library.REQUIREMENTS[_MAJORS[found]]
        return f"Run `pip install '{requirement}'` for this file, or give {wanted}."
    if found == SIZE_MODEL:
        return "Give the weights that it belongs to."
    return f"Give {wanted}."


def unknown_model(model: str, known: Collection[str]) -> InputError:
    """Returns the error for a model that is neither a file nor a known name."""
    version, hint = cellpose_library.installed_version(), ""
    if model in _MODELS:
        major = _MODELS[model]
        requirement = cellpose_library.REQUIREMENTS[major]
        hint = f" {model} is of version {major}: `pip install '{requirement}'`."
    return InputError(
        f"{model}: neither a file with cellpose weights nor a model that cellpose "
        f"{version}, which is installed, knows. Known are {', '.join(known)}.{hint}"
    )


def read_size_model(path: pathlib.Path) -> dict[str, Any]:
    """Reads the parameters of a size model, without running code in the file.

    Raises:
      InputError: if the file holds anything else.
    """
    parameters = pickled_npy.load(path)
    if not isinstance(parameters, dict) or not _SIZE_KEYS <= set(parameters):
        raise InputError(
            f"{path}: expected a cellpose size model, a dictionary with "
            f"{', '.join(sorted(_SIZE_KEYS))}. Give the diameter, or remove the file."
        )
    for name in sorted(_SIZE_KEYS):
        value = parameters[name]
        # numpy would not come to an end with lists that contain each other.
        is_array = isinstance(value, (int, float, np.number, np.ndarray))
        is_number = is_array and np.asarray(value).dtype.kind in "iuf"
        if not is_number or not np.isfinite(value).all():
            raise InputError(
                f"{path}: expected finite numbers as {name} of a cellpose size model. "
                "Give the diameter, or remove the file."
            )
    return parameters
