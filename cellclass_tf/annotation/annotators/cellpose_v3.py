"""cellpose 3: a U-net of two channels for cells of one diameter, with size models.

Stringer et al., "Cellpose: a generalist algorithm for cellular segmentation", Nature
Methods 2021, doi:10.1038/s41592-020-01018-x.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import pathlib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from cellclass_tf.annotation.annotators import cellpose_library, cellpose_weights
from cellclass_tf.annotation.annotators.cellpose_library import (
    TrainingRun,
    contain_effects,
)
from cellclass_tf.errors import InputError

# Channels of the merged image, counted from 1 as cellpose does: green cytoplasm, blue nuclei.
CHANNELS = (2, 3)

_MODELS_WITH_SIZE = ("cyto3", "cyto2", "cyto", "nuclei")
_NETWORK_TIMEOUT_S = 30
# Names of the tensors of the encoder begin with this.
_ENCODER = "downsample."
# Two values that old weights lack; the network then keeps its defaults.
_OPTIONAL_WEIGHTS = ("diam_mean", "diam_labels")


class Cellpose3:
    """The adapter to cellpose 3; see `cellpose_adapter.Adapter`."""

    knows_bfloat16 = False
    learning_rate = 0.05
    batch_size = 8
    measures_diameters = False

    def known_models(self) -> list[str]:
        """Returns the sorted names of cellpose's models, and of the user's own."""
        # Transformers need another network, and packages that cellpose does not install.
        return cellpose_library.known_models(without="transformer")

    def find_weights(self, model: str) -> pathlib.Path:
        """Returns the file of weights of a named model or a path, after checking it.

        Raises:
          InputError: if there is no such file, it cannot be downloaded, does not fit to
            this network, or is unsafe.
        """
        names = self.known_models()
        if model in names:
            models = cellpose_library.load_models()
            return _fetch(models.model_path, model, _check_weights)
        path = pathlib.Path(model)
        if not path.is_file():
            raise cellpose_weights.unknown_model(model, names)
        _check_weights(path)
        return path

    def find_size_model(self, model: str) -> pathlib.Path | None:
        """Returns the size model of a named model, or of weights; None without one.

        It is size_NAME.npy or NAME_size.npy in the folder of the weights NAME.
        """
        if model in self.known_models():
            if model not in _MODELS_WITH_SIZE:
                return None
            path_of = cellpose_library.load_models().size_model_path
            return _fetch(path_of, model, cellpose_weights.read_size_model)
        path = pathlib.Path(model)
        for beside in (f"size_{path.name}.npy", f"{path.name}_size.npy"):
            if path.with_name(beside).is_file():
                return path.with_name(beside)
        return None

    def origin_of_diameters(self, size_path: pathlib.Path | None) -> str:
        """Says in words how the diameter is found if it is not given."""
        return "by the size model" if size_path else "of the training images"

    def load(
        self, weights: pathlib.Path, name: str | None, device: str, bfloat16: bool
    ) -> Any:
        """Returns the `cellpose.models.CellposeModel` of weights."""
        import torch

        # cellpose derives the diameter of a named model from its name.
        chosen = {"model_type": name} if name else {"pretrained_model": str(weights)}
        place = torch.device(device)
        with contain_effects():
            return cellpose_library.load_models().CellposeModel(
                gpu=place.type != "cpu", device=place, **chosen
            )

    def scale_px(self, model: Any) -> float:
        """Returns the diameter to which cells are rescaled for the network."""
        return float(model.diam_mean)

    def encoder_tensors(self, weights: pathlib.Path) -> dict[str, np.ndarray] | None:
        """Returns the tensors of the part of the U-net that reduces the resolution."""
        import torch

        tensors = torch.load(weights, map_location="cpu", weights_only=True)
        return {
            name: value.numpy()
            for name, value in tensors.items()
            if name.startswith(_ENCODER)
        }

    def estimate_diameter_px(
        self,
        model: Any,
        size: dict[str, Any] | None,
        parts: Sequence[np.ndarray],
        limits: Sequence[tuple[float, float] | None] | None,
        **options: Any,
    ) -> float:
        """Estimates the diameter by the size model, or from the training images."""
        if size is None:
            return float(model.diam_labels)
        size_model = cellpose_library.load_models().SizeModel(model)
        size_model.params = size
        size_model.diam_mean = float(size["diam_mean"])
        chosen = {} if limits is None else {"normalize": _normalize(limits)}
        batch = {"batch_size": options["batch_size"]}
        found = [float(_eval(size_model, p, **batch, **chosen)[0]) for p in parts]
        estimate = float(np.median(found))
        if estimate < cellpose_library.SMALLEST_ESTIMATE_PX:
            return size_model.diam_mean
        return estimate

    def segment(
        self,
        model: Any,
        image: np.ndarray,
        limits: Sequence[tuple[float, float] | None] | None,
        *,
        diameter_px: float,
        **options: Any,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the labels of a merged image, and the logits of being a cell."""
        normalize = True if limits is None else _normalize(limits)
        labels, flows, *_ = _eval(
            model, image, diameter=diameter_px, normalize=normalize, **options
        )
        return labels, flows[2]

    def planes_of(self, image: np.ndarray) -> np.ndarray:
        """Returns (2, H, W) float32, cytoplasm and nuclei of a merged image."""
        planes = [image[..., number - 1] for number in CHANNELS]
        return np.stack(planes).astype(np.float32)

    def train(self, network: Any, run: TrainingRun) -> None:
        """Trains by stochastic gradient descent, reading a batch's files at a time."""
        cellpose_library.train(
            network,
            run,
            load_files=False,
            batch_size=self.batch_size,
            SGD=True,
            momentum=0.9,
            weight_decay=1e-5,
        )


def _eval(model: Any, image: np.ndarray, **options: Any) -> Any:
    with contain_effects():
        return model.eval(image, channels=list(CHANNELS), channel_axis=2, **options)


def _normalize(limits: Sequence[tuple[float, float] | None]) -> dict[str, Any]:
    """Returns limits in cellpose's form; a channel without contrast is not stretched."""
    # "normalize" is given explicitly, since cellpose keeps its last value in a global.
    lowhigh = [[0.0, 1.0] if pair is None else list(pair) for pair in limits]
    return {"normalize": True, "lowhigh": lowhigh}


def _check_weights(path: pathlib.Path) -> None:
    wanted = _weight_shapes()
    cellpose_weights.check_fit(path, cellpose_weights.UNET, wanted, _OPTIONAL_WEIGHTS)


@functools.cache
def _weight_shapes() -> dict[str, tuple[int, ...]]:
    from cellpose import resnet_torch

    network = resnet_torch.CPnet([2, 32, 64, 128, 256], 3, sz=3)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _fetch(
    path_of: Callable[[str], str], name: str, check: Callable[[pathlib.Path], Any]
) -> pathlib.Path:
    """Returns a file of a named model, which cellpose downloads if it is missing."""
    folder = pathlib.Path(cellpose_library.load_models().MODEL_DIR)
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
        # cellpose would take an incomplete download for complete in later runs.
        if path not in before:
            path.unlink(missing_ok=True)
        raise
    return path


@contextlib.contextmanager
def _restored_network_settings() -> Iterator[None]:
    # cellpose turns certificate checks off for the whole process when it downloads, and
    # has no timeout.
    context, timeout = ssl._create_default_https_context, socket.getdefaulttimeout()
    socket.setdefaulttimeout(_NETWORK_TIMEOUT_S)
    try:
        yield
    finally:
        ssl._create_default_https_context = context
        socket.setdefaulttimeout(timeout)
