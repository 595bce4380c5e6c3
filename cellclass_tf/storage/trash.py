"""Files of people that had to make room: kept in .trash, a folder a day."""

from __future__ import annotations

import datetime
import os
import pathlib
from collections.abc import Sequence

from absl import logging

from cellclass_tf.errors import InputError

TRASH_FOLDER = ".trash"


def set_aside(root: pathlib.Path, files: Sequence[pathlib.Path]) -> pathlib.Path:
    """Moves files that belong together out of the way, and says so.

    Args:
      root: the folder of all.
      files: below it.

    Returns:
      ROOT/.trash/DATE, or DATE-2 and so on, below which they lie as they lay below ROOT.
    """
    below = [path.relative_to(root) for path in files]
    folder = _free_folder(root, below)
    for path, relative in zip(files, below, strict=True):
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        path.replace(folder / relative)
        logging.warning(
            "%s is set aside: %s keeps it, and `cellclass restore` brings it back.",
            path,
            folder / relative,
        )
    return folder


def names(root: pathlib.Path) -> list[str]:
    """Returns the files that are kept, DATE/PATH, oldest first."""
    folder = root / TRASH_FOLDER
    found = (path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return sorted(
        (path.relative_to(folder).as_posix() for path in found),
        key=lambda name: (_age(name), name),
    )


def bring_back(
    root: pathlib.Path, name: str, companions: Sequence[str] = ()
) -> list[pathlib.Path]:
    """Moves a file that was set aside to where it was; what lies there is set aside.

    Args:
      root: the folder of all.
      name: one of `names`, or the PATH alone, of which the last kept is taken.
      companions: endings of files of the same stem that belong to it: they come from the
        same folder, and where none is kept there will be none.

    Returns:
      The paths of the files that came back.

    Raises:
      InputError: if no such file is kept.
    """
    kept = names(root)
    found = [n for n in kept if name in (n, n.partition("/")[2])]
    if not found:
        listed = ", ".join(kept[-5:]) or "nothing"
        raise InputError(f"{root / TRASH_FOLDER} holds no {name!r}; it holds {listed}.")
    source = pathlib.PurePosixPath(found[-1])
    sources = [source, *map(source.with_suffix, companions)]
    targets = [root.joinpath(*path.parts[1:]) for path in sources]
    there = [path for path in targets if os.path.lexists(path)]
    if there:
        set_aside(root, there)
    back = []
    for path, target in zip(sources, targets, strict=True):
        if os.path.lexists(root / TRASH_FOLDER / path):
            target.parent.mkdir(parents=True, exist_ok=True)
            (root / TRASH_FOLDER / path).replace(target)
            back.append(target)
    return back


def _age(name: str) -> tuple[str, int]:
    """The date, and which folder of that date it is."""
    number = name[10:].partition("/")[0].lstrip("-")
    return name[:10], int(number) if number.isdecimal() else 1


def _free_folder(root: pathlib.Path, below: Sequence[pathlib.Path]) -> pathlib.Path:
    """The last folder of today; a new one, if it has one of the files already."""
    today = datetime.date.today().isoformat()
    there = (root / TRASH_FOLDER).glob(f"{today}*")
    last = max((_age(path.name) for path in there), default=(today, 1))
    names = today if last[1] == 1 else f"{today}-{last[1]}", f"{today}-{last[1] + 1}"
    for folder in (root / TRASH_FOLDER / name for name in names):
        if not any(os.path.lexists(folder / relative) for relative in below):
            break
    return folder
