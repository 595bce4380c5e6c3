"""The commands that `kills` kills, and the files that exist when they start."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

import cellclass_tf as cc
from cellclass_tf.core.model_metadata import ModelMetadata
from cellclass_tf.datasets import simulation
from cellclass_tf.maskrcnn.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A command, and the files that exist when it starts.

    Attributes:
      name: name of the command.
      prepare: function that fills a folder.
      act: function that runs the command in the folder.
      kept: patterns of files that a person made; files with the same bytes must still exist
        somewhere below the folder in the end.
    """

    name: str
    prepare: Callable[[pathlib.Path], Any]
    act: Callable[[pathlib.Path], Any]
    kept: tuple[str, ...] = ()


def _converted(work: pathlib.Path) -> pathlib.Path:
    root = work / "study"
    cc.simulate(root, images_per_type=2, mixed=1, size=128, dishes=2)
    cc.convert(root / "raw", root, group=simulation.GROUP_PATTERN)
    # As a person would: add a column, and accept all fields.
    lines = (root / "images.csv").read_text(encoding="utf-8").splitlines()
    head = [*lines[0].split(","), "note"]
    rows = []
    for line in lines[1:]:
        cells = dict(zip(head, [*line.split(","), "mine"], strict=True))
        rows.append(cells | {"verdict": "accepted", "reason": ""})
    text = "\n".join([",".join(head), *(",".join(row.values()) for row in rows)])
    (root / "images.csv").write_text(text + "\n", encoding="utf-8")
    return root


def _annotated(work: pathlib.Path) -> pathlib.Path:
    """Makes a study with cells; those of two fields were corrected by a person."""
    root = _converted(work)
    cc.annotate(root, annotator="watershed")
    study = cc.Study.open(root)
    rows = {row.cell_type: row for row in study.rows()}
    for row in (rows["HEK"], rows["mixed"]):
        labels = study.read_cells(row).labels.copy()
        labels[:6, :6] = labels.max() + 1
        names = ["HEK", *["N2a"] * (labels.max() - 1)]
        is_mixed = row.cell_type == "mixed"
        cells = cc.Cells.from_labels(labels, study.cell_types, names)
        cells.write(study.cells_path(row), types_csv=is_mixed)
    return root


def _annotate(work: pathlib.Path, **options: Any) -> Any:
    return cc.annotate(
        work / "study",
        annotator="watershed",
        diameter=30,
        change_settings=True,
        **options,
    )


def _with_known_corrections(work: pathlib.Path) -> pathlib.Path:
    """Makes a study as `_annotated` does, in whose manifest the corrections are recorded."""
    root = _annotated(work)
    cc.annotate(root, annotator="watershed")
    return root


def _corrected_in_cellpose(work: pathlib.Path) -> None:
    root = _with_known_corrections(work)
    cc.export_cellpose(root, work / "gui")
    for path in sorted((work / "gui").rglob("*_seg.npy"))[::2]:
        # The file was written by the export above.
        content = np.load(path, allow_pickle=True).item()
        content["masks"][-6:, -6:] = content["masks"].max() + 1
        np.save(path, content, allow_pickle=True)


def _coco_elsewhere(work: pathlib.Path) -> None:
    _with_known_corrections(work)
    cc.export_coco(work / "study", work / "coco")


def _predicted(work: pathlib.Path) -> None:
    """Makes predictions, with a table that a person changed."""
    root = _with_known_corrections(work)
    study, out = cc.Study.open(root), work / "predictions"
    from cellclass_tf.analysis import cell_table, table_files

    tables, counts = [], []
    for row in study.rows():
        cells = study.read_cells(row)
        cells.write(out / "labels" / f"{row.stem}.tif")
        tables.append(cell_table.cell_table(cells, None, name=row.stem))
        counts.append(cell_table.count_row(cells, name=row.stem))
    table_files.write_cells_csv(out / "cells.csv", tables, study.cell_types)
    table_files.write_counts_csv(out / "counts.csv", counts, study.cell_types)
    cc.evaluate(out, root)
    cc.report(out)
    with open(out / "evaluation_fields.csv", "a", encoding="utf-8") as file:
        file.write("mine\n")


def _no_network(**_: Any) -> dict:
    raise NotImplementedError


class _Stub(Predictor):
    """A stub that outlines nuclei, in place of a network."""

    def __init__(self):
        metadata = ModelMetadata(
            type_names=simulation.CELL_TYPES,
            tile_px=64,
            scale=1.0,
            model_diameter_px=30.0,
            grayscale=False,
            mask_threshold=0.5,
            experiment="small",
            checkpoint="ckpt-1",
            train_steps=1,
            dataset_fingerprint="",
        )
        super().__init__(_no_network, metadata, "f")

    def predict(self, image: np.ndarray, **_: Any) -> cc.Cells:
        """Labels bright pixels of the nuclei channel."""
        labels, count = ndimage.label(image[..., 2] > image[..., 2].mean())
        ids = np.arange(count, dtype=np.int32) % 2 + 1
        probabilities = np.eye(2, dtype=np.float32)[ids - 1]
        scores = np.ones(count, np.float32)
        labels = labels.astype(np.int32)
        return cc.Cells(labels, self.type_names, ids, scores, probabilities)


