"""Reads pickled .npy files without running code that may be in them."""

from __future__ import annotations

import io
import math
import os
import pathlib
import pickle
import pickletools
import re
import tokenize
from typing import Any, BinaryIO, Literal

import numpy as np

from cellclass_tf.errors import InputError

# Allowed keys of a dictionary. Hashing nested tuples, for example, could take for ever.
_KINDS_OF_KEYS = (
    pickletools.pyunicode,
    pickletools.pystring,
    pickletools.pybytes,
    pickletools.pybytes_or_str,
    pickletools.pyint,
    pickletools.pyinteger_or_bool,
    pickletools.pybool,
    pickletools.pyfloat,
    pickletools.pynone,
)
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
    """Reads a .npy file that may hold Python objects, as cellpose writes them.

    The result consists of numbers, texts, lists, tuples, dictionaries, and numpy arrays
    and scalars; a path becomes its text. No class or function that a pickle refers to is
    ever looked up. Memory and time are proportional to the size of the file.

    Returns:
      The array, or the single object in an array without dimensions.

    Raises:
      InputError: if the file is damaged, or contains anything else.
    """
    try:
        with open(path, "rb") as file:
            value = _read(file)
    except _Refused as error:
        raise InputError(
            f"{path}: the pickle in this file asks for {error}, which is not plain "
            "data. No code from it was run. Do not trust the file; copy it again from its "
            "source."
        ) from error
    except _BROKEN as error:
        raise InputError(
            f"{path}: expected a .npy file; {type(error).__name__}: {error}. "
            "Copy it again from its source."
        ) from error
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return value.item()
    return value


class _Refused(Exception):
    """A pickle contains something that is not plain data."""


def _read(file: BinaryIO) -> Any:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the format is not supported")
    if dtype.hasobject:
        content = file.read()
        _check_bounds(content)
        return _plain(_Unpickler(io.BytesIO(content), encoding="latin1").load(), {})
    claimed, there = math.prod(shape) * dtype.itemsize, os.fstat(file.fileno()).st_size
    if claimed > there:
        raise ValueError(f"the header claims {claimed} bytes, but there are {there}")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _check_bounds(pickled: bytes) -> None:
    """Raises _Refused if loading could need far more memory or time than the file's size.

    For a number in the memo, pickle reserves memory for all numbers below it; and keys of
    dictionaries are hashed. This function simulates the kinds of values on pickle's stack,
    as `pickletools.dis` does.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        name = opcode.name
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            number = len(memo) if name == "MEMOIZE" else argument
            if number > count:
                raise _Refused(f"the memo's place {number} as its value {count}")
            memo[number] = stack[-1]
            continue
        if name == "MARK":
            marks.append(len(stack))
            continue
        if name == "POP" and marks and marks[-1] == len(stack):
            # POP removes a mark as well as a value.
            marks.pop()
            continue
        if name in ("SETITEMS", "DICT"):
            keys = stack[marks[-1] :: 2]
        else:
            keys = stack[-2:-1] if name == "SETITEM" else []
        if any(kind not in _KINDS_OF_KEYS for kind in keys):
            raise _Refused("a key of a dictionary that is neither text nor number")
        if ("SET" in name and "ITEM" not in name) or name == "ADDITEMS":
            raise _Refused("a set")
        before, after = opcode.stack_before, opcode.stack_after
        if pickletools.markobject in before:
            del stack[marks.pop() :]
            before = before[: before.index(pickletools.markobject)]
        if before:
            del stack[-len(before) :]
        stack += [memo[argument]] if name.endswith("GET") else after


# Stand-ins replace numpy's classes while a pickle is loaded, since numpy's own dtype accepts
# flags from a pickle that turn raw bytes into object pointers.
class _Dtype:
    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise _Refused(f"the data type {code!r}")
        self._dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self._dtype = self._dtype.newbyteorder(state[1])

    @property
    def real(self) -> np.dtype:
        return self._dtype


class _Array:
    shape: tuple[int, ...]
    dtype: _Dtype
    is_fortran: bool
    data: Any

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.is_fortran, self.data = state

    def real(self, known: dict[int, Any]) -> np.ndarray:
        dtype = self.dtype.real
        order: Literal["F", "C"] = "F" if self.is_fortran else "C"
        if dtype.kind != "O":
            return (
                np.frombuffer(self.data, dtype).reshape(self.shape, order=order).copy()
            )
        flat = np.empty(len(self.data), object)
        for index, item in enumerate(self.data):
            flat[index] = _plain(item, known)
        return flat.reshape(self.shape, order=order)


def _plain(value: Any, known: dict[int, Any]) -> Any:
    """Replaces stand-ins by arrays; visits objects that are shared only once."""
    if id(value) in known:
        return known[id(value)]
    plain = value
    if isinstance(value, _Array):
        plain = value.real(known)
    elif isinstance(value, _Dtype):
        plain = value.real
    elif isinstance(value, dict):
        plain = {key: _plain(item, known) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        plain = type(value)(_plain(item, known) for item in value)
    known[id(value)] = plain
    return plain


def _encode(text: str, encoding: str) -> bytes:
    # Before protocol 3, pickles store bytes in this way, always in this encoding.
    if encoding != "latin1":
        raise _Refused(f"the encoding {encoding!r}")
    return text.encode(encoding)


def _scalar(dtype: _Dtype, data: bytes) -> np.generic:
    if dtype.real.kind == "O":
        raise _Refused("a scalar of objects")
    return np.frombuffer(data, dtype.real)[0]


_STAND_INS: dict[tuple[str, str], Any] = {
    **{
        (module, f"{pure}{system}Path"): stand_in
        # Python 3.13 defines the classes in pathlib._local.
        for module in ("pathlib", "pathlib._local")
        for pure in ("", "Pure")
        for system, stand_in in (
            ("Posix", lambda *parts: str(pathlib.PurePosixPath(*parts))),
            ("Windows", lambda *parts: str(pathlib.PureWindowsPath(*parts))),
        )
    },
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
