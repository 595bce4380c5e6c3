"""Lists every message of `InputError`, from the source of the package."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

_HEAD = """\
# All messages

Every message for bad input, as it stands in the code; `…` stands for a value, such as a file, a
row or a name. Messages end with what to do. [Troubleshooting](troubleshooting.md) explains the
most frequent ones by theme.
"""
# The part of the package whose code gives a message, in the order of the work.
_THEMES = {
    "microscopy": "Raw files and conversion",
    "core": "Studies, tables and records",
    "storage": "Files and folders",
    "annotation": "Annotation and cellpose",
    "interchange": "Import and export",
    "splits": "Splits",
    "datasets": "Simulation and datasets",
    "maskrcnn": "Training and models",
    "workflows": "Commands of several steps",
    "analysis": "Proportions, reports and figures",
    "drawing": "Pictures",
    "provenance": "Tracing",
    "batch": "Processes and Beam",
    "cli": "Command line",
    "napari": "napari",
    "": "Installation",
}


def page(package: pathlib.Path) -> str:
    """Returns the page: the messages by theme, each once."""
    by_theme: dict[str, set[str]] = {theme: set() for theme in _THEMES.values()}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).parts
        theme = _THEMES.get(parts[0] if len(parts) > 1 else "", _THEMES[""])
        by_theme[theme] |= {*messages_of(ast.parse(path.read_text(encoding="utf-8")))}
    lines = [_HEAD]
    for theme, messages in by_theme.items():
        if messages:
            lines += [f"## {theme}\n", *(f"- {m}" for m in sorted(messages)), ""]
    return "\n".join(lines)


def messages_of(tree: ast.AST) -> Iterator[str]:
    """Yields the text of each `raise InputError(...)` that says more than a value."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
            continue
        call = node.exc
        if ast.unparse(call.func).endswith("InputError") and call.args:
            text = " ".join(_text_of(call.args[0]).split())
            if any(c.isalpha() for c in text):
                yield _escaped(text)


def _text_of(node: ast.expr) -> str:
    """The text of a literal, with … in place of what is computed."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text_of, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text_of(node.left) + _text_of(node.right)
    return "…"


def _escaped(text: str) -> str:
    for character in "\\`*_[{":
        text = text.replace(character, "\\" + character)
    return text.replace("<", "&lt;")
