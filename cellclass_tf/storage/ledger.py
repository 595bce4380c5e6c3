"""Ledgers: records of what the program wrote, by which edits of people are detected."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic, csv_json, digests, paths, trash


class Written(NamedTuple):
    """A version of a thing that the program wrote.

    Attributes:
      state: JSON-like value that identifies the version, such as a SHA-256.
      facts: further JSON-like information about this version.
    """

    state: Any
    facts: Mapping[str, Any] = {}


class Ledger:
    """A file that records in which states the program wrote some things.

    A thing is something that a person may change too: a file, a set of files, or a row of
    a table. A pending record is written before the thing itself, so that after a crash
    both the old and the new state are known to be the program's own.

    Attributes:
      path: path of the ledger's file.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        """Reads the ledger at a path, if the file exists."""
        self.path = pathlib.Path(path)
        entries = self._read()
        self._written = {thing: written for thing, (_, written) in entries.items()}
        self._pending = {thing for thing, (pending, _) in entries.items() if pending}

    def known(self, thing: str) -> list[Written]:
        """Returns the states in which the program may have left a thing, newest first."""
        return [Written(*state) for state in reversed(self._written.get(thing, []))]

    def facts_of(self, thing: str, state: Any) -> Mapping[str, Any] | None:
        """Returns the facts of a state; None if the program did not write this state."""
        return next((w.facts for w in self.known(thing) if w.state == state), None)

    def is_pending(self, thing: str) -> bool:
        """Returns whether the program was killed while it wrote a thing."""
        return thing in self._pending

    def add(self, thing: str, written: Written) -> None:
        """Adds a state of a thing to those that the program wrote."""
        # A state that is added twice is kept once.
        rest = [w for w in self._written.get(thing, []) if w[0] != written.state]
        self._written[thing] = [*rest, [written.state, dict(written.facts)]]

    @contextlib.contextmanager
    def recording(self, things: Mapping[str, Written]) -> Iterator[None]:
        """Records things as pending before the block, and as written after it."""
        for thing, written in things.items():
            self.add(thing, written)
        self._pending.update(things)
        self._write()
        yield
        for thing, written in things.items():
            self._settle(thing, written.state)
        self._write()

    def settle(self, thing: str, state: Any) -> None:
        """Completes a pending record: the thing was found in this state after a crash."""
        self._settle(thing, state)
        self._write()

    def _settle(self, thing: str, state: Any) -> None:
        self._written[thing] = [w for w in self._written[thing] if w[0] == state]
        self._pending.discard(thing)

    def _read(self) -> dict[str, tuple[bool, list[list[Any]]]]:
        # Without a readable file, everything counts as a person's, so that nothing is lost.
        content = csv_json.read_json_object(self.path)
        return {thing: value for thing, value in content.items() if _is_entry(value)}

    def _write(self) -> None:
        content = {
            thing: [thing in self._pending, written]
            for thing, written in self._written.items()
        }
        atomic.write_text(self.path, json.dumps(content))


