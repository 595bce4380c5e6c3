"""Tests of cellclass_tf.analysis.spot_check.labels."""

import dataclasses

import pytest

import cellclass_tf as cc
from cellclass_tf.analysis import table_files
from cellclass_tf.analysis.spot_check import labels
from cellclass_tf.analysis.spot_check.labels import CANNOT_TELL, NOT_A_CELL
from cellclass_tf.analysis.spot_check.sample import Sample
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.errors import InputError
from cellclass_tf.storage import digests
from tests.spot_check import checked_predictions, rows_of, write_table


@pytest.fixture
def checked(tmp_path):
    """Makes a folder of predictions with a spot check; returns it and the sample."""
    folder = checked_predictions(tmp_path)
    cc.spotcheck(folder, cells=30)
    return folder, Sample.read(folder / "spotcheck" / "sample.json")


def test_labels_are_kept_and_a_second_import_adds_to_those_of_a_person(checked):
    folder, drawn = checked
    table = write_table(folder.parent / "a.csv", rows_of(drawn, windows=3))
    found = cc.import_spotcheck(folder, table)
    assert found.windows == {"Ana": 3}
    assert found.agreement is None
    write_table(table, rows_of(drawn))
    cc.import_spotcheck(folder, table)
    ben = write_table(folder.parent / "b.csv", rows_of(drawn, "Ben", windows=2))
    both = cc.import_spotcheck(folder, ben)
    assert both.windows == {"Ana": len(drawn.windows), "Ben": 2}
    assert "3 of" not in str(both)
    assert "0 got different labels" in str(both)


def other_type(call):
    return "N2a" if call == "HEK" else "HEK"


@pytest.mark.parametrize("name", ["Ana", ""])
def test_labels_are_only_replaced_by_others_of_the_same_name_if_asked(checked, name):
    folder, drawn = checked
    kept = folder / "spotcheck" / "labels.csv"
    table = folder.parent / "a.csv"
    cc.import_spotcheck(folder, write_table(table, rows_of(drawn, name)))
    before = kept.read_text()
    for rows in (
        rows_of(drawn, name, windows=3),
        rows_of(drawn, name, label=other_type),
        # A window that was finished is not any more.
        rows_of(drawn, name)[:-1],
    ):
        write_table(table, rows)
        with pytest.raises(InputError, match=r"a.csv, .*older table.*--overwrite"):
            cc.import_spotcheck(folder, table)
        assert kept.read_text() == before
    write_table(table, rows_of(drawn, name, windows=3))
    found = cc.import_spotcheck(folder, table, overwrite=True)
    assert found.windows == {name: 3}
    (copy,) = folder.glob(".trash/*/spotcheck/labels.csv")
    assert copy.read_text() == before


def test_labels_of_a_new_person_leave_those_of_others_as_they_are(checked):
    folder, drawn = checked
    cc.import_spotcheck(folder, write_table(folder.parent / "a.csv", rows_of(drawn)))
    ben = rows_of(drawn, "Ben", windows=2, label=other_type)
    cc.import_spotcheck(folder, write_table(folder.parent / "b.csv", ben))
    found = labels.read_labels(Predictions(folder), drawn)
    assert len(found["Ana"]) == len(drawn.windows)
    assert not list(folder.glob(".trash/*"))


@pytest.mark.parametrize("first", ["", "Ana"])
def test_each_of_several_people_needs_a_name(checked, first):
    folder, drawn = checked
    second = "Ana" if not first else ""
    table = write_table(folder.parent / "a.csv", rows_of(drawn, first))
    cc.import_spotcheck(folder, table)
    table = write_table(folder.parent / "b.csv", rows_of(drawn, second))
    nameless = "labels.csv" if not first else "b.csv"
    with pytest.raises(InputError, match=rf"{nameless}: these labels have no name"):
        cc.import_spotcheck(folder, table)


@pytest.mark.parametrize("name", ["ana mayer", "Ana  Mayer", "ANA MAYER"])
def test_a_name_in_another_spelling_is_the_same_person(checked, name):
    folder, drawn = checked
    rows = rows_of(drawn, "Ana Mayer", windows=8)
    cc.import_spotcheck(folder, write_table(folder.parent / "a.csv", rows))
    table = write_table(folder.parent / "b.csv", rows_of(drawn, name))
    found = cc.import_spotcheck(folder, table)
    assert found.windows == {name: len(drawn.windows)}
    assert found.agreement is None
    write_table(table, rows_of(drawn, name, label=other_type))
    with pytest.raises(InputError, match="older table"):
        cc.import_spotcheck(folder, table)


