"""Tests of cellclass_tf.core.manifest_file."""

import contextlib
import dataclasses

import pytest

from cellclass_tf.core import manifest_file
from cellclass_tf.core.manifest import (
    ANNOTATION,
    EDITED_COLUMNS,
    ORIGIN,
    QUALITY,
    SPLIT,
    VERDICT,
)
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json
from cellclass_tf.storage.ledger import Written, ledger_of
from tests import by_hand

ROW = ImageRow("HEK/a.png", "HEK", group="dish1", verdict="accepted", cells=3)


@pytest.fixture
def study(tmp_path):
    study = Study.create(tmp_path / "study")
    study.update([ROW, dataclasses.replace(ROW, image="HEK/b.png")])
    return study


def update(study, *parts, seen=None, **values):
    study.update([dataclasses.replace(ROW, **values)], *parts, seen=seen)
    return study.rows()[0]


@pytest.mark.parametrize(
    ("part", "column", "by_person", "by_program"),
    [
        (VERDICT, "verdict", "rejected", "accepted"),
        (VERDICT, "reason", "bubbles", "glow"),
        (ORIGIN, "group", "dish9", "dish2"),
        (ORIGIN, "cell_type", "N2a", "HEK"),
        (ORIGIN, "pixel_size_um", 0.5, 0.325),
    ],
)
def test_edits_by_a_person_are_not_overwritten(
    study, part, column, by_person, by_program
):
    update(study, part, **{column: by_program})
    by_hand.edit(study, ROW.image, **{column: by_person})
    assert column in study.edited_columns()[ROW.image]
    assert study.edited_columns()["HEK/b.png"] == set()
    for _ in range(2):
        assert getattr(update(study, part, **{column: by_program}), column) == by_person
    # Other images and other columns were not edited.
    other = dataclasses.replace(ROW, image="HEK/b.png", **{column: by_program})
    study.update([other], part)
    assert getattr(study.rows()[1], column) == by_program
    assert update(study, QUALITY, glow_share=0.5).glow_share == 0.5


def test_an_edit_of_a_reason_also_protects_its_verdict(study):
    update(study, VERDICT, verdict="rejected", reason="glow")
    by_hand.edit(study, ROW.image, verdict="accepted")
    row = update(study, VERDICT, verdict="rejected", reason="debris")
    assert (row.verdict, row.reason) == ("accepted", "glow")
    by_hand.edit(study, ROW.image, verdict="", reason="")
    row = update(study, VERDICT, verdict="rejected", reason="debris")
    assert (row.verdict, row.reason) == ("rejected", "debris")


@pytest.mark.parametrize(
    ("part", "values"), [(SPLIT, {"split": "train"}), (ANNOTATION, {"cells": 9})]
)
def test_values_that_changed_since_they_were_read_are_kept(study, part, values):
    seen, ((column, value),) = study.rows(), values.items()
    # A value that has not changed since it was seen may be replaced.
    assert getattr(update(study, part, seen=seen, **values), column) == value
    by_hand.edit(study, ROW.image, **{column: "test" if part == SPLIT else 5})
    other = {column: "validation" if part == SPLIT else 7}
    kept = getattr(update(study, part, seen=seen, **other), column)
    assert kept == ("test" if part == SPLIT else 5)
    assert getattr(update(study, part, seen=study.rows(), **other), column) in (
        *other.values(),
    )


def test_a_table_that_changes_during_an_update_is_read_again(study, monkeypatch):
    parse, saved = manifest_file._parse, []

    def parse_and_save(path, content):
        found = parse(path, content)
        if len(saved) < 2:
            # As a spreadsheet program does that has the table open.
            saved.append(len(saved))
            note = f"note {len(saved)}"
            by_hand.edit(study, "HEK/b.png", verdict="rejected", mine=note)
        return found

    monkeypatch.setattr(manifest_file, "_parse", parse_and_save)
    row = update(study, QUALITY, glow_share=0.5)
    assert row.glow_share == 0.5
    assert study.rows()[1].verdict == "rejected"
    assert "note 2" in study.manifest_path.read_text()
    assert len(saved) == 2


