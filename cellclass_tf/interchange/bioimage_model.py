"""Packs an exported model for the BioImage Model Zoo (https://bioimage.io)."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

import cellclass_tf
from cellclass_tf import process_state
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.model_metadata import ModelMetadata
from cellclass_tf.core.study import read_merged
from cellclass_tf.drawing import picture
from cellclass_tf.drawing.overlay import draw_overlay
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import one_tensor
from cellclass_tf.maskrcnn.predictor import Predictor
from cellclass_tf.storage import atomic, png

# Version of the format of bioimageio.spec's model descriptions.
_FORMAT_VERSION = "0.5.3"
_CHANNELS = ("empty", "cytoplasm", "nuclei")
_NAME = "Cells of {types} in two-channel fluorescence"
_MOST_IN_NAME = 128
_COVER_PX = (800, 400)
_CITE = {
    "text": "He et al. (2017), Mask R-CNN, the architecture",
    "doi": "10.1109/ICCV.2017.322",
}


@process_state.keep()
def package_model(
    model: str | os.PathLike,
    image: str | os.PathLike,
    output: str | os.PathLike,
    *,
    authors: Sequence[str] | str,
    license: str,
    name: str | None = None,
    description: str | None = None,
) -> pathlib.Path:
    """Packs an exported model for the BioImage Model Zoo, whole or not at all.

    The package describes the network, not the whole of `predict`: the input is one tile of
    the merged image at the network's scale, and the output a table of detections with one
    mask per detection (see `one_tensor.save`). Scores and probabilities are the network's
    own, not calibrated. The other steps of `predict` (tiling, several views, the second
    network that classifies cells, assigning each pixel to one cell) are not part of it. The
    SavedModel in the package, once unzipped, is still a model for `predict`.

    Args:
      model: folder of the model, as `export-model` writes it.
      image: a merged image, such as STUDY/images/mixed/NAME.png, at the scale of the training
        images. Its middle becomes the package's test input, and the cover.
      output: file for the package, NAME.zip; an earlier one is replaced.
      authors: names of the authors, with commas between them.
      license: SPDX identifier of the licence of the model, such as CC-BY-4.0. It is for the
        owner of the training images to choose.
      name: name of the model; made from its cell types if not given.
      description: a sentence or two; made from what is recorded of the model if not given.

    Returns:
      `output`.

    Raises:
      InputError: if bioimageio.spec is not installed, the model or the image cannot be read,
        or the description is not valid.
    """
    spec = _bioimageio_spec()
    output = pathlib.Path(output)
    if output.suffix != ".zip":
        raise InputError(f"{output}: expected the name of a ZIP file, NAME.zip.")
    if isinstance(authors, str):
        authors = authors.split(",")
    authors = [author.strip() for author in authors if author.strip()]
    if not authors:
        raise InputError("Expected at least one author.")
    pixels, predictor = read_merged(image), Predictor.load(model)
    metadata = predictor.metadata
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        one_tensor.save(model, folder / "saved_model")
        tile = one_tensor.tile_of(pixels, metadata)
        detections = one_tensor.run(folder / "saved_model", tile)
        np.save(folder / "test_input.npy", tile)
        np.save(folder / "test_output.npy", detections)
        shutil.make_archive(
            os.fspath(folder / "weights"), "zip", folder / "saved_model"
        )
        seen = _middle(pixels, metadata)
        cover = _cover(seen, predictor.predict(seen))
        png.write_png(folder / "cover.png", cover)
        shown = name or _NAME.format(types=" and ".join(metadata.type_names))
        content = _description(metadata, detections, shown[:_MOST_IN_NAME], authors)
        content |= {"license": license}
        if description:
            content["description"] = description
        (folder / "README.md").write_text(_readme(content, metadata), encoding="utf-8")
        _write_package(spec, content, folder, output)
    return output


def _bioimageio_spec() -> Any:
    try:
        import bioimageio.spec
    except ImportError as error:
        raise InputError(
            "Packing a model needs bioimageio: pip install 'cellclass_tf[bioimageio]'."
        ) from error
    return bioimageio.spec


def _write_package(
    spec: Any, content: dict[str, Any], folder: pathlib.Path, output: pathlib.Path
) -> None:
    """Writes the package, unless its description is not valid."""
    described = spec.build_description(
        content, context=spec.ValidationContext(root=folder, perform_io_checks=True)
    )
    if isinstance(described, spec.InvalidDescr):
        told = described.validation_summary.errors
        found = [f"{'.'.join(map(str, entry.loc))}: {entry.msg}" for entry in told]
        raise InputError(
            f"{output}: bioimageio.spec {spec.__version__} does not accept the description "
            f"({'; '.join(found)})."
        )
    with atomic.atomic_path(output) as temporary:
        # bioimageio.spec does not replace an existing file.
        temporary.unlink()
        spec.save_bioimageio_package(described, output_path=temporary)


def _middle(pixels: np.ndarray, metadata: ModelMetadata) -> np.ndarray:
    """Returns the middle of a merged image, of which the test input is made."""
    side = round(metadata.tile_px / metadata.scale)
    corner = [max(0, length - side) // 2 for length in pixels.shape[:2]]
    return pixels[corner[0] : corner[0] + side, corner[1] : corner[1] + side]


def _cover(seen: np.ndarray, cells: Cells) -> np.ndarray:
    """Returns a picture of image and cells side by side, twice as wide as high."""
    from PIL import Image

    canvas, _ = picture.canvas_of(seen)
    # The caption is cut off, since it would be too small to read.
    found = draw_overlay(seen, cells)[: len(canvas)]
    both = Image.fromarray(np.concatenate([canvas, found], axis=1))
    return np.asarray(both.resize(_COVER_PX, Image.Resampling.BILINEAR))


def _description(
    metadata: ModelMetadata,
    detections: np.ndarray,
    name: str,
    authors: Sequence[str],
) -> dict[str, Any]:
    """Returns the content of rdf.yaml without the licence."""
    types = metadata.type_names
    names = one_tensor.columns(types, one_tensor.mask_px_of(detections, types))
    return {
        "type": "model",
        "format_version": _FORMAT_VERSION,
        "name": name,
        "description": _in_short(metadata),
        "authors": [{"name": author} for author in authors],
        "cite": [_CITE],
        "documentation": "README.md",
        "covers": ["cover.png"],
        "tags": [
            "2d",
            "cells",
            "fluorescence-light-microscopy",
            "instance-segmentation",
            "object-detection",
            "mask-rcnn",
            "tensorflow",
            "cellclass_tf",
        ],
        "inputs": [_input(metadata)],
        "outputs": [
            {
                "id": one_tensor.OUTPUT,
                "description": "One row per detected cell, see README.md; unused rows are 0.",
                "axes": [
                    {"type": "batch"},
                    # The size is the largest number of detections in a tile of the batch.
                    {"type": "index", "id": "detection", "size": {"min": 1}},
                    {"type": "channel", "channel_names": list(names)},
                ],
                "data": {"type": "float32"},
                "test_tensor": {"source": "test_output.npy"},
            }
        ],
        "weights": {
            "tensorflow_saved_model_bundle": {
                "source": "weights.zip",
                "tensorflow_version": metadata.tensorflow or _tensorflow_version(),
            }
        },
        "config": {
            "bioimageio": {
                # Boxes are in pixels, with values up to the side of a tile.
                "reproducibility_tolerance": [
                    {"relative_tolerance": 1e-3, "absolute_tolerance": 1e-3}
                ]
            },
            "cellclass_tf": {
                "version": cellclass_tf.__version__,
                "type_names": list(types),
                "scale": metadata.scale,
                "score_threshold": metadata.score_threshold,
                "mask_threshold": metadata.mask_threshold,
                "temperature": metadata.temperature,
            },
        },
    }


def _tensorflow_version() -> str:
    import importlib.metadata

    return importlib.metadata.version("tensorflow")


def _input(metadata: ModelMetadata) -> dict[str, Any]:
    side, size_um = metadata.tile_px, metadata.pixel_size_um
    place = {"type": "space", "size": side}
    if size_um:
        place |= {"unit": "micrometer", "scale": size_um / metadata.scale}
    return {
        "id": one_tensor.INPUT,
        "description": "A tile of the merged image at the network's scale.",
        "axes": [
            {"type": "batch"},
            {**place, "id": "y"},
            {**place, "id": "x"},
            {"type": "channel", "channel_names": list(_CHANNELS)},
        ],
        "data": {"type": "uint8"},
        "test_tensor": {"source": "test_input.npy"},
    }


def _in_short(metadata: ModelMetadata) -> str:
    types = ", ".join(metadata.type_names)
    return (
        "Mask R-CNN that detects the cells in a tile of a two-channel fluorescence image "
        f"(cytoplasm and nuclei), with a box, a mask and the probability of each type ({types})."
    )


def _readme(content: dict[str, Any], metadata: ModelMetadata) -> str:
    """Returns the documentation of a package, in Markdown."""
    scale, size_um, side = metadata.scale, metadata.pixel_size_um, metadata.tile_px
    size, input_size = "", ""
    if size_um:
        size = f" ({size_um:.4g} µm)"
        input_size = f"one pixel of the tile is {size_um / scale:.4g} µm and "
    (tensor,) = content["outputs"]
    names = tensor["axes"][2]["channel_names"]
    mask_px = round(
        (len(names) - len(one_tensor.columns(metadata.type_names, 0))) ** 0.5
    )
    first_mask = len(names) - mask_px**2
    kinds = len(metadata.type_names)
    return f"""# {content["name"]}

