"""Uses the installed cellpose without lasting effects on the process."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import logging
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cellclass_tf import process_state
from cellclass_tf.errors import InputError

# Requirements for pip, by major version.
REQUIREMENTS = {3: "cellpose>=3.1.1.2,<4", 4: "cellpose>=4.0.8,<5"}
# Images are enlarged until a cell has the diameter that the network expects. Smaller
# estimates come from specks in a field without cells, and would make the enlarged image too
# large for memory.
SMALLEST_ESTIMATE_PX = 6.0


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingRun:
    """The files and settings of one call of cellpose's `train_seg`.

    Attributes:
      images: TIFF files of stretched planes.
      flows: TIFF files of labels and flows, one for each image.
      weights: (N,) how often each image is drawn, relative to the others.
      folder: folder for the files that cellpose writes.
      epochs: number of epochs.
      learning_rate: learning rate after the warm-up of ten epochs.
      draws: number of images that are drawn in an epoch.
      seed: seed of the random numbers that cellpose does not seed itself.
    """

    images: Sequence[str]
    flows: Sequence[str]
    weights: np.ndarray
    folder: pathlib.Path
    epochs: int
    learning_rate: float
    draws: int
    seed: int


def installed_version() -> str:
    """Returns the version of the installed cellpose, if it is supported.

    Raises:
      InputError: if cellpose is not installed, or in another version.
    """
    try:
        version = importlib.metadata.version("cellpose")
    except importlib.metadata.PackageNotFoundError as error:
        raise _unusable(error) from error
    if int(version.split(".")[0]) not in REQUIREMENTS:
        raise InputError(
            f"cellpose {version} is installed; expected version 3 or 4. "
            f"Install it with `pip install '{REQUIREMENTS[3]}'`."
        )
    return version


def load_models() -> Any:
    """Returns the module `cellpose.models`.

    Raises:
      InputError: if it cannot be imported.
    """
    installed_version()
    try:
        import torch

        # cellpose 4 allows TF32 for the whole process when it is imported.
        precision = torch.get_float32_matmul_precision()
        with contain_effects():
            from cellpose import models
        torch.set_float32_matmul_precision(precision)
    # A torchvision that was built for another torch raises other errors than ImportError.
    except (ImportError, OSError, RuntimeError) as error:
        raise _unusable(error) from error
    return models


def known_models(*, without: str) -> list[str]:
    """Returns the sorted names of cellpose's models, and of the user's own.

    Args:
      without: part of the names of models that the adapter does not support.
    """
    models = load_models()
    names = {*models.MODEL_NAMES, *models.get_user_models()}
    return sorted(name for name in names if name and without not in name)


def train(network: Any, run: TrainingRun, **options: Any) -> None:
    """Trains a network in place with cellpose's own `train_seg`.

    Args:
      network: `CellposeModel.net` in float32.
      run: files and settings.
      **options: arguments of `train_seg` that depend on the version of cellpose.
    """
    from cellpose import train

    train.train_seg(
        network,
        train_files=list(run.images),
        train_labels_files=list(run.flows),
        train_probs=run.weights,
        normalize={"normalize": False},
        n_epochs=run.epochs,
        nimg_per_epoch=run.draws,
        min_train_masks=1,
        learning_rate=run.learning_rate,
        save_path=run.folder,
        # Never: the caller saves the weights.
        save_every=run.epochs + 1,
        model_name="latest",
        **options,
    )


@contextlib.contextmanager
def contain_effects() -> Iterator[None]:
    """Runs cellpose and PyTorch in the block without effects on the rest of the process.

    cellpose's warnings, such as that of a field without cells, are not shown, since the
    callers report the same.
    """
    with (
        process_state.log_level("cellpose", logging.ERROR),
        process_state.hide_triton(),
    ):
        yield


def _unusable(error: Exception) -> InputError:
    return InputError(
        f"cellpose cannot be loaded ({error}). Install it with `pip install "
        f"'{REQUIREMENTS[3]}'`, for cellpose 4 with a torchvision that fits the "
        "installed torch, or use --annotator=watershed."
    )
