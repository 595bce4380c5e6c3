"""Tests of cellclass_tf.workflows.tile_overlaps, by way of `predict`."""

import dataclasses
import json
import shutil

import jsonschema
import numpy as np
import pytest
import tifffile

import cellclass_tf as cc
from cellclass_tf import batch
from cellclass_tf.analysis import overlaps
from cellclass_tf.core.manifest import ImageRow
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.storage import csv_json
from cellclass_tf.workflows import tile_overlaps
from cellclass_tf.workflows.chosen_fields import ChosenField
from tests import tiles
from tests.fake_model import save_model
from tests.microscopy.formats.czi_test import MOSAIC

pytestmark = pytest.mark.usefixtures("no_report")
# Cells that the middle line between two tiles cuts may be cut by a tile's edge, too.
MOST_OFF = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


def write_labels(folder, name, labels):
    """Writes the outlines of a tile, numbered anew, without cells cut to a few pixels."""
    areas = np.bincount(labels.ravel())
    labels = np.where(areas[labels] < 20, 0, labels)
    _, numbers = np.unique(labels, return_inverse=True)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.tif"
    tifffile.imwrite(path, numbers.reshape(labels.shape).astype(np.uint16))


def recorded(corner, seeds, rng):
    """(T, 2, Y, X) pixels of a tile of the areas of these seeds."""
    return np.stack(
        [tiles.recorded(tiles.area(seed).pixels, corner, rng) for seed in seeds]
    )


def make_study(
    folder,
    *,
    in_one_file,
    axes=(1, 0, 1, 1),
    seeds=(0,),
    positions=True,
    areas=None,
    dish="dish1",
):
    """A study of four tiles, and the folder of their outlines.

    Args:
      folder: to write to.
      in_one_file: whether the tiles are scenes of one file, or a file each.
      axes: of the stage, see `tiles.stage_um`.
      seeds: of the area at each time.
      positions: whether the files have positions.
      areas: seed of the area of each tile, if they differ.
      dish: folder of the dish; '' for none, so that each file is a group of its own.
    """
    rng = np.random.default_rng(0)
    off_px = rng.choice([-3, 3], (4, 2))
    scenes, labels = [], []
    for number, corner in enumerate(tiles.CORNERS):
        of = seeds if areas is None else (areas[number],)
        stage = tiles.stage_um(corner, axes, off_px[number]) if positions else None
        scenes.append((recorded(corner, of, rng), stage))
        labels.append([tiles.cut(tiles.area(seed).labels, corner) for seed in of])
    raw = folder / "raw" / "mixed" / dish
    if in_one_file:
        tiles.write_ome(raw / "scan.ome.tif", scenes)
    else:
        for number, scene in enumerate(scenes):
            tiles.write_ome(raw / f"tile{number}.ome.tif", [scene])
    cc.convert(folder / "raw", folder / "study")
    study = cc.Study.open(folder / "study")
    rows = [dataclasses.replace(row, verdict="accepted") for row in study.rows()]
    study.update(rows)
    for row in rows:
        number = row.scene if in_one_file else int(row.name[len("tile")])
        write_labels(folder / "outlines", row.name, labels[number][row.time])
    return study


def predict(model, folder, out="out", **options):
    """Predicts, and returns (outcome, predictions, rows of cells.csv)."""
    outcome = cc.predict(
        model, folder / "study", folder / out, outlines=folder / "outlines", **options
    )
    assert not outcome.failures
    return (
        outcome,
        Predictions(folder / out),
        csv_json.read_csv(folder / out / "cells.csv"),
    )


def total(predictions, key="cells"):
    return sum(int(row[key]) for row in predictions.count_rows)