{content["description"]}

Trained and exported with cellclass_tf {metadata.cellclass_tf or cellclass_tf.__version__}.

## Input

`images`: one tile, (batch, y, x, channel) = (B, {side}, {side}, 3), uint8. The channels
are empty (all 0), cytoplasm, and nuclei. Use one pair of contrast limits per channel for all images
of a dish. Resize your image by {scale:.6g} if it has the pixel size of the training images{size},
so that {input_size}a median cell has a diameter of {metadata.model_diameter_px:.4g} px.

## Output

`detections`: (batch, detection, channel) = (B, D, {len(names)}), float32. One row per detection; D
is the largest number of detections in a tile of the batch, and at least 1. Unused rows are 0.

| channels | what they hold |
|---|---|
| 0 to 3 | box of the cell: top, left, bottom, right, in pixels of the tile |
| 4 to 7 | box of the cell's mask, somewhat wider |
| 8 | score of being a cell, in [0, 1]; the threshold at export was {metadata.score_threshold:.3g} |
| 9 to {8 + kinds} | probability of {", ".join(metadata.type_names)}, not calibrated |
| {first_mask} to {len(names) - 1} | mask of {mask_px} x {mask_px}, row by row, \
in [0, 1]; resize it to the box in channels 4 to 7, and threshold it at \
{metadata.mask_threshold:.3g} |

