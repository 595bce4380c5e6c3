"""Tests of cellclass_tf.batch.journal."""

import pytest

from cellclass_tf.batch.jobs import Job
from cellclass_tf.batch.journal import Journal
from cellclass_tf.errors import InputError


def test_the_last_entry_of_a_job_counts(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    for fingerprint, result in (("x", 1), ("y", [2])):
        assert journal.append(Job("a", None, fingerprint), result) is None
    journal.append(Job("b", None), None)
    assert journal.read() == {
        "a": {"name": "a", "fingerprint": "y", "result": [2]},
        "b": {"name": "b", "fingerprint": "", "result": None},
    }


def test_a_new_journal_is_empty_and_makes_its_folder(tmp_path):
    journal = Journal(tmp_path / "new" / ".journal" / "a.jsonl")
    assert journal.read() == {}
    assert journal.results() == {}
    journal.remember({"a": 1})
    assert journal.results() == {"a": 1}


def test_remembered_results_replace_earlier_ones(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.remember({"a": 1, "b": 2})
    journal.remember({"b": {"cells": 3}, "µ\n2": 4})
    assert journal.results() == {"a": 1, "b": {"cells": 3}, "µ\n2": 4}


def test_lines_that_are_not_entries_are_ignored(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'7\n["name"]\n{"name": "a", "result": 1}\n\xff\xfe\nnull\n')
    journal = Journal(path)
    assert journal.read() == {}
    journal.remember({"b": 2})
    assert journal.results() == {"b": 2}


def test_an_entry_after_an_incomplete_line_is_complete(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.remember({"a": 1, "b": 2})
    text = journal.path.read_text()
    journal.path.write_text(text[:-4])
    journal.remember({"c": 3})
    assert journal.results() == {"a": 1, "c": 3}


def test_a_failure_to_record_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file" / "journal.jsonl")
    reason = journal.append(Job("a\nb", None), 1)
    assert reason.startswith(r"a\nb: done, but this cannot be recorded (")
    assert "\n" not in reason
    with pytest.raises(InputError, match="c: done, but this cannot be recorded"):
        journal.remember({"c": 1})


def test_a_journal_that_is_not_a_file_is_an_error_or_ignored(tmp_path):
    (tmp_path / "j.jsonl").mkdir()
    with pytest.raises(InputError, match=r"j.jsonl: expected a file"):
        Journal(tmp_path / "j.jsonl").read()
    assert Journal(tmp_path / "j.jsonl", must_record=False).read() == {}
