"""Tests of cellclass_tf.analysis.table_files."""

import numpy as np
import pytest
from pyarrow import parquet

from cellclass_tf import errors
from cellclass_tf.analysis import cell_table, table_files
from cellclass_tf.core.cells import Cells
from cellclass_tf.storage import csv_json

TYPES = ("HEK", "N2a")


def _cells():
    """Three cells of one pixel: one of each type, and one of unknown type."""
    labels = np.diag([1, 2, 3]).astype(np.int32)
    return Cells.from_labels(labels, TYPES, ["HEK", "N2a", "unknown"])


def test_parts_join_to_the_table_written_at_once(tmp_path):
    tables = [cell_table.cell_table(_cells(), name=name) for name in ("a", "b")]
    table_files.write_cells_csv(tmp_path / "whole.csv", iter(tables), TYPES)
    for number, table in enumerate(tables):
        table_files.write_cells_csv(tmp_path / f"{number}.csv", [table], TYPES)
    parts = [tmp_path / "0.csv", tmp_path / "1.csv"]
    table_files.join_csv(tmp_path / "joined.csv", parts, {})
    whole = csv_json.read_csv(tmp_path / "whole.csv")
    joined = csv_json.read_csv(tmp_path / "joined.csv")
    added = {"repeated": "False", "condition": ""}
    assert joined == [row | added for row in whole]
    assert len(csv_json.read_csv(tmp_path / "whole.csv")) == 6


def test_joined_rows_get_the_condition_of_their_group(tmp_path):
    for name, group in (("a", 'dish "1", left'), ("b", "dish 2")):
        rows = cell_table.cell_table(_cells(), name=name, group=group)
        table_files.write_cells_csv(tmp_path / f"{name}.csv", [rows], TYPES)
    parts = [tmp_path / "a.csv", tmp_path / "b.csv"]
    table_files.join_csv(tmp_path / "all.csv", parts, {'dish "1", left': "10 µM, drug"})
    rows = csv_json.read_csv(tmp_path / "all.csv")
    assert [row["repeated"] for row in rows] == ["False"] * 6
    assert [row["condition"] for row in rows] == ["10 µM, drug"] * 3 + [""] * 3
    assert rows[0]["group"] == 'dish "1", left'


def test_cells_that_count_in_another_tile_are_marked(tmp_path):
    for name in "ab":
        rows = cell_table.cell_table(_cells(), name=name)
        table_files.write_cells_csv(tmp_path / f"{name}.csv", [rows], TYPES)
    parts = [tmp_path / "a.csv", tmp_path / "b.csv"]
    table_files.join_csv(tmp_path / "all.csv", parts, {}, {"a": {2}, "b": {1, 3}})
    table_files.write_parquet(tmp_path / "all.parquet", tmp_path / "all.csv")
    rows = parquet.read_table(tmp_path / "all.parquet").to_pylist()
    marks = [row["repeated"] for row in rows]
    assert marks == [False, True, False, True, False, True]


def test_the_hash_of_cells_does_not_depend_on_conditions(tmp_path):
    hashes = []
    for number, probability in ((1, 0.5), (2, 0.5), (3, 1.5)):
        rows = cell_table.cell_table(
            _cells(), name="a", group="d", min_probability=probability
        )
        table_files.write_cells_csv(tmp_path / "a.csv", [rows], TYPES)
        joined = tmp_path / f"{number}.csv"
        conditions = {"d": f"drug {number}"}
        table_files.join_csv(joined, [tmp_path / "a.csv"], conditions)
        hashes.append(table_files.sha256_of_cells(joined))
    # In the third table the calls are uncertain.
    assert hashes[0] == hashes[1] != hashes[2]
    assert table_files.sha256_of_cells(tmp_path / "a.csv") == hashes[2]


def test_line_breaks_in_names_stay_in_their_cells(tmp_path):
    rows = cell_table.cell_table(_cells(), name="a", group="dish\r1")
    table_files.write_cells_csv(tmp_path / "a.csv", [rows], TYPES)
    table_files.join_csv(
        tmp_path / "all.csv", [tmp_path / "a.csv"], {"dish\r1": "drug\n\r2"}
    )
    table_files.write_parquet(tmp_path / "all.parquet", tmp_path / "all.csv")
    names = [("dish\r1", "drug\n\r2")] * 3
    for found in (
        csv_json.read_csv(tmp_path / "all.csv"),
        parquet.read_table(tmp_path / "all.parquet").to_pylist(),
    ):
        assert [(row["group"], row["condition"]) for row in found] == names


def test_parts_of_other_types_are_refused(tmp_path):
    table_files.write_cells_csv(tmp_path / "0.csv", [], TYPES)
    table_files.write_cells_csv(tmp_path / "1.csv", [], ("CHO",))
    with pytest.raises(errors.InputError, match=r"1.csv: expected the header"):
        table_files.join_csv(
            tmp_path / "j.csv", [tmp_path / "0.csv", tmp_path / "1.csv"], {}
        )
    assert not (tmp_path / "j.csv").exists()


def test_counts_are_written_with_empty_cells_for_none(tmp_path):
    cells = Cells.from_labels(np.zeros((4, 5), np.int32), TYPES)
    rows = [cell_table.count_row(cells, name="a")]
    table_files.write_counts_csv(tmp_path / "counts.csv", rows, TYPES)
    assert csv_json.read_csv(tmp_path / "counts.csv")[0]["share_N2a"] == ""


def _write_in_mixed_order(path, **changes):
    """Writes two fields whose rows alternate, the cells in falling order."""
    tables = [cell_table.cell_table(_cells(), name=name, time=2) for name in ("a", "b")]
    table_files.write_cells_csv(path, tables, TYPES)
    rows = csv_json.read_csv(path)
    mixed = [{**rows[i], **changes} for i in (5, 2, 4, 1, 3, 0)]
    csv_json.write_csv(path, list(mixed[0]), mixed)
    return tables


def test_rows_of_a_field_are_those_that_were_measured(tmp_path):
    path = tmp_path / "cells.csv"
    tables = _write_in_mixed_order(path, repeated="True", comment="by hand")
    rows = table_files.FieldRows(path)
    for name, table in zip("ba", reversed(tables), strict=True):
        assert rows.of(name, 3) == [row | {"repeated": True} for row in table]
    assert rows.of("without cells", 0) == []


@pytest.mark.parametrize(
    ("image", "changes", "message"),
    [
        ("c", {}, r"cells.csv: expected 3 rows of numbers for 'c'; got 0 rows"),
        ("a", {"area_px": "1,5"}, r"expected 3 rows of numbers for 'a'; .*'1,5'"),
    ],
)
def test_missing_rows_and_invalid_numbers_are_reported(
    tmp_path, image, changes, message
):
    _write_in_mixed_order(tmp_path / "cells.csv", **changes)
    with pytest.raises(errors.InputError, match=message):
        table_files.FieldRows(tmp_path / "cells.csv").of(image, 3)
