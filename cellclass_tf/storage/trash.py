"""Files of people that had to make room: kept in .trash, a folder a day."""

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
    """Copies files that are about to be replaced, and says so.

    They go to ROOT/.trash/DATE, or DATE-2 and so on, where they lie as they lie below
    ROOT; those that belong together into one of these. A copy that a killed process made
    is not made again.

    Args:
      root: the folder of all.
      files: that belong together; below it.
    """
    below = {path.relative_to(root): path for path in files}
    folder = _free_folder(root, below)
    for relative, path in below.items():
        if not os.path.lexists(folder / relative):
            _copy(path, folder / relative)
        logger.warning(
            "%s makes room: %s keeps it, and `cellclass restore` brings it back.",
            path,
            folder / relative,
        )


def set_aside(root: pathlib.Path, files: Sequence[pathlib.Path]) -> None:
    """Removes files, of which ROOT/.trash keeps a copy; see `keep`."""
    keep(root, files)
    for path in files:
        _remove(path)


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
    plan = _read_plan(root)
    back = finish(root)
    if plan and name in (plan[0], _path_of(plan[0])):
        return back
    kept = names(root)
    found = [n for n in kept if name in (n, _path_of(n))]
    # What is there already need not come back.
    others = [
        n for n in found if not _is_same(root / TRASH_FOLDER / n, _place(root, n))
    ]
    found = others or found
    if not found:
        listed = ", ".join(kept[-5:]) or "nothing"
        raise InputError(f"{root / TRASH_FOLDER} holds no {name!r}; it holds {listed}.")
    source = pathlib.PurePosixPath(found[-1])
    sources = [source, *map(source.with_suffix, companions)]
    targets = [_place(root, os.fspath(path)) for path in sources]
    there = [path for path in targets if os.path.lexists(path)]
    if there:
        keep(root, there)
    plan = [os.fspath(p) for p in sources if os.path.lexists(root / TRASH_FOLDER / p)]
    atomic.write_text(_plan_path(root), json.dumps(plan))
    # What belongs to another version of the file would be misread beside it.
    for target in targets[1:]:
        _remove(target)
    return _carry_out(root, plan)


def finish(root: pathlib.Path) -> list[pathlib.Path]:
    """Brings back what a killed process was about to, and returns it."""
    plan = _read_plan(root)
    return _carry_out(root, plan) if plan else []


def _plan_path(root: pathlib.Path) -> pathlib.Path:
    return root / ".journal" / "restore.json"


def _read_plan(root: pathlib.Path) -> list[str]:
    """What a killed process was about to bring back."""
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
    """PATH of DATE/PATH."""
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
    """What lies in a file's folder and differs from it by its last ending at most."""
    if not path.parent.is_dir():
        return []
    return [other for other in path.parent.iterdir() if other.stem == path.stem]


def _is_same(one: pathlib.Path, other: pathlib.Path | None) -> bool:
    """Whether two files hold the same; of folders and the like it is not known."""
    if other is None:
        return False
    links = [path.is_symlink() for path in (one, other)]
    if all(links):
        return os.readlink(one) == os.readlink(other)
    both = one.is_file() and other.is_file()
    return both and not any(links) and filecmp.cmp(one, other, shallow=False)


def _age(name: str) -> tuple[str, int]:
    """The date, and which folder of that date it is."""
    number = name[10:].partition("/")[0].lstrip("-")
    return name[:10], int(number) if number.isdecimal() else 1


def _free_folder(
    root: pathlib.Path, below: Mapping[pathlib.Path, pathlib.Path]
) -> pathlib.Path:
    """The last folder of today; a new one, if it has other files of these names."""
    today = datetime.date.today().isoformat()
    there = (root / TRASH_FOLDER).glob(f"{today}*")
    last = max((_age(path.name) for path in there), default=(today, 1))
    names = today if last[1] == 1 else f"{today}-{last[1]}", f"{today}-{last[1] + 1}"
    for folder in (root / TRASH_FOLDER / name for name in names):
        # Also others of the same stem, which would be taken to belong to these.
        found = [path for name in below for path in _of_stem(folder / name)]
        if all(_is_same(path, below.get(path.relative_to(folder))) for path in found):
            break
    return folder