def _is_entry(value: Any) -> bool:
    """Returns whether a value has the form [pending, [[state, facts], …]]."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[1], list)
        and all(
            isinstance(written, list)
            and len(written) == 2
            and isinstance(written[1], dict)
            for written in value[1]
        )
    )


def replace(
    root: pathlib.Path,
    path: pathlib.Path,
    *,
    overwrite: bool = False,
    own: Collection[str] = (),
    folder: bool = False,
) -> contextlib.AbstractContextManager[pathlib.Path]:
    """Replaces a result like `atomic.atomic_path`, without losing a person's changes.

    Args:
      root: folder of the results, which has the ledgers.
      path: path of the result, below `root`.
      overwrite: whether to replace a result that a person changed; the old one is copied
        to ROOT/.trash/DATE.
      own: SHA-256s that count as the program's own, in addition to those in the ledger.
      folder: whether the result is a folder.

    Returns:
      A context manager that yields the temporary file or folder to write to.

    Raises:
      InputError: if a person changed the result and `overwrite` is not set. This is
        checked now, and again before the result is replaced.
    """
    check = functools.partial(check_own, root, path, overwrite=overwrite, own=own)
    paths.check_below(root, path)
    check()
    _remember_place(root, path)

    @contextlib.contextmanager
    def record(temporary: pathlib.Path) -> Iterator[None]:
        check()
        if os.path.lexists(path) and not is_own(root, path, own):
            trash.keep(root, [path])
        written = Written(digests.sha256_of_path(temporary))
        with ledger_of(root, path).recording({path.name: written}):
            yield

    return (atomic.atomic_folder if folder else atomic.atomic_path)(path, record)


def write_text(root: pathlib.Path, path: pathlib.Path, text: str) -> None:
    """Writes a text result as UTF-8; a version that a person changed goes to the trash."""
    write_bytes(root, path, text.encode(), overwrite=True)


def write_bytes(
    root: pathlib.Path,
    path: pathlib.Path,
    content: bytes,
    *,
    overwrite: bool = False,
    own: Collection[str] = (),
) -> None:
    """Writes the bytes of a result; see `replace`."""
    with replace(root, path, overwrite=overwrite, own=own) as temporary:
        temporary.write_bytes(content)


def write_picture(root: pathlib.Path, path: pathlib.Path, content: bytes) -> None:
    """Writes a picture without a check for edits, since people do not edit pictures."""
    paths.check_below(root, path)
    _remember_place(root, path)
    atomic.write_bytes(path, content)


def _remember_place(root: pathlib.Path, path: pathlib.Path) -> None:
    """Creates the ledger's folder, by which `remove_leftovers` finds the result's folder."""
    ledger_of(root, path).path.parent.mkdir(parents=True, exist_ok=True)


def remove(root: pathlib.Path, path: pathlib.Path) -> None:
    """Removes a result; a version that a person changed is moved to ROOT/.trash/DATE."""
    if is_own(root, path):
        path.unlink()
    elif os.path.lexists(path):
        trash.set_aside(root, [path])


def check_own(
    root: pathlib.Path,
    path: pathlib.Path,
    *,
    overwrite: bool = False,
    own: Collection[str] = (),
) -> None:
    """Raises InputError if a person changed a result and `overwrite` is not set."""
    if not overwrite and os.path.lexists(path) and not is_own(root, path, own):
        raise InputError(
            f"{path} already exists, and was changed since it was written, or was made by "
            "somebody else. It is not overwritten: move it away, or write to another "
            "folder."
        )


def is_own(root: pathlib.Path, path: pathlib.Path, own: Collection[str] = ()) -> bool:
    """Returns whether a result exists and is unchanged since the program wrote it."""
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        return False
    state = digests.sha256_of_path(path)
    return state in own or ledger_of(root, path).facts_of(path.name, state) is not None


def results_of(root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files and folders that the program wrote below `root`, sorted.

    Those that a person changed since are included, those that were removed are not.
    """
    ledgers = _ledgers(root)
    found = (
        root / path.relative_to(ledgers).with_suffix("")
        for path in ledgers.rglob("*.json")
    )
    return sorted(path for path in found if os.path.lexists(path))


def ledger_of(root: pathlib.Path, path: pathlib.Path) -> Ledger:
    """Returns the ledger of a file below `root`."""
    below = path.relative_to(root)
    return Ledger(_ledgers(root) / below.with_name(f"{path.name}.json"))


def remove_leftovers(root: pathlib.Path) -> None:
    """Removes half-written files of killed processes below a folder of results.

    Folders that were about to be replaced are restored. The caller has to hold the lock.
    Only the folder itself, its journals and trash, and folders with recorded results are
    searched, since the rest may hold many files of people.
    """
    folders = [root]
    walks = (os.walk(root / name) for name in (".journal", trash.TRASH_FOLDER))
    for name, _, _ in itertools.chain(*walks):
        folder = pathlib.Path(name)
        folders.append(folder)
        if folder.is_relative_to(_ledgers(root)):
            folders.append(root / folder.relative_to(_ledgers(root)))
    for folder in folders:
        # Folders are restored first, since a restored one may itself be a leftover.
        atomic.recover_folders(folder)
        atomic.remove_leftovers(folder)


def _ledgers(root: pathlib.Path) -> pathlib.Path:
    return root / ".journal" / "ledger"
