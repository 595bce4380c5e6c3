"""Names of cell types, and which names folders and tables allow."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

# The folder, the type and the split of fields with more than one cell type.
MIXED = "mixed"
# The type of a cell whose type is not known.
UNKNOWN = "unknown"
# The call of a cell whose type is not probable enough.
UNCERTAIN = "uncertain"
# Rows and columns of the confusion matrix, and calls, beside the types.
_OF_TABLES = ("missed", "invented", UNCERTAIN)
# Names with another meaning in folders and tables.
_RESERVED = (MIXED, UNKNOWN, *_OF_TABLES)
# Names that no file or folder can have on Windows.
_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# Characters that some file system, a list of types in a table, or a flag does not allow.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|,;=]')
_LONGEST = 60


def type_name(text: str) -> str:
    """Normalizes the name of a type: Unicode NFC, and `mixed` in lower case.

    File systems differ in whether they store letters such as ä composed or decomposed.
    """
    name = unicodedata.normalize("NFC", text).strip()
    return MIXED if name.casefold() == MIXED else name


def safe_type_name(text: str) -> str:
    """Makes a valid name of a type: characters that are not allowed become '-'.

    `mixed` and `unknown` stay as they are; other reserved names become `type NAME`.
    """
    name = _FORBIDDEN.sub("-", type_name(text))[:_LONGEST].rstrip(". ")
    is_free = re.match(r"[^\W_]", name) and name.casefold() not in _OF_TABLES
    return name if is_free else f"type {name}".strip()


def is_of_windows(name: str) -> bool:
    """Returns whether Windows reserves the name of a file or folder, such as nul.txt."""
    return bool(_OF_WINDOWS.fullmatch(name))


def problem_of(names: Sequence[str]) -> str:
    """Returns why names cannot be the types of a study; '' if they can."""
    if not names:
        return "expected at least one cell type"
    for name in names:
        if reason := _problem_of_one(name):
            return f"the cell type {name!r} {reason}"
    for name in names:
        same = [other for other in names if other.casefold() == name.casefold()]
        if len(same) > 1:
            return (
                f"the cell types {same[0]!r} and {same[1]!r} are the same, or differ only "
                "in upper and lower case, which some file systems do not distinguish"
            )
    return ""


def _problem_of_one(name: str) -> str:
    if name.casefold() in _RESERVED:
        return (
            f"is a reserved name, with another meaning in tables and folders; reserved are "
            f"{', '.join(_RESERVED)}. Rename it"
        )
    if is_of_windows(name):
        return "cannot be the name of a folder on Windows"
    if type_name(name) != name:
        return "begins or ends with a space, or has letters that are not composed (NFC)"
    if not re.match(r"[^\W_]", name) or name.endswith("."):
        return "does not begin with a letter or digit, or ends with a dot"
    if len(name) > _LONGEST:
        return f"is longer than {_LONGEST} characters"
    found: Iterable[str] = _FORBIDDEN.findall(name)
    if found:
        return f"contains {', '.join(map(repr, dict.fromkeys(found)))}"
    return ""