def test_two_spellings_that_an_earlier_version_kept_give_no_agreement(checked):
    folder, drawn = checked
    rows = rows_of(drawn, "Ana") + rows_of(drawn, "ana")
    write_table(folder / "spotcheck" / "labels.csv", rows)
    reason = cc.mixture(folder)["spot_check"]["reason"]
    assert "has two labels. The names Ana and ana count as one person" in reason


def test_a_person_without_a_finished_window_does_not_count_as_one_who_labelled(checked):
    folder, drawn = checked
    cc.import_spotcheck(folder, write_table(folder.parent / "a.csv", rows_of(drawn)))
    of_ben = [row for row in rows_of(drawn, "Ben", windows=1) if row["kind"] != "done"]
    found = cc.import_spotcheck(folder, write_table(folder.parent / "b.csv", of_ben))
    assert found.windows == {"Ana": len(drawn.windows), "Ben": 0}
    assert found.agreement is None
    told = cc.mixture(folder)["spot_check"]
    assert told["labellers"] == ["Ana"]
    assert told["agreement"] is None


def test_labels_stay_valid_if_only_the_conditions_of_dishes_change(checked, tmp_path):
    folder, drawn = checked
    parts = [(folder / "cells.csv").rename(tmp_path / "part.csv")]
    table_files.join_csv(folder / "cells.csv", parts, {"": "drug"})
    assert labels.current_sample(Predictions(folder)) == drawn
    # Earlier versions recorded the hash of the whole file.
    sha256 = digests.sha256_of_file(folder / "cells.csv")
    dataclasses.replace(drawn, cells_sha256=sha256).write(
        folder / "spotcheck" / "sample.json"
    )
    assert labels.current_sample(Predictions(folder)).windows == drawn.windows


def test_disagreement_is_reported_with_kappa(checked):
    folder, drawn = checked
    other = {"HEK": "N2a", "N2a": "N2a"}.get
    write_table(folder.parent / "in" / "a.csv", rows_of(drawn))
    write_table(folder.parent / "in" / "b.csv", rows_of(drawn, "Ben", label=other))
    found = cc.import_spotcheck(folder, folder.parent / "in").agreement
    hek = sum(call == "HEK" for w in drawn.windows for call in w.cells.values())
    assert found.cells == drawn.labelled_cells
    assert found.differ == hek
    assert found.kappa == pytest.approx(0, abs=1e-9)


def test_kappa_agrees_with_cohens_definition():
    # Computed by hand: 3 of 4 agree, 0.5 by chance.
    said = [("A", "A"), ("A", "A"), ("A", "B"), ("B", "B")]
    one, two = (
        {
            0: labels.LabelledWindow(
                {i: (pair[side],) for i, pair in enumerate(said)}, ()
            )
        }
        for side in (0, 1)
    )
    assert labels.agreement({"a": one, "b": two}).kappa == pytest.approx(0.5)
    assert labels.agreement({"a": one}) is None


def test_two_cells_and_missed_ones_are_read(checked):
    folder, drawn = checked
    rows = rows_of(drawn)
    of = next(row for row in rows if row["kind"] == "cell")
    of |= {"label": "N2a", "second_label": "HEK"}
    rows.insert(
        0, of | {"kind": "missed", "cell": "", "label": "HEK", "second_label": ""}
    )
    cc.import_spotcheck(folder, write_table(folder.parent / "a.csv", rows))
    found = labels.read_labels(Predictions(folder), drawn)["Ana"]
    window = found[of["window"] - 1]
    assert window.cells[of["cell"]] == ("HEK", "N2a")
    assert window.missed == ("HEK",)


def without_done(rows, window):
    """Returns the rows without the one that says that a window is finished."""
    return [r for r in rows if not (r["kind"] == "done" and r["window"] == window)]


@pytest.mark.parametrize("window", [1, 4])
def test_finished_windows_after_an_unfinished_one_are_refused(checked, window):
    folder, drawn = checked
    table = folder.parent / "a.csv"
    write_table(table, without_done(rows_of(drawn), window))
    after = len(drawn.windows) - window
    words = f"a.csv, Ana: window {window} is not finished, so {after} finished"
    with pytest.raises(InputError, match=words):
        cc.import_spotcheck(folder, table)
    # The last window may be unfinished.
    last = len(drawn.windows)
    write_table(table, without_done(rows_of(drawn), last))
    assert cc.import_spotcheck(folder, table).windows == {"Ana": last - 1}


