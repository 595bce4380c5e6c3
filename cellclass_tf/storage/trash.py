"""Trash: copies of replaced files of people in .trash, one folder per day."""

from __future__ import annotations

import contextlib
import datetime
import filecmp
import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence

from cellclass_tf.errors import InputError
from cellclass_tf.messages import logger
from cellclass_tf.storage import atomic, paths

TRASH_FOLDER = ".trash"


def keep(root: pathlib.Path, files: Sequence[pathlib.Path]) -> None:
    """Copies files that are about to be replaced to the trash, and logs a warning.

    The copies are in ROOT/.trash/DATE, or DATE-2 and so on, under the same relative paths.
    All files of one call are in the same folder. A copy that a killed process made before
    is used again.

    Args:
      root: folder of the results.
      files: files below `root` that belong together.
    """
    below = {path.relative_to(root): path for path in files}
    folder = _free_folder(root, below)
    for relative, path in below.items():
        if not os.path.lexists(folder / relative):
            _copy(path, folder / relative)
        logger.warning(
            "%s is replaced: a copy is kept as %s, and `cellclass restore` restores it.",
            path,
            folder / relative,
        )


def set_aside(root: pathlib.Path, files: Sequence[pathlib.Path]) -> None:
    """Moves files to ROOT/.trash; see `keep`."""
    keep(root, files)
    for path in files:
        _remove(path)


def names(root: pathlib.Path) -> list[str]:
    """Returns the files in the trash as DATE/PATH, oldest first."""
    folder = root / TRASH_FOLDER
    found = (path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return sorted(
        (path.relative_to(folder).as_posix() for path in found),
        key=lambda name: (_age(name), name),
    )


def bring_back(
    root: pathlib.Path, name: str, companions: Sequence[str] = ()
) -> list[pathlib.Path]:
    """Moves a file from the trash back to its place; a present file goes to the trash.

    Args:
      root: folder of the results.
      name: one of `names`, or only PATH, for the latest copy of it.
      companions: endings of files with the same stem that belong to the file. They are
        restored from the same folder, or removed if that folder does not have them.

    Returns:
      The paths of the restored files.

    Raises:
      InputError: if the trash has no such file.
    """
    plan = _read_plan(root)
    back = finish(root)
    if plan and name in (plan[0], _path_of(plan[0])):
        return back
    kept = names(root)
    found = [n for n in kept if name in (n, _path_of(n))]
    # Copies that equal the present file are skipped.
    others = [
        n for n in found if not _is_same(root / TRASH_FOLDER / n, _place(root, n))
    ]
    found = others or found
    if not found:
        listed = ", ".join(kept[-5:]) or "nothing"
        raise InputError(f"{root / TRASH_FOLDER} has no {name!r}; it has {listed}.")
    source = pathlib.PurePosixPath(found[-1])
    sources = [source, *map(source.with_suffix, companions)]
    targets = [_place(root, os.fspath(path)) for path in sources]
    there = [path for path in targets if os.path.lexists(path)]
    if there:
        keep(root, there)
    plan = [os.fspath(p) for p in sources if os.path.lexists(root / TRASH_FOLDER / p)]
    atomic.write_text(_plan_path(root), json.dumps(plan))
    # Companions of the other version would not match the restored file.
    for target in targets[1:]:
        _remove(target)
    return _carry_out(root, plan)


def finish(root: pathlib.Path) -> list[pathlib.Path]:
    """Completes the restoration that a killed process began; returns the files."""
    plan = _read_plan(root)
    return _carry_out(root, plan) if plan else []


def _plan_path(root: pathlib.Path) -> pathlib.Path:
    return root / ".journal" / "restore.json"


def _read_plan(root: pathlib.Path) -> list[str]:
    """Returns the files that a killed process was about to restore."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        plan = json.loads(_plan_path(root).read_text(encoding="utf-8"))
        return [os.fspath(paths.inside(name, _plan_path(root))) for name in plan]
    return []


def _carry_out(root: pathlib.Path, plan: Sequence[str]) -> list[pathlib.Path]:
    back = [_place(root, name) for name in plan]
    for name, target in zip(plan, back, strict=True):
        if os.path.lexists(root / TRASH_FOLDER / name):
            target.parent.mkdir(parents=True, exist_ok=True)
            (root / TRASH_FOLDER / name).replace(target)
    _plan_path(root).unlink()
    return back


def _path_of(name: str) -> str:
    """Returns PATH of DATE/PATH."""
    return name.partition("/")[2]


def _place(root: pathlib.Path, name: str) -> pathlib.Path:
    below = pathlib.PurePosixPath(name).parts[1:]
    return paths.check_below(root, root.joinpath(*below))


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    if source.is_dir() and not source.is_symlink():
        with atomic.atomic_folder(target) as temporary:
            shutil.copytree(source, temporary, symlinks=True, dirs_exist_ok=True)
        return
    with atomic.atomic_path(target) as temporary:
        temporary.unlink()
        shutil.copy2(source, temporary, follow_symlinks=False)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _of_stem(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files in a file's folder that have the same stem."""
    if not path.parent.is_dir():
        return []
    return [other for other in path.parent.iterdir() if other.stem == path.stem]


def _is_same(one: pathlib.Path, other: pathlib.Path | None) -> bool:
    """Returns whether two files have the same content; False for folders."""
    if other is None:
        return False
    links = [path.is_symlink() for path in (one, other)]
    if all(links):
        return os.readlink(one) == os.readlink(other)
    both = one.is_file() and other.is_file()
    return both and not any(links) and filecmp.cmp(one, other, shallow=False)


def _age(name: str) -> tuple[str, int]:
    """Returns the date of a copy, and the number of its folder on that date."""
    number = name[10:].partition("/")[0].lstrip("-")
    return name[:10], int(number) if number.isdecimal() else 1


def _free_folder(
    root: pathlib.Path, below: Mapping[pathlib.Path, pathlib.Path]
) -> pathlib.Path:
    """Returns today's last folder, or a new one if that has other files of these names."""
    today = datetime.date.today().isoformat()
    there = (root / TRASH_FOLDER).glob(f"{today}*")
    last = max((_age(path.name) for path in there), default=(today, 1))
    names = today if last[1] == 1 else f"{today}-{last[1]}", f"{today}-{last[1] + 1}"
    for folder in (root / TRASH_FOLDER / name for name in names):
        # Files of the same stem count too, since they would be taken for companions.
        found = [path for name in below for path in _of_stem(folder / name)]
        if all(_is_same(path, below.get(path.relative_to(folder))) for path in found):
            break
    return folder
