"""Tasks: fields for training, fields for testing, and scores."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence

import numpy as np

import cellclass_tf as cc
from cellclass_tf.analysis import metrics
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.label_files import read_labels
from cellclass_tf.core.manifest import MIXED, SPLIT, ImageRow
from cellclass_tf.datasets import simulation
from cellclass_tf.storage import png
from experiments.benchmarks import fields

SCORES = ("AP", "AP50", "AP75", "type_accuracy", "proportion_error_points")


@dataclasses.dataclass(frozen=True)
class Task:
    """A task for all methods.

    Attributes:
      name: name of the task and of its folder.
      title: title for the page.
      train: study with the training fields: pure fields in the splits train and validation.
      test: study with the test fields.
      cell_type: cell type of the test fields in `test`; None for all fields.
      truth: function that returns the known cells of a field, for the pictures.
      score: function from the found cells, by image, to those of `SCORES` that are defined.
    """

    name: str
    title: str
    train: cc.Study
    test: cc.Study
    cell_type: str | None
    truth: Callable[[ImageRow], Cells]
    score: Callable[[Mapping[str, Cells]], dict[str, float]]

    def rows(self) -> list[ImageRow]:
        """Returns the rows of the test fields."""
        rows = self.test.accepted_rows()
        return [row for row in rows if self.cell_type in (None, row.cell_type)]


def three_types(root: pathlib.Path, images: pathlib.Path, fold: int) -> Task:
    """Returns a fold of three cell types: field number `fold` of each is the test field."""
    if not (root / "made").exists():
        shutil.rmtree(root, ignore_errors=True)
        _split_fields(root, list(fields.drawn_by_hand(images)), fold)
        (root / "made").touch()
    return _of_two_studies(root, f"three_types_{fold}", "three cell types")


def _of_two_studies(root: pathlib.Path, name: str, title: str) -> Task:
    """Returns the task to train on ROOT/train and test on all cells of ROOT/test."""
    train, test = (cc.Study.open(root / part) for part in ("train", "test"))
    return Task(
        name=name,
        title=title,
        train=train,
        test=test,
        cell_type=None,
        truth=test.read_cells,
        score=lambda found: _scored(test, found),
    )


def _split_fields(root: pathlib.Path, found: Sequence, fold: int) -> None:
    types = sorted({name.split("/")[0] for name, *_ in found})
    studies = [cc.Study.create(root / part, types) for part in ("train", "test")]
    seen: dict[str, int] = {}
    for name, image, true in found:
        cell_type = name.split("/")[0]
        place = seen[cell_type] = seen.get(cell_type, -1) + 1
        study = studies[place == fold]
        split = "test" if place == fold else "train"
        row = ImageRow(f"{name}.png", cell_type, group=name, split=split)
        png.write_png(study.image_path(row), image)
        Cells.from_labels(true, types, cell_type).write(study.cells_path(row))
        study.update([row])


def hek(root: pathlib.Path, image: pathlib.Path, labels: pathlib.Path) -> Task:
    """Returns the task to test on a real HEK field after training on simulated cultures."""
    train, test = root / "train", root / "test"
    if not (root / "made").exists():
        shutil.rmtree(root, ignore_errors=True)
        cc.simulate(train, images_per_type=16, mixed=0, size=512)
        cc.convert(train / "raw", train, group=simulation.GROUP_PATTERN)
        cc.import_masks(train, train / "truth")
        study = cc.Study.create(test, simulation.CELL_TYPES)
        row = ImageRow(
            "HEK/field.png",
            "HEK",
            group="real",
            split="test",
            pixel_size_um=fields.REAL_HEK_PIXEL_SIZE_UM,
        )
        png.write_png(study.image_path(row), png.read_png(image))
        true = fields.contiguous(png.read_png(labels))
        Cells.from_labels(true, study.cell_types, "HEK").write(study.cells_path(row))
        study.update([row])
        (root / "made").touch()
    return _of_two_studies(root, "hek", "a real HEK field after simulated cultures")


def _scored(test: cc.Study, found: Mapping[str, Cells]) -> dict[str, float]:
    """Scores the outlines and types of all cells."""
    scored = metrics.Metrics(test.cell_types)
    for row in test.rows():
        scored.add(test.read_cells(row).with_types(test.cell_types), found[row.image])
    result = scored.result()
    errors = result["share_error_points"].values()
    result["proportion_error_points"] = float(np.mean(np.abs([*errors])))
    return {name: result[name] for name in SCORES}


@dataclasses.dataclass(frozen=True)
class CoCulture:
    """Two cell types in pure dishes and in a mixed dish.

    Attributes:
      images: folder with pure/TYPE/NAME.ome.tif (channels DAPI and Phase) and NAME_cells.tif
        (hand-drawn cells), and with mixed/NAME.ome.tif, NAME_nuclei.tif (label image of
        nuclei) and NAME_nuclei.csv (their types; columns nucleus and cell_type).
      held_out: TYPE/NAME of the validation fields.
      left_out: TYPE/NAME of fields that are not used, because they are part of another one.
    """

    images: pathlib.Path
    held_out: Sequence[str] = ("3T3/set1", "MCF10A/crop500")
    left_out: Sequence[str] = ("3T3/crop500",)

    def task(self, root: pathlib.Path, contrast: str = "field") -> Task:
        """Returns the task; the types of the mixed field are only used for the scores."""
        study = self._study(root, contrast)
        nuclei, known = self.nuclei()
        labels = np.where(np.isin(nuclei, list(known)), nuclei, 0)
        types = [known[i] for i in np.unique(labels) if i]
        true = Cells.from_labels(labels, study.cell_types, types)
        (mixed,) = (row for row in study.rows() if row.cell_type == MIXED)
        return Task(
            name="coculture",
            title="a co-culture after pure dishes",
            train=study,
            test=study,
            cell_type=MIXED,
            truth=lambda row: true,
            score=lambda found: scored_nuclei(found[mixed.image], true),
        )

    def nuclei(self) -> tuple[np.ndarray, dict[int, str]]:
        """Returns the labels of the mixed field's nuclei, (H, W), and the known types."""
        (labels,) = (self.images / "mixed").glob("*_nuclei.tif")
        with open(labels.with_suffix(".csv"), newline="") as file:
            known = {int(r["nucleus"]): r["cell_type"] for r in csv.DictReader(file)}
        pure = {path.name for path in (self.images / "pure").iterdir()}
        return read_labels(labels), {n: t for n, t in known.items() if t in pure}

    def _study(self, root: pathlib.Path, contrast: str) -> cc.Study:
        if (root / "made").exists():
            return cc.Study.open(root)
        shutil.rmtree(root, ignore_errors=True)
        pure = sorted((self.images / "pure").glob("*/*.ome.tif"))
        study = cc.Study.create(root, sorted({path.parent.name for path in pure}))
        options = {"nuclei": "DAPI", "cytoplasm": "Phase", "contrast": contrast}
        for path in [*pure, *sorted((self.images / "mixed").glob("*.ome.tif"))]:
            cell_type, name = path.parent.name, path.name.removesuffix(".ome.tif")
            if f"{cell_type}/{name}" in self.left_out:
                continue
            cc.convert(path, study, cell_type=cell_type, **options)
            (row,) = (r for r in study.rows() if r.stem == f"{cell_type}/{name}")
            labels = path.with_name(f"{name}_cells.tif")
            if labels.exists():
                drawn = read_labels(labels)
                cells = Cells.from_labels(drawn, study.cell_types, cell_type)
                cells.write(study.cells_path(row))
                split = "validation" if row.stem in self.held_out else "train"
                study.update([dataclasses.replace(row, split=split)], SPLIT)
        (root / "made").touch()
        return study


def scored_nuclei(cells: Cells, nuclei: Cells) -> dict[str, float]:
    """Scores nuclei, each by the type of the cell that covers most of it.

    The error of the proportion compares the proportion of the second type among all found
    cells with its proportion among the nuclei.
    """
    called, true = [], []
    for number, cell_type in enumerate(nuclei.cell_types, start=1):
        inside = cells.labels[nuclei.labels == number]
        counts = np.bincount(inside[inside > 0], minlength=len(cells) + 1)
        if counts.sum():
            called.append(cells.cell_types[int(counts.argmax()) - 1])
            true.append(cell_type)
    if not called:
        return {"nuclei_in_cells": 0}
    of_second = float(np.mean(nuclei.type_ids == 2))
    return {
        "type_accuracy": float(np.mean(np.array(called) == np.array(true))),
        "proportion_error_points": 100
        * abs(float(np.mean(cells.type_ids == 2)) - of_second),
        "nuclei_in_cells": len(called),
        "share_called": float(np.mean(np.array(called) == nuclei.type_names[1])),
        "share_of_these": float(np.mean(np.array(true) == nuclei.type_names[1])),
    }
