"""Links between a cell and its raw file, and how they are verified."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from cellclass_tf.errors import InputError
from cellclass_tf.storage import digests

SAME, CHANGED, MISSING = "same", "changed", "missing"
NOT_RECORDED, RECORDED = "not recorded", "recorded"
_SYMBOLS = {SAME: "=", CHANGED: "X", MISSING: "!", NOT_RECORDED: "?", RECORDED: "-"}

# A record may contain any path: a folder is only hashed if it looks like a model.
_MODEL_FILES = ("cellclass.json", "saved_model.pb")


@dataclasses.dataclass(frozen=True)
class Link:
    """One step between a cell and its raw file.

    Attributes:
      name: subject of the step: 'cell', 'label image', 'model', 'raw file' and so on.
      state: 'same' as recorded, 'changed', 'missing', 'not recorded' (there is nothing
        to compare with), or 'recorded' (information that no file can confirm).
      says: lines of information.
      recorded: recorded SHA-256; '' if there is none.
      found: present SHA-256 of the file; '' if there is no file.
    """

    name: str
    state: str
    says: tuple[str, ...]
    recorded: str = ""
    found: str = ""

    @property
    def is_broken(self) -> bool:
        """Whether the file is missing or differs from the record."""
        return self.state in (CHANGED, MISSING)


@dataclasses.dataclass(frozen=True)
class Trace:
    """The links from an image or one of its cells to the raw file; `str` gives a table.

    Attributes:
      subject: name of the image, and of the cell if one was given.
      links: the links in order, from the cell to the raw file.
    """

    subject: str
    links: tuple[Link, ...]

    @property
    def passed(self) -> bool:
        """Whether no link is broken."""
        return not any(link.is_broken for link in self.links)

    def __str__(self) -> str:
        lines = [self.subject, ""]
        for link in self.links:
            head = f"{_SYMBOLS[link.state]} {link.state:<14}{link.name:<16}"
            for text in (*link.says, *_digests(link)):
                lines.append(f"{head:<32}{text}")
                head = ""
        broken = [
            f"{link.name} ({link.state})" for link in self.links if link.is_broken
        ]
        whole = "Every link that was recorded holds."
        lines += ["", f"Broken: {', '.join(broken)}." if broken else whole]
        # Texts from records must not contain control sequences for the terminal.
        return "\n".join(
            "".join(c if c.isprintable() else "?" for c in s) for s in lines
        )


def file_link(
    name: str,
    candidates: Iterable[pathlib.Path],
    recorded: str,
    says: tuple[str, ...] = (),
) -> Link:
    """Compares a file with its record.

    Args:
      name: name of the link.
      candidates: paths where the file may be. The first one whose hash matches is used, or
        else the first one that exists.
      recorded: recorded SHA-256; '' if there is none.
      says: further lines of information.
    """
    candidates = list(candidates)
    if not candidates:
        return Link(name, NOT_RECORDED, ("its path is not recorded", *says), recorded)
    found = {path: sha256_if_readable(path) for path in candidates}
    path = next(
        (path for path in candidates if found[path] == recorded != ""),
        next((path for path in candidates if found[path]), candidates[-1]),
    )
    state = SAME if found[path] == recorded else CHANGED
    if not recorded:
        state = NOT_RECORDED
    if not found[path]:
        state = MISSING
    return Link(name, state, (shorten(path), *says), recorded, found[path])


def sha256_if_readable(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file, an OME-Zarr or a model; '' if it cannot be read."""
    try:
        is_tree = path.suffix.lower() == ".zarr" or any(
            (path / name).is_file() for name in _MODEL_FILES
        )
        return digests.sha256_of_path(path) if path.is_file() or is_tree else ""
    except (InputError, OSError):
        return ""


def lines(facts: Mapping[str, Any], before: str = "") -> tuple[str, ...]:
    """Returns one line with the known facts, or no line if there are none."""
    known = [f"{k} {v}" for k, v in facts.items() if v not in (None, "")]
    return (before + ", ".join(known),) if known else ()


def _digests(link: Link) -> tuple[str, ...]:
    """Returns a line with the SHA-256 of a link, cut to 12 digits."""
    recorded, found = link.recorded[:12], link.found[:12]
    if link.state == CHANGED and recorded and found:
        return (f"SHA-256 was {recorded}, is {found}",)
    return (f"SHA-256 {recorded or found}",) if recorded or found else ()


def shorten(path: pathlib.Path) -> str:
    """Returns a path relative to the working directory if it is below it."""
    path, here = pathlib.Path(os.path.abspath(path)), pathlib.Path.cwd()
    return os.fspath(path.relative_to(here) if path.is_relative_to(here) else path)
