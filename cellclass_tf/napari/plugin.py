"""Plug-in for napari: a reader for studies and predictions, and a widget that predicts.

Open the folder of a study, a folder that `predict` wrote, or the `labels/STEM.tif` of one field
in it. The layers are the two channels in their colours, and the cells in the colours of their
types, with the table of cells as features.
"""

from __future__ import annotations

import multiprocessing
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from cellclass_tf.analysis import cell_table, sources
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.core.predictions import LABELS_FOLDER, Predictions
from cellclass_tf.core.study import Study
from cellclass_tf.drawing.palette import colour_of_type
from cellclass_tf.errors import InputError
from cellclass_tf.interchange import measurements
from cellclass_tf.microscopy import merge

# Largest number of fields to open; a study may have thousands.
MOST_FIELDS = 20

Layer = tuple[Any, dict[str, Any], str]


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[Layer]] | None:
    """Returns a function that reads a path, or None for other paths; napari calls it."""
    if not isinstance(path, str | os.PathLike):
        return None
    folder = pathlib.Path(path)
    found = Study.exists(folder) or Predictions.exist(folder) or _run_of(folder)
    return read_layers if found else None


def read_layers(path: str | os.PathLike) -> list[Layer]:
    """Returns the layers of the first MOST_FIELDS fields of a study or of predictions.

    Args:
      path: path of the folder, or of a label image `labels/STEM.tif` of predictions.

    Raises:
      InputError: if there are no fields with cells.
    """
    path = pathlib.Path(path)
    run = _run_of(path)
    fields = sources.fields_of(run or path)
    if run:
        stem = path.relative_to(run / LABELS_FOLDER).with_suffix("").as_posix()
        fields = [field for field in fields if field.stem == stem]
    if not fields:
        raise InputError(f"{path}: no fields with cells.")
    layers = []
    for number, field in enumerate(fields[:MOST_FIELDS]):
        image, cells = field.pixels(), field.read()
        shown = {"visible": number == 0}
        size_um = field.pixel_size_um
        if image is not None:
            layers += image_layers(image, field.stem, size_um, **shown)
        rows = measurements.rows_of(field, cells)
        layers.append(cells_layer(cells, field.stem, size_um, rows, **shown))
    return layers


def image_layers(
    image: np.ndarray, name: str, pixel_size_um: float | None, **options: Any
) -> list[Layer]:
    """Returns the two channels of a merged image, (H, W, 3) uint8, as additive layers."""
    return [
        (
            image[..., channel],
            {
                "name": f"{name} {words}",
                "colormap": colour,
                "blending": "additive",
                **_scale(pixel_size_um),
                **options,
            },
            "image",
        )
        for channel, words, colour in ((1, "cytoplasm", "green"), (2, "nuclei", "blue"))
    ]


def cells_layer(
    cells: Cells,
    name: str,
    pixel_size_um: float | None,
    rows: Sequence[Mapping[str, Any]],
    **options: Any,
) -> Layer:
    """Returns the cells as a labels layer in type colours, with rows of `cell_table`."""
    import pandas
    from napari.utils.colormaps import DirectLabelColormap

    columns = dict.fromkeys(cell_table.columns(cells.type_names))
    # The rows of a run have further columns.
    columns |= dict.fromkeys(rows[0] if rows else ())
    # The features of a labels layer begin with the background.
    features = pandas.DataFrame([{}, *rows], columns=list(columns))
    features["index"] = np.arange(len(cells) + 1)
    colours: dict[int | None, Any] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0)}
    for number, type_id in enumerate(cells.type_ids.tolist(), start=1):
        colours[number] = (*(c / 255 for c in colour_of_type(type_id)), 1)
    settings = {
        "name": f"{name} cells",
        "features": features,
        "colormap": DirectLabelColormap(color_dict=colours),
        "opacity": 0.6,
        **_scale(pixel_size_um),
        **options,
    }
    return cells.labels, settings, "labels"


