"""Names of cell types: what people write, and what files and tables can bear."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

# Of fields with more than one type: their folder, their type, and their split.
MIXED = "mixed"
# The type of a cell that has none.
UNKNOWN = "unknown"
# Names that mean something else in folders and in tables.
_RESERVED = (MIXED, UNKNOWN, "missed", "invented")
# No folder has such a name on Windows.
_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# What no file system, and no list of types in a table or a flag, can bear.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|,;=]')
_LONGEST = 60


def type_name(text: str) -> str:
    """Returns a name as it is kept: with composed letters, and `mixed` in lower case.

    File systems differ in how they compose letters such as ä.
    """
    name = unicodedata.normalize("NFC", text).strip()
    return MIXED if name.casefold() == MIXED else name


def safe_type_name(text: str) -> str:
    """Returns a name of any program as that of a type: what cannot be becomes '-'."""
    name = _FORBIDDEN.sub("-", type_name(text))[:_LONGEST].rstrip(". ")
    return name if re.match(r"[^\W_]", name) else f"type {name}".strip()


def is_of_windows(name: str) -> bool:
    """Whether Windows keeps a name of a file or folder for itself, as con or nul.txt."""
    return bool(_OF_WINDOWS.fullmatch(name))


def problem_of(names: Sequence[str]) -> str:
    """Returns why names cannot be those of a study's types; '' if they can."""
    if not names:
        return "expected at least one cell type"
    for name in names:
        if reason := _problem_of_one(name):
            return f"the cell type {name!r} {reason}"
    for name in names:
        same = [other for other in names if other.casefold() == name.casefold()]
        if len(same) > 1:
            return (
                f"the cell types {same[0]!r} and {same[1]!r} are one, or differ in "
                "capitals alone, which folders may not tell apart"
            )
    return ""


def _problem_of_one(name: str) -> str:
    if name.casefold() in _RESERVED:
        return f"means something else; so do {', '.join(_RESERVED)}"
    if is_of_windows(name):
        return "is no name of a folder on Windows"
    if type_name(name) != name:
        return "has spaces around it, or letters that are not composed (NFC)"
    if not re.match(r"[^\W_]", name) or name.endswith("."):
        return "begins with no letter or digit, or ends with a dot"
    if len(name) > _LONGEST:
        return f"is longer than {_LONGEST} characters"
    found: Iterable[str] = _FORBIDDEN.findall(name)
    if found:
        return f"has {', '.join(map(repr, dict.fromkeys(found)))} in it"
    return ""
