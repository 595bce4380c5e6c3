"""Tests of exporting: the chosen fields, the written files, and failures."""

import dataclasses
import json

import numpy as np
import pytest
import roifile
import tifffile

import cellclass_tf as cc
from cellclass_tf import errors
from cellclass_tf.analysis import cell_table, table_files
from cellclass_tf.core.run_record import PredictedImage, RunRecord
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.interchange import exporting
from cellclass_tf.interchange.coco import descriptions
from cellclass_tf.microscopy import contrast
from cellclass_tf.storage import csv_json, png
from tests.predictions import write_predictions


@pytest.fixture
def study(tmp_path, cells):
    made = Study.create(tmp_path / "study", cells.type_names)
    for name in ("a", "b"):
        row = ImageRow(f"mixed/{name}.png", "mixed", pixel_size_um=0.5)
        made.update([row])
        png.write_png(made.image_path(row), np.full((90, 120, 3), 40, np.uint8))
        cells.write(made.cells_path(row), types_csv=True)
    return made


def test_every_format_writes_one_file_per_field(study, cells, tmp_path):
    for format, (suffix, _) in exporting._WRITERS.items():
        outcome = cc.export_cells(study.root, tmp_path / format, format=format)
        assert sorted(outcome.done) == ["mixed/a", "mixed/b"]
        assert (tmp_path / format / f"mixed/b{suffix}").exists()
    told = json.loads((tmp_path / "geojson/mixed/a.geojson").read_text())
    first = told["features"][0]["properties"]["measurements"]
    assert first["mean_cytoplasm_grey"] == 40
    assert first["area_um2"] == pytest.approx(cells.areas_px[0] / 4)
    with tifffile.TiffFile(tmp_path / "ome/mixed/a.ome.tif") as file:
        assert 'PhysicalSizeX="0.5"' in file.ome_metadata


def test_exported_cells_have_the_numbers_of_a_label_image_with_a_gap(study, tmp_path):
    path = study.cells_path(study.rows()[0])
    # A person deletes the 2nd of 5 cells.
    labels = tifffile.imread(path)
    tifffile.imwrite(path, np.where(labels == 2, 0, labels))
    lines = path.with_suffix(".csv").read_text().splitlines(keepends=True)
    del lines[2]
    path.with_suffix(".csv").write_text("".join(lines))
    for format in ("imagej", "geojson"):
        cc.export_cells(study.root, tmp_path, format=format)
    rois = roifile.roiread(tmp_path / "mixed/a.zip")
    assert [roi.name.split()[-1] for roi in rois] == ["1", "3", "4", "5"]
    features = json.loads((tmp_path / "mixed/a.geojson").read_text())["features"]
    assert [f["properties"]["name"] for f in features] == ["1", "3", "4", "5"]
    cells = study.read_cells(study.rows()[0])
    assert descriptions.annotation_of(cells, 1)["cell"] == 3


def test_files_of_fields_that_no_longer_count_are_named(study, tmp_path):
    output = tmp_path / "out"
    assert not cc.export_cells(study.root, output, format="imagej").notes
    rejected = next(row for row in study.rows() if row.name == "b")
    study.update([dataclasses.replace(rejected, verdict="rejected")])
    outcome = cc.export_cells(study.root, output, format="imagej")
    (note,) = outcome.notes
    assert "1 files of earlier exports" in note
    assert "mixed/b.zip" in note
    # Other formats have other files.
    assert not cc.export_cells(study.root, output, format="geojson").notes
    (output / "mixed/b.zip").unlink()
    assert not cc.export_cells(study.root, output, format="imagej").notes


def _measurements(path):
    told = json.loads(path.read_text())["features"]
    return [feature["properties"]["measurements"] for feature in told]


def test_geojson_of_a_run_has_the_numbers_of_its_table(tmp_path, cells):
    run = write_predictions(tmp_path / "run", {"mixed/a": cells})
    rows = csv_json.read_csv(run / "cells.csv")
    for row in rows:
        changed = {"time": "3", "repeated": "False", "mean_nuclei_counts": "7.5"}
        row.update(changed, condition="drug")
    rows[1]["repeated"] = "True"
    csv_json.write_csv(run / "cells.csv", list(rows[0]), rows)
    cc.export_cells(run, tmp_path / "out", format="geojson")
    found = _measurements(tmp_path / "out/mixed/a.geojson")
    assert [of["repeated"] for of in found] == [0, 1, 0, 0, 0]
    assert {of["time"] for of in found} == {3}
    assert {of["mean_nuclei_counts"] for of in found} == {7.5}
    assert [of["area_px"] for of in found] == cells.areas_px.tolist()


@pytest.mark.parametrize("format", ["geojson", "spatialdata"])
def test_cells_of_a_study_have_time_and_counts(study, tmp_path, format):
    limits = {"nuclei_limits": "100-610", "cytoplasm_limits": "0-255"}
    row = dataclasses.replace(
        study.rows()[0], scene_name="pos3", time=2, contrast="group", **limits
    )
    study.update([row])
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    png.write_png(study.image_path(row), image)
    if format == "spatialdata":
        spatialdata = pytest.importorskip("spatialdata")
    cc.export_cells(study.root, tmp_path / "out", format=format)
    cells, limits = study.read_cells(row), contrast.limits_by_channel(row)
    wanted = cell_table.cell_table(
        cells, image, name="a", scene=row.place, time=2, limits=limits
    )[0]
    assert wanted["mean_nuclei_counts"]
    if format == "geojson":
        found = _measurements(tmp_path / f"out/{row.stem}.geojson")[0]
    else:
        table = spatialdata.read_zarr(tmp_path / "out/cells.zarr")["cells"].obs
        found = table[table["image"] == row.stem].iloc[0]
        assert found["scene"] == row.place
    for key in ("time", "mean_nuclei_counts", "integrated_cytoplasm_counts"):
        assert found[key] == wanted[key]


