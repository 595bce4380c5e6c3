"""Brings back files that were set aside."""

from __future__ import annotations

import os
import pathlib

from cellclass_tf import process_state
from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError
from cellclass_tf.storage import lock, trash


@process_state.keep()
@lock.writes("folder")
def restore(folder: str | os.PathLike, file: str | None = None) -> list[str]:
    """Lists the files that were set aside, or brings one of them back.

    A file that is now in its place is set aside in turn. A label image of cells comes back
    together with the table of their types, and its cells count as corrected by hand.

    Args:
      folder: a study, or the output folder of a command, with FOLDER/.trash.
      file: file to bring back: DATE/PATH as it is listed, or PATH for the newest version of
        it. Without a file, all are listed.

    Returns:
      The names of the files that were set aside, DATE/PATH, oldest first; or the paths of
      the files that were brought back.

    Raises:
      InputError: if there is no such folder, or no such file was set aside.
    """
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder.")
    if file is None:
        trash.finish(root)
        return trash.names(root)
    path = pathlib.PurePosixPath(file)
    is_labels = Study.exists(root) and "cells" in path.parts and path.suffix == ".tif"
    back = trash.bring_back(root, file, (".csv",) if is_labels else ())
    return [os.fspath(path) for path in back]