def test_a_table_that_keeps_changing_is_an_error(study, monkeypatch):
    parse = manifest_file._parse

    def parse_and_save(path, content):
        found = parse(path, content)
        path.write_bytes(content + b"HEK/%d.png,HEK\n" % len(content))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(manifest_file, "_parse", parse_and_save)
        with pytest.raises(
            InputError, match=r"images.csv: another program keeps changing"
        ):
            update(study, QUALITY, glow_share=0.5)
    assert study.rows()[0].glow_share is None
    assert len(study.rows()) > 10


@pytest.mark.parametrize("column", ["corrected", "verdict", "split", "group"])
@pytest.mark.parametrize("renamed", [None, "{} ", "Title"])
def test_a_missing_column_of_people_is_an_error(study, column, renamed):
    lines = csv_json.read_csv(study.manifest_path)
    name = column.title() if renamed == "Title" else (renamed or "").format(column)
    lines = [
        {name if key == column else key: value for key, value in line.items()}
        for line in lines
    ]
    columns = [key for key in lines[0] if key]
    rows = [{key: line[key] for key in columns} for line in lines]
    csv_json.write_csv(study.manifest_path, columns, rows)
    content = study.manifest_path.read_bytes()
    found = f", found {name!r}" if name else ", which is missing"
    for call in (study.rows, lambda: update(study, QUALITY, glow_share=0.5)):
        with pytest.raises(
            InputError, match=rf"images.csv: expected the column '{column}'{found}"
        ):
            call()
    assert study.manifest_path.read_bytes() == content


def test_a_table_of_an_earlier_version_lacks_columns(study):
    columns = (*EDITED_COLUMNS, "cells")
    lines = csv_json.read_csv(study.manifest_path)
    rows = [{key: line[key] for key in columns} for line in lines]
    csv_json.write_csv(study.manifest_path, columns, rows)
    assert study.rows()[0] == ROW


def test_notes_in_a_column_without_a_header_are_kept(study):
    lines = study.manifest_path.read_text().splitlines()
    text = f"{lines[0]},,\n{lines[1]},,ask Bo\n{lines[2]},,\n"
    study.manifest_path.write_text(text)
    for _ in range(2):
        assert update(study, QUALITY, glow_share=0.5).glow_share == 0.5
        first, second = csv_json.read_csv(study.manifest_path)
        assert (first[""], second[""]) == ("ask Bo", "")
    by_hand.edit(study, ROW.image, **{"": ""})
    update(study, QUALITY, glow_share=0.4)
    assert "" not in csv_json.read_csv(study.manifest_path)[0]


def test_two_columns_of_one_name_are_an_error(study):
    lines = study.manifest_path.read_text().splitlines()
    text = f"{lines[0]},note,note\n{lines[1]},first,second\n"
    study.manifest_path.write_text(text)
    with pytest.raises(
        InputError, match=r"images.csv: expected columns with different"
    ):
        update(study, QUALITY, glow_share=0.5)
    assert study.manifest_path.read_text() == text


def test_rows_that_a_person_deleted_are_known(study):
    images = [ROW.image, "HEK/b.png", "HEK/killed.png", "HEK/new.png"]
    assert study.lost_rows(images) == []
    # A killed run knows images whose rows it could not write.
    ledger = ledger_of(study.root, study.manifest_path)
    pending = ledger.recording({"HEK/killed.png": Written({})})
    with contextlib.suppress(KeyboardInterrupt), pending:
        raise KeyboardInterrupt
    lines = study.manifest_path.read_text().splitlines(keepends=True)
    study.manifest_path.write_text("".join(lines[:2]))
    assert study.lost_rows(images) == ["HEK/b.png"]
    study.manifest_path.unlink()
    assert study.lost_rows(images) == [ROW.image, "HEK/b.png"]
    update(study, ORIGIN)
    assert study.lost_rows(images) == ["HEK/b.png"]
