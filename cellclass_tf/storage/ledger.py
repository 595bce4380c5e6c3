"""What the program wrote, by which a person's changes are told from its own."""

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
from cellclass_tf.storage import atomic, digests, paths, trash


class Written(NamedTuple):
    """What the program wrote of a thing.

    Attributes:
      state: what tells one version of the thing from another, such as a SHA-256; JSON.
      facts: what else is known of that version; JSON.
    """

    state: Any
    facts: Mapping[str, Any] = {}


class Ledger:
    """A file that says of some things in which state the program wrote them.

    A thing is whatever a person may change too: a file, files that belong together, a row
    of a table. What is about to be written is recorded before; should the process be
    killed, both the old and the new state are known to be the program's own.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        """Takes the path of the file; there may be none yet."""
        self.path = pathlib.Path(path)
        entries = self._read()
        self._written = {thing: written for thing, (_, written) in entries.items()}
        self._pending = {thing for thing, (pending, _) in entries.items() if pending}

    def known(self, thing: str) -> list[Written]:
        """Returns in which states the program may have left a thing, newest first."""
        return [Written(*state) for state in reversed(self._written.get(thing, []))]

    def facts_of(self, thing: str, state: Any) -> Mapping[str, Any] | None:
        """Returns the facts of a state that the program wrote; None if it did not."""
        return next((w.facts for w in self.known(thing) if w.state == state), None)

    def is_pending(self, thing: str) -> bool:
        """Whether the program was killed while it wrote a thing."""
        return thing in self._pending

    def add(self, thing: str, written: Written) -> None:
        """Learns of one more state that is the program's own."""
        # Put twice, it is known once.
        rest = [w for w in self._written.get(thing, []) if w[0] != written.state]
        self._written[thing] = [*rest, [written.state, dict(written.facts)]]

    @contextlib.contextmanager
    def recording(self, things: Mapping[str, Written]) -> Iterator[None]:
        """Records what the block is about to write, and then that it is written."""
        for thing, written in things.items():
            self.add(thing, written)
        self._pending.update(things)
        self._write()
        yield
        for thing, written in things.items():
            self._settle(thing, written.state)
        self._write()

    def settle(self, thing: str, state: Any) -> None:
        """Ends what a killed process began: the thing was found in this state of its own."""
        self._settle(thing, state)
        self._write()

    def _settle(self, thing: str, state: Any) -> None:
        self._written[thing] = [w for w in self._written[thing] if w[0] == state]
        self._pending.discard(thing)

    def _read(self) -> dict[str, tuple[bool, list[list[Any]]]]:
        # Without the file all counts as a person's, which loses nothing.
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if isinstance(content, dict):
                return {k: v for k, v in content.items() if _is_entry(v)}
        return {}

    def _write(self) -> None:
        content = {
            thing: [thing in self._pending, written]
            for thing, written in self._written.items()
        }
        atomic.write_text(self.path, json.dumps(content))


def _is_entry(value: Any) -> bool:
    """Whether it is [pending, [[state, facts], …]]."""
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
    """`atomic.atomic_path` for a result that a person may change, or put there.

    Args:
      root: folder of the results, which remembers what was written.
      path: of the file, below it.
      overwrite: whether a file that a person changed is set aside into ROOT/.trash/DATE.
      own: SHA-256s that are the program's own, beyond those that the folder remembers.
      folder: whether the result is a folder.

    Raises:
      InputError: if a person changed it, and it is not to be overwritten; on entering
        the context, and again before the file is replaced.
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
        written = Written(digests.sha256_of(temporary))
        with ledger_of(root, path).recording({path.name: written}):
            yield

    return (atomic.atomic_folder if folder else atomic.atomic_path)(path, record)


def write_text(root: pathlib.Path, path: pathlib.Path, text: str) -> None:
    """Writes a result as UTF-8; one that a person changed is set aside."""
    write_bytes(root, path, text.encode(), overwrite=True)


def write_bytes(
    root: pathlib.Path,
    path: pathlib.Path,
    content: bytes,
    *,
    overwrite: bool = False,
    own: Collection[str] = (),
) -> None:
    """Writes a result; see `replace`."""
    with replace(root, path, overwrite=overwrite, own=own) as temporary:
        temporary.write_bytes(content)


def write_picture(root: pathlib.Path, path: pathlib.Path, content: bytes) -> None:
    """Writes what is only looked at: nobody edits it, and it is simply replaced."""
    paths.check_below(root, path)
    _remember_place(root, path)
    atomic.write_bytes(path, content)


def _remember_place(root: pathlib.Path, path: pathlib.Path) -> None:
    """Tells `remove_leftovers` where to look, whatever happens now."""
    ledger_of(root, path).path.parent.mkdir(parents=True, exist_ok=True)


def remove(root: pathlib.Path, path: pathlib.Path) -> None:
    """Removes a result; one that a person changed is set aside into ROOT/.trash/DATE."""
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
    """Raises InputError if a person changed a result that is not to be overwritten."""
    if not overwrite and os.path.lexists(path) and not is_own(root, path, own):
        raise InputError(
            f"{path} is there already, and was changed since it was written, or was put "
            "there by somebody. It is left alone: move it away, or write to another "
            "folder."
        )


def is_own(root: pathlib.Path, path: pathlib.Path, own: Collection[str] = ()) -> bool:
    """Whether a result is there as the program wrote it."""
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        return False
    state = digests.sha256_of(path)
    return state in own or ledger_of(root, path).facts_of(path.name, state) is not None


def ledger_of(root: pathlib.Path, path: pathlib.Path) -> Ledger:
    """Returns the ledger of a file below `root`; whoever writes the file writes both."""
    below = path.relative_to(root)
    return Ledger(_ledgers(root) / below.with_name(f"{path.name}.json"))


def remove_leftovers(root: pathlib.Path) -> None:
    """Removes what killed processes left half-written below a folder of results.

    A folder that one of them was about to replace is brought back. Call it with the lock.
    That is in the folder itself, where it keeps journals and what was set aside, and
    wherever results were written that it remembers; files of people may fill the rest.
    """
    folders = [root]
    walks = (os.walk(root / name) for name in (".journal", trash.TRASH_FOLDER))
    for name, _, _ in itertools.chain(*walks):
        folder = pathlib.Path(name)
        folders.append(folder)
        if folder.is_relative_to(_ledgers(root)):
            folders.append(root / folder.relative_to(_ledgers(root)))
    for folder in folders:
        # First, as one may itself be a leftover.
        atomic.recover_folders(folder)
        atomic.remove_leftovers(folder)


def _ledgers(root: pathlib.Path) -> pathlib.Path:
    return root / ".journal" / "ledger"
