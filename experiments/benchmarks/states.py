"""Compares the files that different runs of a command leave in a folder."""

from __future__ import annotations

import hashlib
import pathlib
import re
from typing import Any

_DATE = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:[\d.]+)?([+-]\d\d:\d\d|Z)?")
_TEXTS = (".json", ".html", ".csv", ".yaml", ".svg")
_HALF_WRITTEN = re.compile(r"(^|/)(\.part-|\.old-)|incomplete")


def state_of(work: pathlib.Path, result: dict[str, Any]) -> dict[str, str]:
    """Returns a hash of every file except journals, and the reason of every failure."""
    state = {f"failure of {name}": why for name, why in result["failures"].items()}
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work).as_posix()
        if _HALF_WRITTEN.search(name):
            state[name] = "half-written"
        elif path.is_file() and ".journal" not in path.parts:
            state[name] = digest_of(path)
    return state


def digest_of(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file without the dates in it."""
    content = path.read_bytes()
    if path.suffix in _TEXTS:
        content = _DATE.sub(b"", content)
    return hashlib.sha256(content).hexdigest()


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Returns one line for each file or failure that differs."""
    names = sorted({*expected, *found})
    return [
        f"{name}: {expected.get(name, 'nothing')[:60]} expected, got "
        f"{found.get(name, 'nothing')[:60]}"
        for name in names
        if expected.get(name) != found.get(name)
    ]
