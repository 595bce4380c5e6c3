"""Tests of cellclass_tf.analysis.conditions."""

import pytest

import cellclass_tf as cc
from cellclass_tf.analysis.conditions import Assignment, conditions_of, read_conditions
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json


@pytest.fixture
def study(tmp_path):
    made = Study.create(tmp_path / "study", ("HEK", "N2a"))
    rows = [ImageRow(f"mixed/{n}.png", "mixed", group=f"d{n % 2}") for n in range(4)]
    made.update(rows)
    return made


def test_the_table_names_every_group_and_keeps_what_a_person_wrote(study):
    path = cc.conditions(study.root)
    rows = csv_json.read_csv(path)
    assert [(row["group"], row["fields"]) for row in rows] == [("d0", "2"), ("d1", "2")]
    # As a spreadsheet saves it, with an additional column.
    path.write_text("group;condition;replicate;dose\nd0;control;mouse 1;0\n")
    study.update([ImageRow("mixed/9.png", "mixed", group="d9")])
    cc.conditions(study)
    rows = {row["group"]: row for row in csv_json.read_csv(path)}
    assert list(rows) == ["d0", "d1", "d9"]
    assert rows["d0"]["condition"] == "control"
    assert rows["d0"]["dose"] == "0"
    assert rows["d0"]["replicate"] == "mouse 1"
    assert rows["d9"]["condition"] == ""


def test_groups_without_a_condition_are_left_out(study):
    assert conditions_of(study) == {}
    path = cc.conditions(study)
    assert conditions_of(study) == {}
    path.write_text("group,condition\nd0, drug\nd1,\n")
    assert conditions_of(study) == {"d0": "drug"}


def test_a_group_without_a_replicate_is_a_replicate_of_its_own(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("group,condition,replicate\na,x,\nb,x,r\nc,,\nz,y,\n")
    found = read_conditions(path, ["a", "b", "c"])
    assert found == {"a": Assignment("x", "a"), "b": Assignment("x", "r")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group,treatment\na,x\n", "missing condition"),
        ("group,condition\na,x\na,y\n", "the group 'a' occurs in the lines 2 and 3"),
        ("group,condition\na,\nb,x\na,\n", "the group 'a' occurs in the lines 2 and 4"),
        ("group,condition\na,\n", "none of the predicted groups"),
        ("group,condition\nq,x\n", "has conditions for q"),
        ("", "none of the predicted groups"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, text, message):
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_conditions(path, ["a", "b"])


def test_every_reader_of_the_table_refuses_a_group_that_occurs_twice(study):
    path = cc.conditions(study.root)
    text = "group,condition\nd0,drug\n,\n,\nd0,control\n"
    path.write_text(text)
    for read in (conditions_of, cc.conditions, lambda s: read_conditions(path, ["d0"])):
        with pytest.raises(InputError, match="'d0' occurs in the lines 2 and 5"):
            read(study)
    assert path.read_text() == text
    path.write_text("group,condition\nd0,drug\n,\n,\n")
    assert conditions_of(study) == {"d0": "drug"}


def test_groups_that_a_spreadsheet_changed_are_found_or_reported(study, caplog):
    path = cc.conditions(study.root)
    # Spaces do not make another group.
    path.write_text("group,condition\nd0 ,drug\n d1,control\n")
    assert conditions_of(study) == {"d0": "drug", "d1": "control"}
    cc.conditions(study)
    assert [row["group"] for row in csv_json.read_csv(path)] == ["d0", "d1"]
    assert not caplog.records
    text = "group,condition\nd0,drug\n1,control\n"
    for read in (
        conditions_of,
        cc.conditions,
        lambda _: read_conditions(path, ["d0", "d1"]),
    ):
        path.write_text(text)
        caplog.clear()
        read(study)
        assert "has conditions of groups without fields: '1'. Did a" in caplog.text
    # Some of the table's groups may not be predicted.
    path.write_text(text)
    caplog.clear()
    read_conditions(path, ["d0"])
    assert not caplog.records