The output is not an image: a program that expects an image shows a table of numbers, and a program
that cuts a large image into blocks returns the table of one block. For a label image with the type
of each cell, unzip `weights.zip` and use it with cellclass_tf:

    cellclass predict --model=weights --input=IMAGES --output=predictions

This command also cuts fields into tiles, joins the detections of all tiles, assigns each pixel to
one cell, and calibrates the probabilities (here, by dividing their logarithms by
{metadata.temperature:.4g}).

## Validation

{_validation(metadata)}
On your own images, correct the outlines and types of a few fields and compare:
`cellclass evaluate --predictions=predictions --study=study`.

## Limits

The model knows the cell types {", ".join(metadata.type_names)} and assigns one of them to every
cell. Stains, microscopes or cell densities that differ from those of the training images need a
model of their own.
"""


def _validation(metadata: ModelMetadata) -> str:
    measured = metadata.calibration
    if measured is None:
        return "Nothing was measured on held-out fields when this model was exported.\n"
    told = (
        f"On {len(measured.held_out)} held-out fields of the training dataset, with the "
        "calibration of cellclass_tf"
    )
    if measured.cells is not None and measured.type_accuracy is not None:
        told += (
            f", {100 * measured.type_accuracy:.1f} % of the {measured.cells} cells that "
            "were found were classified correctly"
        )
    return (
        f"{told}; the expected calibration error of the probabilities was "
        f"{measured.expected_calibration_error:.3f}. Such fields are mostly of pure "
        "cultures: mixed ones may be harder.\n"
    )
