"""What is trained on, what is tested on, and how it is scored."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence

import numpy as np

import cellclass_tf as cc
from cellclass_tf.analysis import metrics
from cellclass_tf.core.cells import Cells, read_labels
from cellclass_tf.core.manifest import MIXED, SPLIT, ImageRow
from cellclass_tf.datasets import simulation
from cellclass_tf.storage import png
from experiments.benchmarks import fields

SCORES = ("AP", "AP50", "AP75", "type_accuracy", "proportion_error_points")


@dataclasses.dataclass(frozen=True)
class Task:
    """A question that every method is asked.

    Attributes:
      name: of the task, and of its folder.
      title: in words.
      train: the study to learn from: pure fields, whose splits are train or validation.
      test: the study with the fields to find cells in.
      cell_type: of the fields of `test` that are asked about; None for all.
      truth: what is known of a field, drawn into the pictures.
      score: of the found cells by image, the scores that can be told, of `SCORES`.
    """

    name: str
    title: str
    train: cc.Study
    test: cc.Study
    cell_type: str | None
    truth: Callable[[ImageRow], Cells]
    score: Callable[[Mapping[str, Cells]], dict[str, float]]

    def rows(self) -> list[ImageRow]:
        """Of the fields that are asked about."""
        rows = self.test.accepted_rows()
        return [row for row in rows if self.cell_type in (None, row.cell_type)]


def three_types(root: pathlib.Path, images: pathlib.Path, fold: int) -> Task:
    """Three cell types, masks drawn by hand: the FOLD-th field of each is tested on."""
    if not (root / "made").exists():
        shutil.rmtree(root, ignore_errors=True)
        _split_fields(root, list(fields.drawn_by_hand(images)), fold)
        (root / "made").touch()
    return _of_two_studies(root, f"three_types_{fold}", "three cell types")


def _of_two_studies(root: pathlib.Path, name: str, title: str) -> Task:
    """Learns from ROOT/train, and is asked about all cells of ROOT/test."""
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
    """A real HEK field, after learning from simulated cultures alone."""
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
    """Scores in outlines and types of all true cells."""
    scored = metrics.Metrics(test.cell_types)
    for row in test.rows():
        scored.add(test.read_cells(row).with_types(test.cell_types), found[row.image])
    result = scored.result()
    errors = result["share_error_points"].values()
    result["proportion_error_points"] = float(np.mean(np.abs([*errors])))
    return {name: result[name] for name in SCORES}


@dataclasses.dataclass(frozen=True)
class CoCulture:
    """Two cell types in dishes of their own, and in one together.

    Attributes:
      images: has pure/TYPE/NAME.ome.tif (channels DAPI and Phase) with NAME_cells.tif,
        cells drawn by hand, and mixed/NAME.ome.tif with NAME_nuclei.tif, a label image of
        nuclei, and NAME_nuclei.csv, their types (columns nucleus and cell_type).
      held_out: TYPE/NAME of fields for validation.
      left_out: TYPE/NAME of a piece of another field.
    """

    images: pathlib.Path
    held_out: Sequence[str] = ("3T3/set1", "MCF10A/crop500")
    left_out: Sequence[str] = ("3T3/crop500",)

    def task(self, root: pathlib.Path, contrast: str = "field") -> Task:
        """The types of the mixed field are used for nothing but the scores."""
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
        """The nuclei of the mixed field, (H, W), and the type of each that is sure."""
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
                cells = read_labels(labels)
                cells = Cells.from_labels(cells, study.cell_types, cell_type)
                cells.write(study.cells_path(row))
                split = "validation" if row.stem in self.held_out else "train"
                study.update([dataclasses.replace(row, split=split)], SPLIT)
        (root / "made").touch()
        return study


def scored_nuclei(cells: Cells, nuclei: Cells) -> dict[str, float]:
    """How nuclei are called, each as the cell that covers most of it.

    The error of the proportion is that of the second type among all cells that were found,
    against its share of the nuclei.
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
