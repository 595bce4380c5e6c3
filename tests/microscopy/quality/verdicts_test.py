"""Tests of cellclass_tf.microscopy.quality.verdicts."""

import dataclasses
import os
import pathlib

import numpy as np
import pytest
import tifffile

import cellclass_tf as cc
from cellclass_tf.core.manifest import Cost, costs_of_rejection
from cellclass_tf.core.study import Study
from cellclass_tf.datasets.culture import field, looks
from cellclass_tf.microscopy.quality import verdicts
from cellclass_tf.storage import csv_json, png
from cellclass_tf.storage.ledger import ledger_of
from tests import by_hand


@pytest.fixture(scope="module")
def cells():
    """Returns a field with cells, (2, 256, 256) uint16."""
    rng = np.random.default_rng(0)
    dish = looks.Dish.random(rng)
    return field.simulate_field({"HEK": 1}, size_px=256, rng=rng, dish=dish).pixels


def write_raw(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(path, pixels, ome=True, metadata=metadata)


@pytest.fixture
def study(tmp_path, cells):
    """Makes a study of one good field and one without cells, in one dish."""
    write_raw(tmp_path / "raw" / "dish1_good.ome.tif", cells)
    write_raw(tmp_path / "raw" / "dish1_none.ome.tif", np.full_like(cells, 100))
    convert(tmp_path)
    return Study.open(tmp_path / "study")


def convert(folder):
    outcome = cc.convert(
        folder / "raw", folder / "study", cell_type="HEK", group=r"dish\d"
    )
    assert not outcome.failures


def killing(last, replace):
    """Returns a function that replaces files, and raises KeyboardInterrupt at one of them."""

    def call(source, target):
        if pathlib.Path(target) == last:
            raise KeyboardInterrupt
        replace(source, target)

    return call


def verdicts_of(study):
    return {row.image: row.verdict for row in study.rows()}


GOOD, NONE = "HEK/dish1_good.png", "HEK/dish1_none.png"


def test_a_rejected_field_is_listed_in_the_manifest_but_not_used(study):
    assert verdicts_of(study) == {GOOD: "accepted", NONE: "rejected"}
    assert [row.image for row in study.accepted_rows()] == [GOOD]
    rejected = study.rows()[1]
    assert "empty" in rejected.reasons
    assert study.read_image(rejected).shape == (256, 256, 3)


def test_each_group_gets_a_contact_sheet(study):
    (sheet,) = (study.root / "quality").iterdir()
    assert sheet.name == "dish1.png"
    assert png.read_png(sheet).ndim == 3


@pytest.mark.parametrize(
    ("image", "verdict", "reason"),
    [(NONE, "accepted", None), (NONE, "accepted", ""), (GOOD, "rejected", "bubbles")],
)
def test_a_verdict_of_a_person_is_kept_in_later_runs(
    study, tmp_path, cells, image, verdict, reason
):
    (row,) = (row for row in study.rows() if row.image == image)
    reason = row.reason if reason is None else reason
    by_hand.edit(study, image, verdict=verdict, reason=reason)
    # A new field of the dish causes all of its fields to be judged again.
    for number in range(2):
        write_raw(tmp_path / "raw" / f"dish1_{number}.ome.tif", cells[:, ::-1])
        convert(tmp_path)
    (after,) = (row for row in study.rows() if row.image == image)
    assert (after.verdict, after.reason) == (verdict, reason)


def test_a_verdict_that_a_person_cleared_is_computed_again(study, tmp_path):
    for row in study.rows():
        by_hand.edit(study, row.image, verdict="", reason="")
    convert(tmp_path)
    assert verdicts_of(study) == {GOOD: "accepted", NONE: "rejected"}


def test_without_recorded_verdicts_none_is_changed(study, tmp_path):
    for row in study.rows():
        by_hand.edit(study, row.image, verdict="accepted", reason="")
    ledger_of(study.root, study.manifest_path).path.unlink()
    convert(tmp_path)
    assert verdicts_of(study) == {GOOD: "accepted", NONE: "accepted"}


def test_a_run_killed_between_record_and_manifest_is_repaired(study, tmp_path):
    # The ledger has both verdicts, and the manifest still has the old one.
    before = study.rows()
    old = dataclasses.replace(before[0], verdict="rejected", reason="old")
    study.update([old])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", killing(study.manifest_path, os.replace))
        patch.setattr(pathlib.Path, "replace", lambda path, new: os.replace(path, new))
        with pytest.raises(KeyboardInterrupt):
            convert(tmp_path)
    assert study.rows()[0].verdict == "rejected"
    convert(tmp_path)
    assert study.rows() == before


def test_verdicts_of_earlier_versions_are_recognized(study, tmp_path):
    ledger_of(study.root, study.manifest_path).path.unlink()
    memory = study.root / ".journal" / "verdicts.json"
    csv_json.write_json(memory, {GOOD: [["rejected", "old"], ["accepted", ""]]})
    by_hand.edit(study, GOOD, verdict="rejected", reason="old")
    by_hand.edit(study, NONE, verdict="accepted", reason="")
    convert(tmp_path)
    assert verdicts_of(study) == {GOOD: "accepted", NONE: "accepted"}


def test_fields_and_cells_lost_by_each_reason_are_counted(study):
    row = study.rows()[1]
    rows = [
        dataclasses.replace(row, reason="empty: 0", cells=None, nuclei_estimate=3),
        dataclasses.replace(row, reason="empty: 0; debris: 20 %", cells=10),
        dataclasses.replace(row, reason="", cells=5),
        dataclasses.replace(row, verdict="accepted", reason="empty: 0", cells=50),
    ]
    assert costs_of_rejection(rows) == {
        "by hand": Cost(1, 5),
        "debris": Cost(1, 10),
        "empty": Cost(2, 13),
    }


def test_a_type_that_is_rejected_more_often_is_reported(tmp_path, cells, caplog):
    blank = np.stack([cells[0], np.full_like(cells[0], 100)])
    for i in range(8):
        write_raw(tmp_path / "raw" / "HEK" / f"h{i}.tif", blank + np.uint16(i))
        write_raw(tmp_path / "raw" / "N2a" / f"n{i}.tif", cells + np.uint16(i))
    with caplog.at_level("WARNING"):
        cc.convert(tmp_path / "raw", tmp_path / "study")
    assert "8 no cytoplasm" in caplog.text
    assert "(8 of 8 HEK, 0 of 8 N2a; p = 0.00016)" in caplog.text


def test_clipped_8_bit_fields_are_accepted_with_a_warning(tmp_path, cells, caplog):
    # Fiji's Auto, saved as 8 bit, leaves 0.35 % of the pixels at 255.
    tops = [np.quantile(plane, 0.99) for plane in cells]
    stretched = [np.clip(p / t * 255, 0, 255) for p, t in zip(cells, tops, strict=True)]
    write_raw(tmp_path / "raw" / "HEK" / "a.tif", np.stack(stretched).astype(np.uint8))
    with caplog.at_level("WARNING"):
        cc.convert(tmp_path / "raw", tmp_path / "study")
    (row,) = Study.open(tmp_path / "study").rows()
    assert row.verdict == "accepted"
    assert row.display_clipped_share > 0.009
    assert "8-bit fields with more than 0.3% of their pixels at 255: 1" in caplog.text
    assert "HEK/a.png" in caplog.text


def test_pure_and_mixed_cultures_are_shown_side_by_side(tmp_path, cells):
    for folder in ("HEK", "N2a", "mixed"):
        write_raw(tmp_path / "raw" / folder / f"{folder}_a.ome.tif", cells)
    study = tmp_path / "study"
    cc.convert(tmp_path / "raw" / "HEK", study, cell_type="HEK")
    sheet = study / "quality" / "pure_and_mixed.png"
    assert not sheet.exists()
    cc.convert(tmp_path / "raw" / "mixed", study, cell_type="mixed")
    two = png.read_png(sheet).shape
    cc.convert(tmp_path / "raw" / "N2a", study, cell_type="N2a")
    three = png.read_png(sheet).shape
    # A column each, in rows of as many fields.
    assert three[1] > 1.4 * two[1]
    assert three[0] == two[0]
    before = sheet.stat().st_mtime_ns
    cc.convert(tmp_path / "raw" / "N2a", study, cell_type="N2a")
    assert sheet.stat().st_mtime_ns == before
    # Without mixed fields there is nothing to compare.
    opened = Study.open(study)
    mixed = [r for r in opened.rows() if r.cell_type == "mixed"]
    opened.update(dataclasses.replace(r, verdict="rejected") for r in mixed)
    write_raw(tmp_path / "raw" / "N2a" / "N2a_b.ome.tif", cells)
    cc.convert(tmp_path / "raw" / "N2a", study, cell_type="N2a")
    assert not sheet.exists()


def test_a_group_does_not_take_the_name_of_another_sheet():
    assert verdicts._slug("pure_and_mixed") != "pure_and_mixed"
    assert verdicts._slug("dish_1") == "dish_1"
