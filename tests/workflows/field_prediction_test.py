"""Tests of cellclass_tf.workflows.field_prediction."""

import numpy as np
import pytest

import cellclass_tf as cc
from cellclass_tf import versions
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.run_record import OutlinesRecord
from cellclass_tf.core.study import ImageRow
from cellclass_tf.storage import csv_json, digests, png
from cellclass_tf.workflows import field_prediction, tile_overlaps
from cellclass_tf.workflows.chosen_fields import ChosenField

TYPES = ("HEK", "N2a")


class Model:
    """A model with the parts of `Predictor` that are needed here, without statistics."""

    fingerprint = "model"
    type_names = TYPES
    familiarity = None

    def judge(self, image, cells, *, pixel_size_um):
        """Compares nothing."""


class TwoCells:
    """Outlines a HEK and an N2a cell in every field."""

    record = OutlinesRecord()
    score_threshold = 0.5
    notes = ()

    def version(self, field):
        """Says that only the image decides."""
        return []

    def find(self, predictor, field, image):
        """Returns the cells, and the file that they are from."""
        labels = np.zeros(image.shape[:2], np.int32)
        labels[2:6, 2:6], labels[10:14, 10:14] = 1, 2
        return Cells.from_labels(labels, TYPES, TYPES), {"outlines_file": "a.tif"}


@pytest.fixture
def fields(tmp_path):
    found = []
    for name in "ab":
        path = tmp_path / "images" / f"{name}.png"
        png.write_png(path, np.full((20, 30, 3), (0, 50, 90), np.uint8))
        row = ImageRow(f"mixed/{name}.png", "mixed", group=f"dish {name}")
        found.append(ChosenField(row.stem, row, path, 0.5))
    return found


def work_in(output, before=None):
    return field_prediction.FieldPrediction(
        Model(), TwoCells(), output, 0.5, before or {}
    )


def test_a_field_gets_its_files_and_the_tables_have_all_fields(fields, tmp_path):
    work = work_in(tmp_path / "out")
    results = {field.stem: work(field) for field in fields}
    for field in fields:
        assert all(path.exists() for path in work.job(field).outputs)
        image = field_prediction.image_entry(results[field.stem])
        assert image == {
            "sha256": digests.sha256_of_file(field.image),
            "labels_sha256": digests.sha256_of_file(work.job(field).outputs[0]),
            "outlines_file": "a.tif",
        }
    overlaps = tile_overlaps.Overlaps({})
    assert work.write_tables(fields, results, {"dish b": "drug"}, overlaps) == 0
    cells = csv_json.read_csv(tmp_path / "out" / "cells.csv")
    assert [(row["image"], row["cell_type"], row["condition"]) for row in cells] == [
        ("mixed/a", "HEK", ""),
        ("mixed/a", "N2a", ""),
        ("mixed/b", "HEK", "drug"),
        ("mixed/b", "N2a", "drug"),
    ]
    counts = csv_json.read_csv(tmp_path / "out" / "counts.csv")
    assert [(row["group"], row["cells"]) for row in counts] == [
        ("dish a", "2"),
        ("dish b", "2"),
    ]


def test_a_job_runs_again_if_image_settings_or_algorithm_change(
    fields, tmp_path, monkeypatch
):
    field = fields[0]
    key = work_in(tmp_path / "out").job(field).fingerprint
    assert work_in(tmp_path / "out").job(field).fingerprint == key
    larger = ChosenField(field.stem, field.row, field.image, 0.6)
    stricter = field_prediction.FieldPrediction(
        Model(), TwoCells(), tmp_path / "out", 0.9, {}
    )
    keys = {
        key,
        work_in(tmp_path / "out").job(larger).fingerprint,
        stricter.job(field).fingerprint,
    }
    png.write_png(field.image, np.full((20, 31, 3), (0, 50, 90), np.uint8))
    keys.add(work_in(tmp_path / "out").job(field).fingerprint)
    monkeypatch.setattr(versions, "PREDICTION", versions.PREDICTION + 1)
    keys.add(work_in(tmp_path / "out").job(field).fingerprint)
    assert len(keys) == 5


def test_a_label_image_that_a_person_changed_is_neither_replaced_nor_removed(
    fields, tmp_path
):
    first, second = fields
    work = work_in(tmp_path / "out")
    before = {field.stem: work(field)["image"]["labels_sha256"] for field in fields}
    changed, own = (work.job(field).outputs[0] for field in fields)
    changed.write_bytes(changed.read_bytes() + b"by hand")
    again = work_in(tmp_path / "out", before)
    with pytest.raises(cc.InputError):
        again(first)
    again.forget(first.stem)
    again.forget(second.stem)
    assert changed.exists()
    assert not own.exists()


def test_results_of_earlier_versions_have_only_hashes():
    assert field_prediction.image_entry({"sha256": {"sha256": "5a"}}) == {
        "sha256": "5a"
    }
    assert field_prediction.image_entry({}) == {}
