"""Tests of cellclass_tf.provenance.links."""

import hashlib

import pytest

from cellclass_tf.provenance import links
from cellclass_tf.provenance.links import Link, Trace
from tests.file_events import unreadable

DIGEST = hashlib.sha256(b"new").hexdigest()


@pytest.mark.parametrize(
    ("recorded", "file", "state"),
    [
        (DIGEST, "a.tif", "same"),
        ("0" * 64, "a.tif", "changed"),
        ("", "a.tif", "not recorded"),
        (DIGEST, "lost.tif", "missing"),
        # There is neither a record nor a file.
        ("", "lost.tif", "missing"),
    ],
)
def test_a_file_is_compared_with_its_record(tmp_path, recorded, file, state):
    (tmp_path / "a.tif").write_bytes(b"new")
    link = links.file_link("raw file", [tmp_path / file], recorded, ("scene 1",))
    assert link.state == state
    assert link.is_broken == (state in ("changed", "missing"))
    assert link.says == (str(tmp_path / file), "scene 1")
    found = DIGEST if file == "a.tif" else ""
    assert (link.recorded, link.found) == (recorded, found)


def test_a_file_with_the_recorded_hash_is_preferred_to_the_first_file(tmp_path):
    places = [tmp_path / name for name in ("lost", "old", "new")]
    places[1].write_bytes(b"old")
    places[2].write_bytes(b"new")
    fits = links.file_link("raw file", places, DIGEST)
    assert (fits.state, fits.says) == ("same", (str(places[2]),))
    # If no file has the recorded hash, the first existing one is used.
    other = links.file_link("raw file", places, "0" * 64)
    assert (other.state, other.says) == ("changed", (str(places[1]),))
    nowhere = links.file_link("raw file", [], DIGEST)
    assert (nowhere.state, nowhere.is_broken) == ("not recorded", False)


def test_only_folders_that_look_like_data_are_read(tmp_path):
    for name in ("a.zarr", "model", "home"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "b").write_text("1")
    (tmp_path / "model" / "saved_model.pb").write_text("network")
    assert len(links.sha256_if_readable(tmp_path / "a.zarr")) == 64
    assert len(links.sha256_if_readable(tmp_path / "model")) == 64
    assert links.sha256_if_readable(tmp_path / "home") == ""


def test_a_file_that_cannot_be_read_counts_as_missing(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"new")
    with unreadable(path):
        link = links.file_link("raw file", [path], DIGEST)
    assert (link.state, link.found) == ("missing", "")


def test_a_trace_is_a_table_that_ends_with_the_broken_links():
    changed = Link("raw file", "changed", ("a.tif", "scene 1"), "1" * 64, "2" * 64)
    good = Link("model", "same", ("m",), "3" * 64, "3" * 64)
    trace = Trace("Cell 2 of a", (good, changed, Link("cells", "missing", ("c",))))
    assert not trace.passed
    assert str(trace).splitlines() == [
        "Cell 2 of a",
        "",
        "= same          model           m",
        " " * 32 + "SHA-256 333333333333",
        "X changed       raw file        a.tif",
        " " * 32 + "scene 1",
        " " * 32 + "SHA-256 was 111111111111, is 222222222222",
        "! missing       cells           c",
        "",
        "Broken: raw file (changed), cells (missing).",
    ]


def test_links_that_nothing_can_confirm_do_not_break_a_trace():
    stated = Link("quality", "recorded", ("accepted\x1b[2J\nX changed",))
    trace = Trace("a", (stated, Link("raw file", "not recorded", ("b",))))
    assert trace.passed
    # A record may have been written by anybody, and must not add lines to the table.
    assert str(trace).splitlines()[2:] == [
        "- recorded      quality         accepted?[2J?X changed",
        "? not recorded  raw file        b",
        "",
        "Every link that was recorded holds.",
    ]


def test_paths_below_the_working_folder_are_shown_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert links.shorten(tmp_path / "raw" / ".." / "a.tif") == "a.tif"
    assert links.shorten(tmp_path.parent / "b.tif") == str(tmp_path.parent / "b.tif")
