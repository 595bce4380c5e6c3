"""Pickled .npy files: data comes back as numpy reads it, and nothing is run."""

import builtins
import os
import pathlib

import numpy as np
import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.storage import pickled_npy


def _save(path, value):
    np.save(path, np.array(value, object), allow_pickle=True)


class _Call:
    """Unpickled without care, it calls a function."""

    def __init__(self, function, *args):
        self._call = function, args

    def __reduce__(self):
        return self._call


@pytest.mark.parametrize(
    ("function", "name"),
    [(pathlib.Path.touch, "pathlib"), (os.mkdir, "mkdir"), (builtins.eval, "eval")],
)
def test_whatever_is_no_data_is_refused_and_not_run(tmp_path, function, name):
    trap = tmp_path / "trap"
    argument = f"open({str(trap)!r}, 'w')" if function is eval else trap
    _save(tmp_path / "bad.npy", {"numbers": _Call(function, argument)})
    with pytest.raises(InputError, match=rf"bad\.npy: .*{name}.*Nothing of it was run"):
        pickled_npy.load(tmp_path / "bad.npy")
    assert not trap.exists()


def test_records_are_refused(tmp_path):
    records = np.zeros(2, [("x", "i4"), ("y", "f8")])
    _save(tmp_path / "records.npy", {"records": records})
    with pytest.raises(InputError, match="the data type 'V12'"):
        pickled_npy.load(tmp_path / "records.npy")


def test_real_size_model_reads_as_numpy_reads_it(assets):
    path = assets / "weights" / "size_cellpose_unet_scellseg.npy"
    oracle = np.load(path, allow_pickle=True).item()
    value = pickled_npy.load(path)
    assert set(value) == set(oracle)
    for key, expected in oracle.items():
        np.testing.assert_array_equal(value[key], expected)
        assert np.asarray(value[key]).dtype == np.asarray(expected).dtype


def test_pickled_data_of_all_kinds_comes_back(tmp_path):
    value = {
        "matrix": np.arange(6, dtype=">u2").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "texts": np.array(["a", "bc"]),
        "ragged": np.array([np.arange(2), np.arange(3)], object),
        "scalar": np.float32(1.5),
        "list": [1, (2.5, None), b"\x00\xff", {"x": True}],
    }
    _save(tmp_path / "value.npy", value)
    back = pickled_npy.load(tmp_path / "value.npy")
    for key in ("matrix", "fortran", "texts"):
        np.testing.assert_array_equal(back[key], value[key])
        assert back[key].dtype == value[key].dtype
    assert [a.tolist() for a in back["ragged"]] == [[0, 1], [0, 1, 2]]
    assert back["scalar"] == 1.5
    assert back["list"] == value["list"]


def test_plain_arrays_need_no_pickle(tmp_path):
    np.save(tmp_path / "plain.npy", np.arange(3))
    assert pickled_npy.load(tmp_path / "plain.npy").tolist() == [0, 1, 2]


class _ForgedDtype:
    """numpy's dtype of objects, told that it holds none."""

    def __reduce__(self):
        state = (3, "|", None, None, None, -1, -1, 0)
        return np.dtype, ("O8", False, True), state


class _ForgedArray:
    """An array whose bytes numpy would take for the address of an object."""

    def __reduce__(self):
        reconstruct = np.zeros(1).__reduce__()[0]
        state = (1, (1,), _ForgedDtype(), False, b"\x41" * 8)
        return reconstruct, (np.ndarray, (0,), b"b"), state


def test_forged_addresses_of_objects_never_become_objects(tmp_path):
    _save(tmp_path / "forged.npy", {"extra": _ForgedArray()})
    with pytest.raises(InputError, match=r"forged\.npy: expected a \.npy file"):
        pickled_npy.load(tmp_path / "forged.npy")


@pytest.mark.parametrize("content", [b"", b"PNG", b"\x93NUMPY\x01\x00\x10\x00{"])
def test_broken_npy_names_the_file(tmp_path, content):
    (tmp_path / "broken.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.npy: expected a \.npy file"):
        pickled_npy.load(tmp_path / "broken.npy")


def test_lists_that_share_their_parts_are_read_at_once(tmp_path):
    shared = []
    for _ in range(60):
        shared = [shared, shared]
    path = tmp_path / "shared.npy"
    np.save(path, np.array({"masks": shared}, object), allow_pickle=True)
    assert list(pickled_npy.load(path)) == ["masks"]


def test_header_that_cannot_be_parsed_is_refused(tmp_path):
    path = tmp_path / "torn.npy"
    np.save(path, np.zeros(3))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"'descr'", b"(((((((", 1))
    with pytest.raises(InputError, match=r"torn\.npy: expected a \.npy file"):
        pickled_npy.load(path)
