"""Tests of cellclass_tf.files."""

import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest

from cellclass_tf.storage import files


def test_a_block_that_raises_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    "image",
    [
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000,
        np.arange(36, dtype=np.uint8).reshape(3, 4, 3),
    ],
)
def test_a_png_comes_back_as_it_was(tmp_path, image):
    files.write_png(tmp_path / "a.png", image)
    back = files.read_png(tmp_path / "a.png")
    assert back.dtype == image.dtype
    np.testing.assert_array_equal(back, image)


def test_a_header_that_claims_too_many_pixels_is_refused_unread(tmp_path):
    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(header))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
    )
    with pytest.raises(files.InputError, match="200000 x 200000"):
        files.read_png(path)


def test_a_truncated_png_names_the_file(tmp_path):
    path = tmp_path / "a.png"
    files.write_png(path, np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(files.InputError, match=r"a\.png"):
        files.read_png(path)


def test_the_fingerprint_of_a_path_changes_with_its_content(tmp_path):
    path = tmp_path / "a"
    path.write_text("1")
    before = files.fingerprint(path)
    assert before == files.fingerprint(path)
    path.write_text("22")
    assert before != files.fingerprint(path)


def test_half_written_files_of_dead_processes_go_and_others_stay(tmp_path):
    code = (
        "import os, sys; from cellclass_tf import files\n"
        "with files.atomic_path(sys.argv[1]) as part:\n"
        "    part.write_text('half'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.txt"], check=False)
    (dead,) = tmp_path.glob(f"{files.PART_PREFIX}*")
    with files.atomic_path(tmp_path / "b.txt") as at_work:
        elsewhere = tmp_path / f"{files.PART_PREFIX}otherhost-1-x.txt"
        elsewhere.write_text("half")
        files.remove_leftovers(tmp_path)
        assert not dead.exists()
        assert at_work.exists() and elsewhere.exists()
        os.utime(elsewhere, (0, 0))
        files.remove_leftovers(tmp_path)
        assert at_work.exists() and not elsewhere.exists()


def test_colours_of_16_bit_are_read_whole(tmp_path):
    import cv2

    image = np.arange(24, dtype=np.uint16).reshape(2, 4, 3) * 2500
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), image[..., ::-1])
    np.testing.assert_array_equal(files.read_png(path), image)
    # A quarter of the file: the decoder gives nothing.
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(files.InputError, match=r"deep\.png: the PNG cannot be decoded"):
        files.read_png(path)


def test_paths_are_recorded_whole_and_buckets_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.recorded_path("study") == str(tmp_path / "study")
    assert files.recorded_path("../b/./c") == str(tmp_path.parent / "b" / "c")
    assert files.recorded_path("gs://bucket/study") == "gs://bucket/study"


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
def test_what_was_moved_with_its_record_is_looked_for_beside_it(recorded, then, places):
    found = files.places_of(recorded, "/new/out", then)
    assert list(map(str, found)) == places
