"""cellpose 4: a transformer (SAM's ViT-L) of three channels in any order, at any scale.

Pachitariu et al., "Cellpose-SAM: superhuman generalization for cellular segmentation",
bioRxiv 2025, doi:10.1101/2025.04.28.651001. Its weights are trained on data under
CC-BY-NC, not for commercial use.
"""

from __future__ import annotations

import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from cellclass_tf.annotation.annotators import cellpose_library, cellpose_weights
from cellclass_tf.annotation.annotators.cellpose_library import (
    TrainingRun,
    contain_effects,
)
from cellclass_tf.errors import InputError
from cellclass_tf.labels import sizes

# Images are rescaled so that a cell has this diameter: cellpose's own constant.
SCALE_PX = 30.0
_SOURCE = "https://huggingface.co/mouseland/cellpose-sam"


class Cellpose4:
    """The adapter to cellpose 4; see `cellpose_adapter.Adapter`."""

    knows_bfloat16 = True
    # cellpose's default, for AdamW.
    learning_rate = 1e-5
    batch_size = 1
    measures_diameters = True

    def known_models(self) -> list[str]:
        """Returns the sorted names of cellpose's models, and of the user's own."""
        # DINOv3 needs a package that cellpose does not install.
        return cellpose_library.known_models(without="dino")

    def find_weights(self, model: str) -> pathlib.Path:
        """Returns the file of weights of a named model or a path, after checking it.

        Nothing is downloaded: the weights have 1.2 GB, and were trained on data that are
        not for commercial use.

        Raises:
          InputError: if there is no such file, it does not fit to this network, or is
            unsafe.
        """
        names = self.known_models()
        if model in names:
            path = pathlib.Path(cellpose_library.load_models().MODEL_DIR) / model
            if not path.is_file():
                raise InputError(
                    f"{path}: the weights of the cellpose 4 model {model!r} are not "
                    "there, and are not downloaded: they have 1.2 GB, and were trained on "
                    "data under CC-BY-NC, not for commercial use. Download the file "
                    f"{model} from {_SOURCE} to this path, give weights that you have "
                    "with --model=PATH, or use --annotator=watershed, which needs none."
                )
        elif not (path := pathlib.Path(model)).is_file():
            raise cellpose_weights.unknown_model(model, names)
        _check_weights(path)
        return path

    def find_size_model(self, model: str) -> pathlib.Path | None:
        """Returns None: version 4 has no size models."""
        return None

    def origin_of_diameters(self, size_path: pathlib.Path | None) -> str:
        """Says in words how the diameter is found if it is not given."""
        return "of the cells found at the image's own scale"

    def load(
        self, weights: pathlib.Path, name: str | None, device: str, bfloat16: bool
    ) -> Any:
        """Returns the `cellpose.models.CellposeModel` of weights.

        Raises:
          InputError: if the file does not exist any more, since cellpose would download
            other weights.
        """
        import torch

        models, place = cellpose_library.load_models(), torch.device(device)
        if not weights.is_file():
            raise InputError(f"{weights}: the file of weights does not exist any more.")
        with contain_effects():
            model = models.CellposeModel(
                gpu=place.type != "cpu",
                pretrained_model=str(weights),
                device=place,
                use_bfloat16=bfloat16,
            )
        if str(model.pretrained_model) != str(weights):
            raise InputError(
                f"{weights}: cellpose loaded {model.pretrained_model} in its place, since "
                "the file does not exist any more. The other weights were not used."
            )
        return model

    def scale_px(self, model: Any) -> float:
        """Returns the diameter to which cells are rescaled."""
        return SCALE_PX

    def encoder_tensors(self, weights: pathlib.Path) -> dict[str, np.ndarray] | None:
        """Returns None: the network is a transformer, too large to be part of a model."""
        return None

    def estimate_diameter_px(
        self,
        model: Any,
        size: dict[str, Any] | None,
        parts: Sequence[np.ndarray],
        limits: Sequence[tuple[float, float] | None] | None,
        **options: Any,
    ) -> float:
        """Returns the median diameter of the cells found without rescaling.

        If there are none, it is 30 px, for which an image keeps its scale.
        """
        areas: list[int] = []
        for part in parts:
            labels, _ = self.segment(
                model, part, limits, diameter_px=SCALE_PX, **options
            )
            areas += sizes.areas_of(labels).tolist()
        if not areas:
            return SCALE_PX
        median = float(np.median(sizes.diameters_of(np.array(areas))))
        return max(median, cellpose_library.SMALLEST_ESTIMATE_PX)

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
        planes = self.planes_of(image)
        normalize: dict[str, Any] = {"normalize": True}
        if limits is not None:
            # A channel without contrast becomes 0, as when cellpose computes the limits.
            for plane, pair in zip(planes, limits, strict=False):
                plane *= pair is not None
            pairs = [pair or (0.0, 1.0) for pair in limits]
            normalize["lowhigh"] = [*map(list, pairs), [0.0, 1.0]]
        with contain_effects():
            labels, flows, *_ = model.eval(
                np.moveaxis(planes, 0, -1),
                channel_axis=2,
                diameter=diameter_px,
                normalize=normalize,
                **options,
            )
        return labels.reshape(image.shape[:2]), flows[2]

    def planes_of(self, image: np.ndarray) -> np.ndarray:
        """Returns (3, H, W) float32: cytoplasm, nuclei and an empty plane.

        cellpose's own training pairs have this order, before it shuffles the channels.
        """
        cytoplasm, nuclei = image[..., 1], image[..., 2]
        return np.stack([cytoplasm, nuclei, np.zeros_like(nuclei)]).astype(np.float32)

    def train(self, network: Any, run: TrainingRun) -> None:
        """Trains with AdamW, on files that are all read into memory.

        Images are rescaled so that cells have 30 px, as in segmentation.
        """
        import torch

        # cellpose does not seed the random dropping of layers.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(run.seed)
            cellpose_library.train(
                network,
                run,
                # Reading batch by batch raises a TypeError in cellpose 4.0.8 to 4.2.1.1.
                load_files=True,
                batch_size=self.batch_size,
                weight_decay=0.1,
                rescale=True,
            )


def _check_weights(path: pathlib.Path) -> None:
    cellpose_weights.check_fit(path, cellpose_weights.SAM, _weight_shapes())
    if not zipfile.is_zipfile(path):
        raise InputError(
            f"{path}: saved in the format of PyTorch before 1.6, which cellpose 4 does "
            "not read. Save it again with torch.save(torch.load(PATH), NEW)."
        )


def _weight_shapes() -> dict[str, tuple[int, ...]]:
    import torch

    models = cellpose_library.load_models()
    # The class was called Transformer before version 4.2.
    network = getattr(models, "CPSAM", None) or models.Transformer
    # On the device "meta" the 305 million weights take no memory.
    with torch.device("meta"):
        made = network()
    return {name: tuple(value.shape) for name, value in made.state_dict().items()}
