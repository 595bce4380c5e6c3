"""Pickled .npy files, read without running what a stranger may have put into them."""

from __future__ import annotations

import os
import pickle
import re
import tokenize
from typing import Any, BinaryIO

import numpy as np

from cellclass_tf.errors import InputError

_PLAIN_DTYPE = re.compile(r"[biufcSUO]\d*")
_BROKEN = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    SyntaxError,
    tokenize.TokenError,
    TypeError,
    ValueError,
)


def load(path: str | os.PathLike) -> Any:
    """Reads a .npy file that may hold Python objects, such as cellpose writes.

    Only numbers, texts, lists, tuples, dictionaries and numpy arrays and scalars of
    them come back; no name that a pickle asks for is ever looked up.

    Returns:
      The array, or the one object in it where the array has no dimension.

    Raises:
      InputError: if the file is broken, or asks for anything else.
    """
    try:
        with open(path, "rb") as file:
            value = _read(file)
    except _Refused as error:
        raise InputError(
            f"{path}: the pickle in this file asks for {error}, which is no plain "
            "data. Nothing of it was run. Do not trust the file; get it again from its "
            "source."
        ) from error
    except _BROKEN as error:
        raise InputError(
            f"{path}: expected a .npy file; {type(error).__name__}: {error}. "
            "Get it again from its source."
        ) from error
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return value.item()
    return value


class _Refused(Exception):
    """A pickle wants a name that plain data does not need."""


def _read(file: BinaryIO) -> Any:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        dtype = np.lib.format.read_array_header_1_0(file)[2]
    elif version == (2, 0):
        dtype = np.lib.format.read_array_header_2_0(file)[2]
    else:
        raise ValueError(f"version {version} of the format is not read")
    if dtype.hasobject:
        return _plain(_Unpickler(file, encoding="latin1").load())
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


# Stand-ins take the place of numpy's classes while a pickle loads: numpy's own dtype
# accepts flags from a pickle that turn raw bytes into object pointers.
class _Dtype:
    def __init__(self, code: str, *_):
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise _Refused(f"the data type {code!r}")
        self._dtype = np.dtype(code)

    def __setstate__(self, state):
        if state[1] in ("<", ">"):
            self._dtype = self._dtype.newbyteorder(state[1])

    @property
    def real(self) -> np.dtype:
        return self._dtype


class _Array:
    def __setstate__(self, state):
        _, self.shape, self.dtype, self.is_fortran, self.data = state

    @property
    def real(self) -> np.ndarray:
        dtype, order = self.dtype.real, "F" if self.is_fortran else "C"
        if dtype != object:
            return (
                np.frombuffer(self.data, dtype).reshape(self.shape, order=order).copy()
            )
        flat = np.empty(len(self.data), object)
        for index, item in enumerate(self.data):
            flat[index] = _plain(item)
        return flat.reshape(self.shape, order=order)


def _plain(value: Any, known: dict[int, Any] | None = None) -> Any:
    """Puts arrays in place of their stand-ins; what is shared is looked at once."""
    known = {} if known is None else known
    if id(value) in known:
        return known[id(value)]
    plain = value
    if isinstance(value, (_Array, _Dtype)):
        plain = value.real
    elif isinstance(value, dict):
        plain = {key: _plain(item, known) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        plain = type(value)(_plain(item, known) for item in value)
    known[id(value)] = plain
    return plain


def _encode(text: str, encoding: str) -> bytes:
    # Before protocol 3 a pickle spells bytes in this way, and in this encoding only.
    if encoding != "latin1":
        raise _Refused(f"the encoding {encoding!r}")
    return text.encode(encoding)


def _scalar(dtype: _Dtype, data: bytes) -> np.generic:
    if dtype.real == object:
        raise _Refused("a scalar of objects")
    return np.frombuffer(data, dtype.real)[0]


_STAND_INS = {
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    # numpy moved its core between versions 1 and 2.
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in (
            ("_reconstruct", lambda *_: _Array()),
            ("scalar", _scalar),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise _Refused(f"{module}.{name}")
        return _STAND_INS[module, name]