@pytest.mark.parametrize(
    ("in_one_file", "axes"),
    [(True, (1, 0, 1, 1)), (True, (1, 0, -1, 1)), (False, (0, 1, -1, 1))],
)
def test_cells_of_overlapping_tiles_are_counted_once(
    model, tmp_path, in_one_file, axes
):
    study = make_study(tmp_path, in_one_file=in_one_file, axes=axes)
    assert all(row.stage_um for row in study.rows())
    outcome, predictions, cells = predict(model, tmp_path)
    truth = int(tiles.area().labels.max())
    found = [row for row in cells if row["repeated"] == "False"]
    # About a fifth of the cells is in two tiles, or in all four.
    assert len(cells) > 1.15 * truth
    assert abs(len(found) - truth) <= MOST_OFF
    assert total(predictions) == len(found)
    assert total(predictions, "repeated") == len(cells) - len(found)
    typed = sum(total(predictions, f"n_{name}") for name in predictions.type_names)
    assert typed == len(found)
    area = total(predictions, "area_px")
    assert area == pytest.approx(tiles.AREA_PX**2, rel=0.02)
    for row in predictions.count_rows:
        share = int(row["n_N2a"]) / (int(row["n_N2a"]) + int(row["n_HEK"]))
        assert float(row["share_N2a"]) == pytest.approx(share, rel=1e-5)
    assert f"{len(cells) - len(found)} cells are also in another tile" in str(
        outcome.notes
    )
    # Each type of the mixture is counted in the same cells.
    estimate = cc.mixture(predictions)["estimates"][0]
    assert estimate["cells"] == len(found)
    for name, of in estimate["types"].items():
        assert of["cells"] == sum(row["cell_type"] == name for row in found)
    every = np.concatenate([predictions.probabilities(s) for s in predictions.stems])
    assert len(every) == len(found)
    framed = cc.mixture(predictions, counting_frame=True)["estimates"][0]["types"]
    assert sum(of["cells"] for of in framed.values()) == sum(
        row["in_frame"] == "True" for row in found
    )
    assert predictions.record.overlap_doubt == ""


def test_results_do_not_depend_on_workers_or_an_interrupted_run(model, tmp_path):
    make_study(tmp_path, in_one_file=False)
    predict(model, tmp_path)
    tables = ("cells.csv", "counts.csv", "cells.parquet")
    expected = [(tmp_path / "out" / name).read_bytes() for name in tables]
    predict(model, tmp_path, "two", processes=2)
    # As if it was killed before the last field and the tables were done.
    again = shutil.copytree(tmp_path / "out", tmp_path / "again")
    journal = again / ".journal" / "predict.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(lines[:-1]))
    (again / ".journal" / "overlaps.jsonl").unlink()
    for name in tables:
        (again / name).unlink()
    outcome, *_ = predict(model, tmp_path, "again")
    assert (len(outcome.done), len(outcome.skipped)) == (1, 3)
    for out in ("two", "again"):
        found = [(tmp_path / out / name).read_bytes() for name in tables]
        assert found == expected


def test_a_cell_that_only_a_rejected_tile_shares_is_counted(model, tmp_path):
    study = make_study(tmp_path, in_one_file=True)
    first, *_ = study.rows()
    study.update([dataclasses.replace(first, verdict="rejected", reason="blurred")])
    _, predictions, cells = predict(model, tmp_path)
    numbers = tiles.area().labels.copy()
    # What is in the first tile alone is not counted.
    (y, x) = (tiles.STEP_PX,) * 2
    numbers[:y, :x] = 0
    left = len(np.unique(numbers)) - 1
    found = sum(row["repeated"] == "False" for row in cells)
    # Cells that the edge of the first tile's own area cuts may have their middle in it.
    assert found <= left
    assert total(predictions) == found


def test_each_time_point_is_looked_at_on_its_own(model, tmp_path):
    make_study(tmp_path, in_one_file=True, seeds=(0, 1))
    _, _, cells = predict(model, tmp_path)
    for time, seed in ((0, 0), (1, 1)):
        found = [row for row in cells if int(row["time"]) == time]
        counted = sum(row["repeated"] == "False" for row in found)
        truth = int(tiles.area(seed).labels.max())
        assert len(found) > 1.1 * truth
        assert abs(counted - truth) <= MOST_OFF


def test_wrong_positions_give_one_warning_and_remove_nothing(model, tmp_path):
    make_study(tmp_path, in_one_file=True, areas=(0, 1, 2, 3))
    outcome, predictions, cells = predict(model, tmp_path)
    assert {row["repeated"] for row in cells} == {"False"}
    assert total(predictions) == len(cells)
    (warning,) = (note for note in outcome.notes if "overlap" in note)
    assert "mixed/scan and mixed/scan_s1 overlap by 1" in warning
    assert "(and 3 more pairs)" in warning
    assert "expected at least 0.6" in warning
    assert "check the pixel size (--pixel_size_um)" in warning
    content = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    jsonschema.validate(content, cc.json_schema("run.json"))
    assert content["overlap_doubt"] == warning


