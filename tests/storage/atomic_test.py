"""Tests of cellclass_tf.storage.atomic."""

import os
import subprocess
import sys

import pytest

from cellclass_tf.storage import atomic


def test_a_block_that_raises_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic.atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_half_written_files_of_dead_processes_go_and_others_stay(tmp_path):
    code = (
        "import os, sys; from cellclass_tf.storage import atomic\n"
        "with atomic.atomic_path(sys.argv[1]) as part:\n"
        "    part.write_text('half'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.txt"], check=False)
    (dead,) = tmp_path.glob(f"{atomic.PART_PREFIX}*")
    with atomic.atomic_path(tmp_path / "b.txt") as at_work:
        elsewhere = tmp_path / f"{atomic.PART_PREFIX}otherhost-1-x.txt"
        elsewhere.write_text("half")
        atomic.remove_leftovers(tmp_path)
        assert not dead.exists()
        assert at_work.exists() and elsewhere.exists()
        os.utime(elsewhere, (0, 0))
        atomic.remove_leftovers(tmp_path)
        assert at_work.exists() and not elsewhere.exists()
