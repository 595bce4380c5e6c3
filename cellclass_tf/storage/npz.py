"""Reads NumPy archives (.npz) that may be damaged or come from somebody else."""

from __future__ import annotations

import os
import tokenize
import zipfile
import zlib

import numpy as np

from cellclass_tf.errors import InputError

# What zipfile and NumPy raise for a damaged archive.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npz(
    path: str | os.PathLike, most_bytes: int | None = None
) -> dict[str, np.ndarray]:
    """Reads all arrays of an archive, without unpickling anything.

    Args:
      path: path of the archive.
      most_bytes: largest size of all arrays together; None for any.

    Returns:
      The arrays by name.

    Raises:
      InputError: if the file is not a NumPy archive, is damaged or is too large.
    """
    try:
        # The size is checked before anything is unpacked.
        with zipfile.ZipFile(path) as packed:
            size = sum(part.file_size for part in packed.infolist())
        if most_bytes is None or size <= most_bytes:
            with np.load(path, allow_pickle=False) as archive:
                return dict(archive)
    except _UNREADABLE as error:
        raise InputError(
            f"{path}: the NumPy archive cannot be read ({type(error).__name__}: {error})."
        ) from error
    raise InputError(
        f"{path}: the NumPy archive cannot be read (it contains over {most_bytes} bytes)."
    )