def predict_widget() -> Any:
    """Makes a magicgui container that runs an exported model on the open image."""
    import napari
    from magicgui import magicgui
    from napari.qt.threading import create_worker
    from napari.utils.notifications import show_error

    viewer = napari.current_viewer()
    images = [
        layer for layer in viewer.layers if isinstance(layer, napari.layers.Image)
    ]

    @magicgui(
        call_button="Outline and name cells",
        model={"label": "model (folder)", "mode": "d"},
        outlines={"label": "outlines (none: the model's)", "nullable": True},
        pixel_size_um={
            "label": "pixel size, µm (0: as in training)",
            "min": 0.0,
            "step": 0.001,
        },
    )
    def widget(
        model: pathlib.Path,
        cytoplasm: napari.layers.Image,
        nuclei: napari.layers.Image,
        outlines: napari.layers.Labels | None = None,
        pixel_size_um: float = 0.0,
    ) -> Any:
        def finished(layer: Layer) -> None:
            pixels, settings, _ = layer
            viewer.add_labels(pixels, **settings)

        merged = merged_of(np.asarray(cytoplasm.data), np.asarray(nuclei.data))
        return create_worker(
            predict_layer,
            model,
            merged,
            cytoplasm.name,
            pixel_size_um or None,
            None if outlines is None else np.asarray(outlines.data),
            # Without steps to count, napari shows an activity bar until the end.
            _progress={"desc": "outline and name cells"},
            _connect={
                "returned": finished,
                "errored": lambda error: show_error(str(error)),
            },
        )

    for choice, word in ((widget.cytoplasm, "cyto"), (widget.nuclei, "nucle")):
        named = [layer for layer in images if word in layer.name.lower()]
        if named:
            choice.value = named[0]
    return widget


def merged_of(cytoplasm: np.ndarray, nuclei: np.ndarray) -> np.ndarray:
    """Merges two planes; 8-bit planes are unchanged, others get contrast limits.

    Args:
      cytoplasm: (H, W) grey values.
      nuclei: (H, W) grey values of the same type.

    Returns:
      (H, W, 3) uint8: 0, cytoplasm, nuclei.

    Raises:
      InputError: if they are not two planes of one size, or do not hold grey values.
    """
    if cytoplasm.ndim != 2 or cytoplasm.shape != nuclei.shape:
        raise InputError(
            f"Expected two planes (H, W) of one size; got {cytoplasm.shape} and "
            f"{nuclei.shape}. Choose single planes of a stack first."
        )
    if cytoplasm.dtype == nuclei.dtype == np.uint8:
        return np.stack([np.zeros_like(cytoplasm), cytoplasm, nuclei], axis=-1)
    both = np.stack([nuclei, cytoplasm])
    field = Micrograph(both, ("nuclei", "cytoplasm"), file="the open image")
    return merge.merge_channels(field, nuclei=0, cytoplasm=1)


def predict_layer(
    model: str | os.PathLike,
    image: np.ndarray,
    name: str,
    pixel_size_um: float | None,
    labels: np.ndarray | None = None,
) -> Layer:
    """Predicts the cells of a merged image, and returns them as a layer.

    Args:
      model: path of the folder of an exported model.
      image: (H, W, 3) uint8 merged image.
      name: name of the layer.
      pixel_size_um: pixel size of the image in µm; None if it is that of the training
        images.
      labels: (H, W) integer labels of the cells to classify; None if the model outlines
        the cells itself.

    Raises:
      InputError: under the same conditions as `Predictor.predict` and `Predictor.name`.
    """
    # This runs in a separate process, since TensorFlow and the software renderer of napari's
    # window both contain LLVM, and would wait for each other for ever.
    context = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(1, context) as pool:
        arguments = os.fspath(model), image, pixel_size_um, labels
        cells = pool.submit(_predict, *arguments).result()
    rows = cell_table.cell_table(cells, image, name=name, pixel_size_um=pixel_size_um)
    return cells_layer(cells, name, pixel_size_um, rows)


def _predict(
    model: str,
    image: np.ndarray,
    pixel_size_um: float | None,
    labels: np.ndarray | None,
) -> Cells:
    from cellclass_tf.maskrcnn.predictor import Predictor

    predictor = Predictor.load(model)
    if labels is None:
        return predictor.predict(image, pixel_size_um=pixel_size_um)
    return predictor.name(image, labels, pixel_size_um=pixel_size_um)


def _scale(pixel_size_um: float | None) -> dict[str, Any]:
    if not pixel_size_um:
        return {}
    return {"scale": (pixel_size_um, pixel_size_um), "units": ("µm", "µm")}


def _run_of(path: pathlib.Path) -> pathlib.Path | None:
    """Returns the prediction folder of a label image; None if it is not in one."""
    if path.suffix != ".tif":
        return None
    for parent in path.parents:
        if parent.name == LABELS_FOLDER and Predictions.exist(parent.parent):
            return parent.parent
    return None
