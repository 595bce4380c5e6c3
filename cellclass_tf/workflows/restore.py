"""Brings back what had to make room."""

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
    """Lists the files of people that were set aside, or brings one back.

    What lies in its place now is set aside in turn. Cells come back with the table of
    their types, and count as corrected by hand.

    Args:
      folder: a study, or the output folder of a command, with FOLDER/.trash.
      file: file to bring back: DATE/PATH as it is listed, or PATH for the newest version of
        it. Without a file, all are listed.

    Returns:
      The names of the files that are kept, DATE/PATH, oldest first; or the paths of
      those that came back.

    Raises:
      InputError: if there is no such folder, or no such file is kept.
    """
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise InputError(f"{root} is no folder.")
    if file is None:
        trash.finish(root)
        return trash.names(root)
    path = pathlib.PurePosixPath(file)
    is_labels = Study.exists(root) and "cells" in path.parts and path.suffix == ".tif"
    back = trash.bring_back(root, file, (".csv",) if is_labels else ())
    return [os.fspath(path) for path in back]
