"""Measures the accuracy of the annotators, and the time of annotation outside the network.

    python -m experiments.benchmarks.annotation --folder=/tmp/annotation \
        --weights=WEIGHTS --images=FOLDER

The folder has a subfolder per cell type, with NAME_img.png (red nuclei, green cytoplasm, 16 bits
per colour) and NAME_masks.png (hand-drawn label images). Without it, only simulated fields are
measured. Times are measured on simulated fields of 1104 x 1104 px with some hundred cells.
Ratios are from one run.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator

import numpy as np
from absl import app, flags

from cellclass_tf.annotation.annotators.protocol import Annotator
from cellclass_tf.labels import sizes
from experiments.benchmarks import processes
from experiments.benchmarks.fields import contiguous, drawn_by_hand

SIZE_PX = 1104

_FOLDER = flags.DEFINE_string("folder", None, "Working folder.", required=True)
_WEIGHTS = flags.DEFINE_string("weights", None, "Weights of cellpose 3.", required=True)
_IMAGES = flags.DEFINE_string("images", "", "Folder of fields with hand-drawn masks.")
_ALSO = flags.DEFINE_list(
    "also", [], "More fields with reference labels: MERGED.png:LABELS.png."
)
_FIELDS = flags.DEFINE_integer("fields", 4, "Number of simulated fields to annotate.")
_EXPORTED = flags.DEFINE_list(
    "exported", ["100", "1000"], "Numbers of fields of COCO exports."
)
_ONLY = flags.DEFINE_list(
    "only", ["scores", "doubts", "overhead", "writing", "export"], "What to measure."
)
_TASK = flags.DEFINE_string(
    "task", "", "For internal use: part to measure in a separate process."
)


def simulated(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields merged images and true labels of simulated fields."""
    import cellclass_tf as cc
    from cellclass_tf.datasets.culture import field, looks

    for number in range(count):
        rng = np.random.default_rng(number)
        drawn = field.simulate_field(
            {"HEK": 0.5, "N2a": 0.5},
            size_px=SIZE_PX,
            rng=rng,
            dish=looks.Dish.random(rng),
        )
        micrograph = cc.Micrograph(drawn.pixels, ("DAPI", "GFP"), pixel_size_um=0.325)
        yield cc.merge_channels(micrograph), drawn.labels


def scores() -> None:
    """Prints the AP of both annotators, at the true and at their estimated diameter."""
    import cellclass_tf as cc
    from cellclass_tf.labels import matching
    from cellclass_tf.storage import png

    fields = [(f"simulated {n}", *pair) for n, pair in enumerate(simulated(3), start=1)]
    if _IMAGES.value:
        fields = [*drawn_by_hand(pathlib.Path(_IMAGES.value)), *fields]
    for pair in _ALSO.value:
        image, labels = (png.read_png(path) for path in pair.split(":"))
        name = pathlib.Path(pair.split(":")[0]).stem
        fields.append((f"reference {name}", image, contiguous(labels)))
    finders: dict[str, Annotator] = {
        "cellpose": cc.CellposeAnnotator(_WEIGHTS.value),
        "watershed": cc.WatershedAnnotator(),
    }
    print("| field | cells | diameter | " + " | ".join(_headers(finders)) + " |")
    print("|---|---|---|" + "---|" * (4 * len(finders)))
    rows = []
    for name, image, true in fields:
        areas = np.bincount(true.ravel())[1:]
        diameter = float(np.mean(sizes.diameters_of(areas)))
        row = []
        for finder in finders.values():
            start = time.perf_counter()
            found = finder.annotate(image, diameter)
            seconds = time.perf_counter() - start
            for iou in (0.5, 0.75):
                row.append(matching.threat_score(true, found.labels, iou))
            own = finder.annotate(image)
            row += [matching.threat_score(true, own.labels, 0.5), seconds]
        kind = name.split()[0] if " " in name else "by hand"
        rows.append((kind, row))
        print(
            f"| {name} | {true.max()} | {diameter:.1f} | {_numbers(row)} |", flush=True
        )
    for kind in dict.fromkeys(kind for kind, _ in rows):
        chosen = [row for found, row in rows if found == kind]
        print(f"| **{kind}, mean** | | | {_numbers(np.mean(chosen, axis=0))} |")