def test_wells_in_the_names_of_groups_become_plates(study, tmp_path):
    zarr = pytest.importorskip("zarr", reason="no zarr for Python 3.10")
    rows = {row.name: row for row in study.rows()}
    study.update([dataclasses.replace(rows["a"], group="p1_A01")])
    for _ in range(2):
        outcome = cc.export_cells(study.root, tmp_path / "out", format="plate")
        assert list(outcome.done) == ["mixed/a"]
        assert "the group '' names no well" in outcome.failures["mixed/b"]
    study.update([dataclasses.replace(rows["b"], group="p1_A01")])
    study.image_path(rows["b"]).unlink()
    outcome = cc.export_cells(study.root, tmp_path / "out", format="plate")
    assert list(outcome.done) == ["mixed/a"]
    assert "holds the image too" in outcome.failures["mixed/b"]
    group = zarr.open_group(tmp_path / "out" / "p1.ome.zarr", mode="r")
    assert list(group["A/01"]) == ["0"]
    # A plate that a person changed is not overwritten.
    (tmp_path / "out" / "p1.ome.zarr" / "note.txt").write_text("mine")
    outcome = cc.export_cells(study.root, tmp_path / "out", format="plate")
    assert "is not overwritten" in outcome.failures["mixed/a"]
    assert not outcome.done


def test_each_dish_is_a_plate_of_its_own(study, tmp_path):
    zarr = pytest.importorskip("zarr", reason="no zarr for Python 3.10")
    rows = sorted(study.rows(), key=lambda row: row.image)

    def export(*groups):
        pairs = zip(rows, groups, strict=True)
        study.update([dataclasses.replace(row, group=group) for row, group in pairs])
        return cc.export_cells(study.root, tmp_path / "out", format="plate")

    assert len(export("δ_B02", "β_B02").done) == 2
    for plate, name in (("δ", "mixed/a"), ("β", "mixed/b")):
        group = zarr.open_group(tmp_path / "out" / f"{plate}.ome.zarr", mode="r")
        assert list(group["B/02"]) == ["0"]
        assert group["B/02/0"].attrs["multiscales"][0]["name"] == name
    # Plates that cannot be told apart are not written.
    for first, second in (("plate 1_B02", "plate+1_B02"), ("P_B02", "p_B2")):
        outcome = export(first, second)
        assert not outcome.done
        reason = outcome.failures["mixed/a"]
        assert f"the groups {first!r}, {second!r} are all the well B02" in reason
    outcome = export("P_B02", "p_B03")
    assert len(outcome.done) == 2
    assert "2 files of earlier exports" in outcome.notes[0]
    group = zarr.open_group(tmp_path / "out" / "P.ome.zarr", mode="r")
    assert sorted(group["B"]) == ["02", "03"]


@pytest.mark.parametrize("of", ["study", "run"])
def test_spatialdata_contains_all_readable_fields(study, tmp_path, cells, of):
    spatialdata = pytest.importorskip("spatialdata")
    source = study.root
    if of == "run":
        source = tmp_path / "run"
        images = tuple(PredictedImage(f"mixed/{n}", f"mixed/{n}.png") for n in "ab")
        write_predictions(source, dict.fromkeys(["mixed/a", "mixed/b"], cells))
        RunRecord(study=str(study.root), images=images).write(source / "run.json")
    png.write_png(study.root / "images/mixed/b.png", np.zeros((5, 5, 3), np.uint8))
    outcome = cc.export_cells(source, tmp_path / "out", format="spatialdata")
    assert list(outcome.done) == ["mixed/a"]
    assert "has (5, 5) px" in outcome.failures["mixed/b"]
    read = spatialdata.read_zarr(tmp_path / "out" / "cells.zarr")
    assert set(read["cells"].obs["image"]) == {"mixed/a"}
    assert len(read["cells"]) == len(cells)


def test_an_unreadable_field_of_predictions_fails_alone(tmp_path, cells):
    folder = tmp_path / "run"
    fields = {"mixed/a": cells, "mixed/b": cells}
    write_predictions(folder, fields)
    (folder / "labels/mixed/a.tif").write_bytes(b"broken")
    for format in ("imagej", "coco"):
        outcome = cc.export_cells(folder, tmp_path / format, format=format)
        assert list(outcome.done) == ["mixed/b"]
        assert "a.tif" in outcome.failures["mixed/a"]
    rois = roifile.roiread(tmp_path / "imagej/mixed/b.zip")
    assert len(rois) == len(cells)
    # Without a record of the images, OME-Zarr has no image to hold.
    outcome = cc.export_cells(folder, tmp_path / "zarr", format="zarr")
    assert "holds the image too" in outcome.failures["mixed/b"]


def test_links_that_lead_out_of_the_folder_are_not_followed(tmp_path, cells):
    folder = tmp_path / "run"
    table_files.write_cells_csv(folder / "cells.csv", [], cells.type_names)
    rows = [cell_table.count_row(cells, name="../../x")]
    table_files.write_counts_csv(folder / "counts.csv", rows, cells.type_names)
    with pytest.raises(errors.InputError, match="out of its folder"):
        cc.export_cells(folder, tmp_path / "out", format="imagej")


def test_unknown_formats_and_folders_without_cells_are_rejected(study, tmp_path):
    with pytest.raises(
        errors.InputError, match="Unknown format 'xml'; known are imagej"
    ):
        cc.export_cells(study.root, tmp_path, format="xml")
    empty = Study.create(tmp_path / "empty", ("HEK",))
    with pytest.raises(errors.InputError, match="no fields with cells"):
        cc.export_cells(empty.root, tmp_path / "out", format="ome")