def test_files_without_a_dish_are_compared_with_their_folder(model, tmp_path):
    study = make_study(tmp_path / "same", in_one_file=False, dish="")
    assert len({row.group for row in study.rows()}) == 4
    _, predictions, cells = predict(model, tmp_path / "same")
    assert abs(total(predictions) - int(tiles.area().labels.max())) <= MOST_OFF
    # They may be of different dishes, which is no reason for a warning.
    make_study(tmp_path / "other", in_one_file=False, dish="", areas=(0, 1, 2, 3))
    outcome, predictions, cells = predict(model, tmp_path / "other")
    assert total(predictions) == len(cells)
    assert not any("overlap" in note for note in outcome.notes)


def test_without_positions_every_cell_is_counted(model, tmp_path):
    study = make_study(tmp_path, in_one_file=True, positions=False)
    assert {row.stage_um for row in study.rows()} == {None}
    outcome, predictions, cells = predict(model, tmp_path)
    assert {row["repeated"] for row in cells} == {"False"}
    assert total(predictions) == len(cells)
    assert total(predictions, "area_px") == 4 * tiles.TILE_PX**2
    assert not any("tile" in note or "overlap" in note for note in outcome.notes)
    assert not (tmp_path / "out" / ".journal" / "overlaps.jsonl").exists()


def test_an_image_that_cannot_be_read_again_is_a_doubt(model, tmp_path, monkeypatch):
    make_study(tmp_path, in_one_file=True)

    def fail(tiles):
        raise cc.InputError("a.png is broken.")

    monkeypatch.setattr(overlaps, "place_tiles", fail)
    outcome, predictions, cells = predict(model, tmp_path)
    assert total(predictions) == len(cells)
    assert "could not be found out: a.png is broken." in str(outcome.notes)


def test_tiles_of_a_real_mosaic_cover_its_area_once(assets, tmp_path):
    """The CZI has two mosaics, of 10 and 17 tiles of 64 px, and a single field."""
    path = assets / "microscope_files" / "czi" / MOSAIC
    cc.convert(path, tmp_path / "study", cell_type="mixed")
    study = cc.Study.open(tmp_path / "study")
    fields = [
        ChosenField(row.stem, row, study.image_path(row), row.pixel_size_um)
        for row in study.rows()
    ]
    found = tile_overlaps.find(
        fields, journal=batch.Journal(tmp_path / "a.jsonl"), engine=batch.Engine()
    )
    assert not found.doubt
    for time in (0, 1):
        rows = [row for row in study.rows() if row.time == time]
        shown = np.zeros((700, 700), bool)
        for row in rows:
            x, y = (round(place / row.pixel_size_um) for place in row.stage_um)
            shown[y : y + 64, x : x + 64] = True
        shares = [found.placements[row.stem].counted_share(row.stem) for row in rows]
        assert len(rows) == 28
        assert sum(shares) * 64**2 == pytest.approx(shown.sum(), rel=0.01)
        assert shown.sum() < 0.9 * 28 * 64**2


def test_fields_of_two_wells_of_a_plate_are_not_compared(tmp_path):
    fields = []
    for scene, (well, stage_x_um) in enumerate(
        [("A1", 0.0), ("A1", 50.0), ("B1", 0.0)]
    ):
        row = ImageRow(
            image=f"HEK/plate_s{scene}.png",
            cell_type="HEK",
            group=f"HEK/plate/{well}",
            raw_file="HEK/plate.ome.zarr",
            scene=scene,
            pixel_size_um=0.5,
            stage_x_um=stage_x_um,
            stage_y_um=0.0,
        )
        fields.append(ChosenField(row.image[:-4], row, tmp_path / row.image, 0.5))
    (compared,) = tile_overlaps._sets(fields).values()
    assert [field.row.scene for field in compared.fields] == [0, 1]