def test_of_labels_that_an_earlier_version_kept_the_first_windows_count(checked):
    folder, drawn = checked
    table = folder / "spotcheck" / "labels.csv"
    write_table(table, without_done(rows_of(drawn), 4))
    assert len(labels.read_labels(Predictions(folder), drawn)["Ana"]) == 3
    ben = write_table(folder.parent / "b.csv", rows_of(drawn, "Ben"))
    found = cc.import_spotcheck(folder, ben)
    assert found.windows == {"Ana": 3, "Ben": len(drawn.windows)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spotcheck": "0123"}, "another spot check"),
        ({"window": "900"}, "window from 1 to"),
        ({"window": "-1"}, "window from 1 to"),
        ({"cell": "999"}, "a cell of window"),
        ({"kind": "guess"}, "one of the kinds cell, missed and done"),
        ({"label": "CHO"}, "labels HEK, N2a, not a cell, cannot tell"),
        ({"kind": "missed", "label": NOT_A_CELL}, "labels HEK, N2a; got"),
        ({"label": CANNOT_TELL, "second_label": "HEK"}, "second_label"),
    ],
)
def test_an_invalid_row_is_reported_with_its_line(checked, change, words):
    folder, drawn = checked
    rows = rows_of(drawn)
    place = next(i for i, row in enumerate(rows) if row["kind"] == "cell")
    rows[place] |= change
    table = write_table(folder.parent / "a.csv", rows)
    with pytest.raises(InputError, match=words) as error:
        cc.import_spotcheck(folder, table)
    assert f"a.csv, line {place + 2}:" in str(error.value)
    assert not (folder / "spotcheck" / "labels.csv").exists()


def test_tables_with_missing_or_duplicate_labels_are_refused(checked):
    folder, drawn = checked
    table = folder.parent / "a.csv"
    rows = rows_of(drawn)
    place = next(i for i, row in enumerate(rows) if row["kind"] == "cell")
    write_table(table, rows[:place] + rows[place + 1 :])
    with pytest.raises(InputError, match=r"as finished, but its cell .* has no label"):
        cc.import_spotcheck(folder, table)
    write_table(table, [*rows, rows[place]])
    with pytest.raises(InputError, match="has two labels"):
        cc.import_spotcheck(folder, table)
    write_table(table, [row for row in rows if row["kind"] != "done"])
    with pytest.raises(InputError, match="the first window is not finished"):
        cc.import_spotcheck(folder, table)
    table.write_text("image,label\na,HEK\n")
    with pytest.raises(InputError, match=r"the table that the page .* saves"):
        cc.import_spotcheck(folder, table)
    with pytest.raises(InputError, match="expected a file"):
        cc.import_spotcheck(folder, folder.parent / "none.csv")
    write_table(folder.parent / "in" / "a.csv", rows)
    write_table(folder.parent / "in" / "b.csv", rows)
    with pytest.raises(InputError, match="'Ana' also labelled another"):
        cc.import_spotcheck(folder, folder.parent / "in")


def test_a_table_that_excel_saved_is_read(checked):
    folder, drawn = checked
    table = write_table(folder.parent / "a.csv", rows_of(drawn))
    text = table.read_text().replace(",", ";").replace("\n", "\r\n")
    table.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert cc.import_spotcheck(folder, table).windows["Ana"] == len(drawn.windows)


def test_labels_of_changed_predictions_are_refused(checked):
    folder, drawn = checked
    table = write_table(folder.parent / "a.csv", rows_of(drawn))
    cells = (folder / "cells.csv").read_text()
    (folder / "cells.csv").write_text(cells.replace("mixed/0,7,HEK", "mixed/0,7,N2a"))
    if (folder / "cells.csv").read_text() == cells:
        (folder / "cells.csv").write_text(
            cells.replace("mixed/0,7,N2a", "mixed/0,7,HEK")
        )
    with pytest.raises(InputError, match=r"other predictions .* SHA-256"):
        cc.import_spotcheck(folder, table)


def test_without_a_spot_check_there_is_nothing_to_import(tmp_path):
    folder = checked_predictions(tmp_path, fields=1)
    with pytest.raises(InputError, match="cellclass spotcheck"):
        cc.import_spotcheck(folder, tmp_path / "a.csv")
