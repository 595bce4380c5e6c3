"""The links of the way from a cell back to the raw file, and how they are checked."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from cellclass_tf.storage import digests

SAME, CHANGED, MISSING = "same", "changed", "missing"
NOT_RECORDED, RECORDED = "not recorded", "recorded"
_SYMBOLS = {SAME: "=", CHANGED: "X", MISSING: "!", NOT_RECORDED: "?", RECORDED: "-"}

# A record may name any folder: only those that look like data are read whole.
_MODEL_FILES = ("cellclass.json", "saved_model.pb")


@dataclasses.dataclass(frozen=True)
class Link:
    """One step of the way back.

    Attributes:
      name: what it is about: 'cell', 'label image', 'model', 'raw file' and so on.
      state: 'same' as recorded, 'changed', 'missing', 'not recorded' (there is nothing
        to compare with), or 'recorded' (a statement that no file can confirm).
      says: what it says, a line each.
      recorded: SHA-256 in the record, '' if there is none.
      found: SHA-256 of the file now, '' if there is none.
    """

    name: str
    state: str
    says: tuple[str, ...]
    recorded: str = ""
    found: str = ""

    @property
    def is_broken(self) -> bool:
        """Whether what was recorded does not hold any more."""
        return self.state in (CHANGED, MISSING)


@dataclasses.dataclass(frozen=True)
class Trace:
    """The way back from an image, or from one of its cells; as `str` a table.

    Attributes:
      subject: the image, and the cell if one was asked for.
      links: from the cell to the raw file.
    """

    subject: str
    links: tuple[Link, ...]

    @property
    def passed(self) -> bool:
        """Whether all that was recorded holds."""
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
        # Records are other people's texts, and must not steer a terminal.
        return "\n".join(
            "".join(c if c.isprintable() else "?" for c in s) for s in lines
        )


def file_link(
    name: str,
    candidates: Iterable[pathlib.Path],
    recorded: str,
    says: tuple[str, ...] = (),
) -> Link:
    """Compares a file, at the first of some places that fits, with its record."""
    candidates = list(candidates)
    if not candidates:
        return Link(name, NOT_RECORDED, ("its path is not recorded", *says), recorded)
    found = {path: sha256_of(path) for path in candidates}
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


def sha256_of(path: pathlib.Path) -> str:
    """SHA-256 of a file, an OME-Zarr or a model; '' if there is none to be read."""
    try:
        is_tree = path.suffix.lower() == ".zarr" or any(
            (path / name).is_file() for name in _MODEL_FILES
        )
        return digests.sha256_of(path) if path.is_file() or is_tree else ""
    except OSError:
        return ""


def lines(facts: Mapping[str, Any], before: str = "") -> tuple[str, ...]:
    """One line of what is known, or none."""
    known = [f"{k} {v}" for k, v in facts.items() if v not in (None, "")]
    return (before + ", ".join(known),) if known else ()


def _digests(link: Link) -> tuple[str, ...]:
    """The SHA-256 of a link, short enough to be compared by eye."""
    recorded, found = link.recorded[:12], link.found[:12]
    if link.state == CHANGED and recorded and found:
        return (f"SHA-256 was {recorded}, is {found}",)
    return (f"SHA-256 {recorded or found}",) if recorded or found else ()


def shorten(path: pathlib.Path) -> str:
    """A path as short as it can be from where the command runs."""
    path, here = pathlib.Path(os.path.abspath(path)), pathlib.Path.cwd()
    return os.fspath(path.relative_to(here) if path.is_relative_to(here) else path)
