"""Tests of cellclass_tf.storage.npz."""

import numpy as np
import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.storage import npz


@pytest.fixture
def path(tmp_path):
    values = np.random.default_rng(0).normal(size=(30, 30)).astype(np.float16)
    np.savez_compressed(tmp_path / "a.npz", values=values, one=np.ones(4))
    return tmp_path / "a.npz"


def test_all_arrays_are_read(path):
    found = npz.read_npz(path)
    assert found.keys() == {"values", "one"}
    assert found["values"].shape == (30, 30)
    assert found["one"].tolist() == [1.0] * 4


def test_a_damaged_archive_is_an_input_error(path):
    """Some damage shows in the file's directory, some when it is decompressed."""
    content, rng, refusals = path.read_bytes(), np.random.default_rng(0), []
    for _ in range(600):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            npz.read_npz(path)
        except InputError as error:
            refusals.append(str(error))
    assert len(refusals) > 400
    assert all("a.npz: the NumPy archive cannot be read" in text for text in refusals)


def test_other_files_and_objects_are_refused(path, tmp_path):
    np.savez(tmp_path / "object.npz", values=np.array([{}], dtype=object))
    path.write_text("no archive")
    for other in ("a.npz", "object.npz", "missing.npz"):
        with pytest.raises(InputError, match="cannot be read"):
            npz.read_npz(tmp_path / other)


def test_an_archive_that_would_fill_the_memory_is_not_unpacked(path):
    assert npz.read_npz(path, 10_000)
    with pytest.raises(InputError, match="it contains over 1000 bytes"):
        npz.read_npz(path, 1000)
