"""Writes docs/commands.md from the flags of the commands: `python -m tests.commands_page`."""

from __future__ import annotations

import pathlib

from cellclass_tf.cli.commands import COMMANDS, Command
from cellclass_tf.cli.main import _OF_ALL
from cellclass_tf.cli.signatures import Flag

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "commands.md"
_HEAD = """\
# Commands

<!-- Made of the code by `python -m tests.commands_page`; a test compares the two. -->

Every command is written as `cellclass COMMAND --flag=value ...`, and `cellclass COMMAND --help`
prints the same list of its flags. A switch `--[no]flag` is written `--flag` (on) or `--noflag`
(off), and is off unless the list says otherwise. Flags that are not *required* may be left out.
"""


def page() -> str:
    """Returns the text of the page: what each command does, and its flags."""
    lines = [_HEAD, "| command | what it does |", "|---|---|"]
    lines += [f"| [`{n}`](#{n}) | {c.help} |" for n, c in COMMANDS.items()]
    lines += ["", "Flags of every command:", ""]
    lines += [f"- `{flag}`: {_text(help)}" for flag, help in _OF_ALL.items()]
    for name, command in COMMANDS.items():
        lines += ["", *_section(name, command)]
    return "\n".join(lines) + "\n"


def _section(name: str, command: Command) -> list[str]:
    lines = [f"## {name}", "", command.help, ""]
    if command.argument:
        given = command.argument.upper()
        lines += [f"Takes one argument, `cellclass {name} {given}`.", ""]
    for flag in command.flags:
        lines.append(f"- `{flag.form}`{_note(flag, command)}: {_text(flag.help)}")
    return lines


def _note(flag: Flag, command: Command) -> str:
    if flag.required:
        return " (*required*)"
    if flag.name == "processes" and "processes" in command.defaults:
        return " (default: number of processors, at least 2)"
    if flag.kind is bool and flag.default is None and "if not given" not in flag.help:
        return " (default: as in the last call)"
    return flag.note


def _text(text: str) -> str:
    """Capitalizes the first letter, and escapes the special characters of Markdown."""
    text = f"{text[:1].upper()}{text[1:]}"
    return text.replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
