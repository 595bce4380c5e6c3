"""Tests of cellclass_tf.storage.paths."""

import pytest

from cellclass_tf.storage import paths


def test_paths_are_recorded_as_absolute_and_bucket_addresses_unchanged(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert paths.recorded_path("study") == str(tmp_path / "study")
    assert paths.recorded_path("../b/./c") == str(tmp_path.parent / "b" / "c")
    assert paths.recorded_path("gs://bucket/study") == "gs://bucket/study"


@pytest.mark.parametrize(
    ("recorded", "then", "places"),
    [
        ("", "", []),
        ("/old/study", "", ["/old/study"]),
        ("/old/study", "/old/out", ["/old/study", "/new/study"]),
        ("/old/out", "/old/out", ["/old/out", "/new/out"]),
        ("study", "", ["/new/out/study", "/new/study", "/study", "study"]),
        ("../study", "", ["../study"]),
    ],
)
def test_files_that_were_moved_with_their_record_are_found(recorded, then, places):
    found = paths.places_of(recorded, "/new/out", then)
    assert list(map(str, found)) == places