def _predict(work: pathlib.Path) -> Any:
    # The process is a fork, so nothing needs to be restored.
    Predictor.load = classmethod(lambda cls, path: _Stub())  # type: ignore[assignment, method-assign]
    return cc.predict("model", work / "study", work / "predictions")


def _some_predicted(work: pathlib.Path) -> None:
    """Makes predictions with a table that a person changed, without some of the fields."""
    _with_known_corrections(work)
    load = Predictor.__dict__["load"]
    try:
        _predict(work)
    finally:
        Predictor.load = load  # type: ignore[method-assign]
    with open(work / "predictions" / "counts.csv", "a", encoding="utf-8") as file:
        file.write("mine\n")
    for path in (work / "predictions" / "labels" / "HEK").iterdir():
        path.unlink()


def _all_corrected(work: pathlib.Path) -> None:
    """Makes a study with hand-drawn cells, and untrained weights."""
    import torch
    from cellpose import resnet_torch

    root = _converted(work)
    cc.import_masks(root, root / "truth")
    torch.manual_seed(0)
    network = resnet_torch.CPnet([2, 32, 64, 128, 256], 3, sz=3)
    network.diam_labels.data[:] = 24
    torch.save(network.state_dict(), work / "base")


def _to_be_dataset(work: pathlib.Path) -> None:
    # Import TensorFlow before the fork; no other command needs it.
    importlib.import_module("tfds_builders")
    _annotated(work)


def _dataset(work: pathlib.Path) -> Any:
    import tfds_builders

    return tfds_builders.dataset(work / "study").outcome


def _overwritten(work: pathlib.Path) -> None:
    _annotated(work)
    _annotate(work)
    _annotate(work, overwrite_corrected=True)


def _restore(work: pathlib.Path) -> Any:
    # The oldest folder has no number after its date.
    first = re.compile(r"[\d-]{10}/cells/mixed/.*\.tif")
    labels = [name for name in cc.restore(work / "study") if first.fullmatch(name)]
    # After a kill, a person would look whether it was already restored.
    return cc.restore(work / "study", labels[0]) if labels else None


def _export(name: str, work: pathlib.Path) -> Any:
    return cc.export_cells(work / "study", work / "exported", format=name)


SCENARIOS = (
    Scenario(
        "simulate",
        lambda work: None,
        lambda work: cc.simulate(
            work / "study", images_per_type=1, mixed=1, size=128, dishes=1
        ),
    ),
    Scenario(
        "convert",
        _annotated,
        lambda work: cc.convert(
            work / "study/raw", work / "study", contrast="field", change_settings=True
        ),
        ("study/cells/HEK/*0002.tif", "study/cells/mixed/*"),
    ),
    Scenario(
        "annotate",
        _annotated,
        _annotate,
        ("study/cells/HEK/*0002.tif", "study/cells/mixed/*"),
    ),
    Scenario(
        "annotate overwriting",
        _annotated,
        lambda work: _annotate(work, overwrite_corrected=True),
        ("study/cells/HEK/*0002.tif", "study/cells/mixed/*"),
    ),
    Scenario(
        "import masks",
        _with_known_corrections,
        lambda work: cc.import_masks(work / "study", work / "study/truth"),
        ("study/cells/HEK/*0002.tif", "study/cells/mixed/*"),
    ),
    Scenario(
        "import cellpose",
        _corrected_in_cellpose,
        lambda work: cc.import_cellpose(work / "study", work / "gui"),
        ("study/cells/mixed/*.csv", "gui/*/*.npy"),
    ),
    Scenario(
        "import coco",
        _coco_elsewhere,
        lambda work: cc.import_coco(work / "new", work / "coco/annotations"),
        ("study/cells/*/*",),
    ),
    Scenario("dataset", _to_be_dataset, _dataset, ("study/cells/*/*",)),
    Scenario("predict", _some_predicted, _predict, ("predictions/counts.csv",)),
    Scenario(
        "finetune",
        _all_corrected,
        lambda work: cc.finetune(
            work / "study", work / "tuned", model=work / "base", epochs=1, device="cpu"
        ),
        ("study/cells/*/*", "base"),
    ),
    Scenario("restore", _overwritten, _restore, ("study/.trash/*/cells/*/*",)),
    Scenario(
        "evaluate",
        _predicted,
        lambda work: cc.evaluate(work / "predictions", work / "study"),
        ("predictions/evaluation_fields.csv",),
    ),
    Scenario("report", _predicted, lambda work: cc.report(work / "predictions")),
    Scenario(
        "compare",
        _predicted,
        lambda work: cc.compare(
            work / "predictions", work / "study", work / "compared"
        ),
    ),
    *(
        Scenario(
            f"export {name}",
            _predicted,
            functools.partial(_export, name),
        )
        for name in ("imagej", "geojson", "ome", "zarr", "coco")
    ),
    Scenario(
        "export coco of a study",
        _annotated,
        lambda work: cc.export_coco(work / "study", work / "coco"),
        ("study/cells/*/*",),
    ),
    Scenario(
        "export cellpose",
        _annotated,
        lambda work: cc.export_cellpose(work / "study", work / "gui"),
        ("study/cells/*/*",),
    ),
)