# Flow and cell probability thresholds: cellpose's own, and lenient ones with more bad cells.
_THRESHOLDS = ((0.4, 0.0), (0.8, -2.0))


def doubts() -> None:
    """Prints how often doubtful cells are wrong, by reason."""
    import cellclass_tf as cc
    from cellclass_tf.annotation.review import doubts as doubting
    from cellclass_tf.core import cells as nouns
    from cellclass_tf.labels import matching

    for thresholds in _THRESHOLDS:
        finder = cc.CellposeAnnotator(_WEIGHTS.value, None, *thresholds)
        table = []
        for _, image, true in drawn_by_hand(pathlib.Path(_IMAGES.value)):
            diameter = float(np.mean(sizes.diameters_of(sizes.areas_of(true))))
            labels, _, sure = finder.annotate(image, diameter)
            if sure is None:
                raise ValueError("Expected an annotator with probabilities.")
            found = nouns.Cells.from_labels(labels, ("cell",))
            wrong = set(matching.match_cells(true, labels, 0.5).invented.tolist())
            listed = doubting.doubtful_cells(image, found, diameter, sure)
            reasons = {doubt.cell: doubt.reasons for doubt in listed}
            for cell in range(1, len(found) + 1):
                table.append((reasons.get(cell, ()), cell in wrong, sure[cell - 1]))
        wrong_cells = sum(row[1] for row in table)
        caught = sum(row[1] for row in table if row[0])
        print(f"\nflow_threshold {thresholds[0]}, cellprob_threshold {thresholds[1]}")
        print("| reason | number of cells | fraction wrong |\n|---|---|---|")
        for reason in doubting.REASONS:
            has = [row[1] for row in table if reason in row[0]]
            print(f"| {reason} | {len(has)} | {_share(sum(has), len(has))} |")
        rest = [row[1] for row in table if not row[0]]
        print(f"| not doubtful | {len(rest)} | {_share(sum(rest), len(rest))} |")
        print(f"The list contains {caught} of {wrong_cells} wrong cells; ", end="")
        good = np.array([row[2] for row in table if not row[1]])
        bad = np.array([row[2] for row in table if row[1]])
        ranks = (bad[:, None] < good).mean() + 0.5 * (bad[:, None] == good).mean()
        print(f"AUC of the probability: {ranks:.3f}", flush=True)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2f}" if whole else "–"


def _headers(finders) -> list[str]:
    kinds = ("AP50", "AP75", "AP50, own diameter", "s")
    return [f"{name} {kind}" for name in finders for kind in kinds]


def _numbers(row) -> str:
    return " | ".join(
        f"{x:.3f}" if n % 4 != 3 else f"{x:.1f}" for n, x in enumerate(row)
    )


def overhead() -> None:
    """Prints the time of `annotate` outside of cellpose's own `eval`, in one run."""
    import cellclass_tf as cc
    from cellclass_tf.core.manifest import ImageRow
    from cellclass_tf.storage import png

    root = pathlib.Path(_FOLDER.value) / "overhead"
    shutil.rmtree(root, ignore_errors=True)
    study = cc.Study.create(root)
    rows, cells = [], 0
    for number, (image, labels) in enumerate(simulated(_FIELDS.value)):
        rows.append(ImageRow(f"HEK/{number}.png", "HEK", group="dish"))
        png.write_png(study.image_path(rows[-1]), image)
        cells += int(labels.max())
    study.update(rows)
    with _TimedEval() as spent:
        start = time.perf_counter()
        outcome = cc.annotate(study, model=_WEIGHTS.value, diameter=45, device="cpu")
        total = time.perf_counter() - start
    if outcome.failures:
        raise RuntimeError(str(outcome.failures))
    around = total - spent["eval"] - spent["load"]
    count = len(rows)
    print(f"{count} fields, {cells / count:.0f} cells per field")
    print(f"loading the weights, once             {spent['load']:8.2f} s")
    print(f"cellpose's eval, per field            {spent['eval'] / count:8.2f} s")
    print(f"everything else, per field            {around / count:8.3f} s")
    print(
        f"everything else / cellpose's eval     {100 * around / spent['eval']:8.2f} %"
    )


