"""Tests of pickled .npy files: data is read as by numpy, and no code is run."""

import builtins
import os
import pathlib
import pickle

import numpy as np
import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.storage import pickled_npy


def _save(path, value):
    np.save(path, np.array(value, object), allow_pickle=True)


class _Call:
    """Calls a function when it is unpickled without care."""

    def __init__(self, function, *args):
        self._call = function, args

    def __reduce__(self):
        return self._call


@pytest.mark.parametrize(
    ("function", "name"),
    [(pathlib.Path.touch, "pathlib"), (os.mkdir, "mkdir"), (builtins.eval, "eval")],
)
def test_anything_but_data_is_rejected_and_not_run(tmp_path, function, name):
    trap = tmp_path / "trap"
    argument = f"open({str(trap)!r}, 'w')" if function is eval else trap
    _save(tmp_path / "bad.npy", {"numbers": _Call(function, argument)})
    with pytest.raises(
        InputError, match=rf"bad\.npy: .*{name}.*No code from it was run"
    ):
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


def test_all_kinds_of_pickled_data_are_read(tmp_path):
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
    """numpy's dtype of objects, with a flag that denies it."""

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
def test_the_error_for_a_damaged_file_names_it(tmp_path, content):
    (tmp_path / "broken.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.npy: expected a \.npy file"):
        pickled_npy.load(tmp_path / "broken.npy")


def test_nested_lists_with_shared_parts_are_read_quickly(tmp_path):
    shared = []
    for _ in range(60):
        shared = [shared, shared]
    path = tmp_path / "shared.npy"
    np.save(path, np.array({"masks": shared}, object), allow_pickle=True)
    assert list(pickled_npy.load(path)) == ["masks"]


def test_a_header_that_cannot_be_parsed_is_rejected(tmp_path):
    path = tmp_path / "torn.npy"
    np.save(path, np.zeros(3))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"'descr'", b"(((((((", 1))
    with pytest.raises(InputError, match=r"torn\.npy: expected a \.npy file"):
        pickled_npy.load(path)


def _npy_of(path, pickled):
    """Returns a file of one object with this pickle."""
    np.save(path, np.array({}, object), allow_pickle=True)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\n") + 1] + pickled)


@pytest.mark.parametrize("put", [b"r\xff\xff\xff\x7f", b"p2147483646\n"])
def test_a_number_in_the_memo_cannot_reserve_much_memory(tmp_path, put):
    path = tmp_path / "memo_seg.npy"
    _npy_of(path, b"\x80\x02}" + put + b".")
    assert path.stat().st_size < 200
    with pytest.raises(InputError, match="asks for the memo's place 214748364"):
        pickled_npy.load(path)


def _nested(make, depth=60):
    shared = make(())
    for _ in range(depth):
        shared = make((shared, shared))
    return shared


@pytest.mark.parametrize("protocol", [0, 2, 3])
def test_a_key_that_takes_too_long_to_hash_is_rejected(tmp_path, protocol):
    # Python itself cannot make a dictionary with such a key.
    pickled = pickle.dumps(_nested(tuple), protocol)
    head = pickled[: 2 * (protocol >= 2)]
    pickled = head + b"(d" + pickled[len(head) : -1] + b"Ns."
    _npy_of(tmp_path / "a.npy", pickled)
    with pytest.raises(InputError, match="a key of a dictionary that is neither"):
        pickled_npy.load(tmp_path / "a.npy")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("value", [{"a": 1, (1, 2): 3}, {(1,): 3}, {"a": {(2, 3): 1}}])
def test_keys_may_be_texts_and_numbers(tmp_path, value, protocol):
    _npy_of(tmp_path / "a.npy", pickle.dumps(value, protocol))
    with pytest.raises(InputError, match="a key of a dictionary"):
        pickled_npy.load(tmp_path / "a.npy")


@pytest.mark.parametrize("value", [{"a": {1, 2}}, {"a": frozenset([1])}])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_set_is_rejected(tmp_path, value, protocol):
    _npy_of(tmp_path / "a.npy", pickle.dumps(value, protocol))
    with pytest.raises(InputError, match=r"asks for .*set, which is not plain data"):
        pickled_npy.load(tmp_path / "a.npy")


def test_a_removed_mark_does_not_hide_a_key(tmp_path):
    # The pair that is set is ((), 1); without removing the mark, another key would be checked.
    _npy_of(tmp_path / "a.npy", b"\x80\x02}(0)K\x01s.")
    with pytest.raises(InputError, match="a key of a dictionary"):
        pickled_npy.load(tmp_path / "a.npy")


def test_nested_arrays_with_shared_parts_are_read_quickly(tmp_path):
    def array(parts):
        made = np.empty(2, object)
        made[:] = [*parts, None, None][:2]
        return made

    _save(tmp_path / "shared.npy", {"extra": _nested(array)})
    assert list(pickled_npy.load(tmp_path / "shared.npy")) == ["extra"]


def test_a_header_that_claims_more_bytes_than_the_file_has_is_rejected(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(10))
    content = (tmp_path / "a.npy").read_bytes()
    # The text has the same length, so that the header's length stays valid.
    claimed = content.replace(b"(10,), }      ", b"(9999999999,)}", 1)
    assert claimed != content
    (tmp_path / "a.npy").write_bytes(claimed)
    with pytest.raises(InputError, match="claims 79999999992 bytes, but there are 208"):
        pickled_npy.load(tmp_path / "a.npy")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_path_is_read_as_text(tmp_path, protocol):
    value = {"filename": pathlib.PurePosixPath("/data/a b.png"), "masks": 1}
    _npy_of(tmp_path / "a.npy", pickle.dumps(value, protocol))
    found = pickled_npy.load(tmp_path / "a.npy")
    assert pathlib.PurePosixPath(found["filename"]) == value["filename"]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickles_of_all_protocols_are_read(tmp_path, protocol):
    value = {"a": [1, 2.5, None, "ä", (1,) * 300], 7: {"b": b"x" * 300}, None: True}
    value["again"] = value["a"]
    value["many"] = {str(i): [i] for i in range(3000)}
    _npy_of(tmp_path / "a.npy", pickle.dumps(value, protocol))
    assert pickled_npy.load(tmp_path / "a.npy") == value