class _TimedEval:
    """Measures the seconds in cellpose's `eval` and in loading its weights."""

    def __enter__(self) -> dict[str, float]:
        from cellpose import models

        self.spent = {"load": 0.0, "eval": 0.0}
        self._model = models.CellposeModel
        self._kept = self._model.eval, self._model.__init__
        self._model.eval = self._counted(self._kept[0], "eval")
        self._model.__init__ = self._counted(self._kept[1], "load")
        return self.spent

    def __exit__(self, *_) -> None:
        self._model.eval, self._model.__init__ = self._kept

    def _counted(self, function: Callable, name: str) -> Callable:
        def counted(*args, **kwargs):
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent[name] += time.perf_counter() - start

        return counted


def writing() -> None:
    """Prints the time to write a field's cells: our label image, or one PNG per cell."""
    from PIL import Image

    from cellclass_tf.core.cells import Cells

    folder = pathlib.Path(_FOLDER.value) / "writing"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _, labels = next(simulated(1))
    cells = Cells.from_labels(contiguous(labels), ("HEK",), "HEK")
    times: dict[str, list[float]] = {"one PNG per cell": [], "label image": []}
    for _ in range(3):
        start = time.perf_counter()
        for label in range(1, len(cells) + 1):
            mask = ((cells.labels == label) * 255).astype(np.uint8)
            Image.fromarray(mask).save(folder / f"a_mask_out_{label}.png")
        merged = Image.fromarray(cells.labels.astype(np.uint16))
        merged.save(folder / "a_mergeMasks.png")
        times["one PNG per cell"].append(time.perf_counter() - start)
        start = time.perf_counter()
        cells.write(folder / "a.tif")
        times["label image"].append(time.perf_counter() - start)
    one, ours = (float(np.median(seconds)) for seconds in times.values())
    print(f"{len(cells)} cells: one PNG per cell {one:.3f} s, label image {ours:.4f} s")
    print(f"ratio 1/{one / ours:.0f}")


def export(count: int) -> None:
    """Makes a study, or exports it as COCO; runs in a separate process."""
    import cellclass_tf as cc
    from cellclass_tf.core.cells import Cells
    from cellclass_tf.core.manifest import ImageRow
    from cellclass_tf.storage import png

    root = pathlib.Path(_FOLDER.value) / f"study_{count}"
    output = root.with_name(f"coco_{count}")
    if _TASK.value == "make":
        study = cc.Study.create(root)
        drawn, rows = list(simulated(4)), []
        for number in range(count):
            image, labels = (np.rot90(x, number // 4 % 4) for x in drawn[number % 4])
            row = ImageRow(f"HEK/{number:05d}.png", "HEK", group=f"dish{number % 20}")
            png.write_png(study.image_path(row), np.ascontiguousarray(image))
            cells = Cells.from_labels(contiguous(labels), study.cell_types, "HEK")
            cells.write(study.cells_path(row))
            rows.append(row)
        study.update(rows)
        return
    start = time.perf_counter()
    outcome = cc.export_coco(root, output)
    seconds = time.perf_counter() - start
    size = sum(p.stat().st_size for p in output.glob("annotations/*.json")) / 1e6
    print(json.dumps([count, len(outcome.done), seconds, processes.peak_mb(), size]))


def main(_) -> None:
    """Prints the results of the chosen measurements."""
    if _TASK.value:
        export(int(_EXPORTED.value[0]))
        return
    for name, function in (
        ("scores", scores),
        ("doubts", doubts),
        ("overhead", overhead),
        ("writing", writing),
    ):
        if name in _ONLY.value:
            print(f"\n{name}")
            function()
    if "export" in _ONLY.value:
        print(
            "\n| fields | s | ms per field | peak MB | MB of JSON |\n|---|---|---|---|---|"
        )
        for count in _EXPORTED.value:
            root = pathlib.Path(_FOLDER.value)
            for name in ("study", "coco"):
                shutil.rmtree(root / f"{name}_{count}", ignore_errors=True)
            flags = {flag.name: flag.value for flag in (_FOLDER, _WEIGHTS)}
            flags["exported"] = count
            processes.run_again(__spec__.name, task="make", **flags)
            found = processes.run_again(__spec__.name, task="export", **flags)
            count, done, seconds, peak, size = found
            each = 1e3 * seconds / done
            print(f"| {done} | {seconds:.1f} | {each:.0f} | {peak:.0f} | {size:.1f} |")
            for name in ("study", "coco"):
                shutil.rmtree(root / f"{name}_{count}")


if __name__ == "__main__":
    app.run(main)
