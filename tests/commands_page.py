"""Makes docs/commands.md of the commands' flags: `python -m tests.commands_page`."""

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
prints the same list of its flags. Switches are written `--flag` (on) or `--noflag` (off). A flag
without a default may be left out unless it is marked *required*.
"""


def page() -> str:
    """Returns the text of the page: what each command does, and its flags."""
    lines = [_HEAD, "| command | what it does |", "|---|---|"]
    lines += [f"| [`{n}`](#{n}) | {_cell(c.help)} |" for n, c in COMMANDS.items()]
    lines += ["", "Flags of every command:", "", "| flag | meaning |", "|---|---|"]
    lines += [f"| `{flag}` | {_cell(help)} |" for flag, help in _OF_ALL.items()]
    for name, command in COMMANDS.items():
        lines += ["", *_section(name, command)]
    return "\n".join(lines) + "\n"


def _section(name: str, command: Command) -> list[str]:
    lines = [f"## {name}", "", command.help, ""]
    if command.argument:
        given = command.argument.upper()
        lines += [f"Takes one argument, `cellclass {name} {given}`.", ""]
    lines += ["| flag | default | meaning |", "|---|---|---|"]
    return lines + [
        f"| `{_form(flag)}` | {_default(flag, command)} | {_meaning(flag)} |"
        for flag in command.flags
    ]


def _form(flag: Flag) -> str:
    # The choices have bars, which end a cell of a table.
    return f"--{flag.name}=VALUE" if flag.choices else flag.form


def _default(flag: Flag, command: Command) -> str:
    if flag.required:
        return "*required*"
    if flag.name == "processes" and "processes" in command.defaults:
        return "number of processors, at least 2"
    if flag.kind is bool and flag.default is not None:
        return "on" if flag.default else "off"
    return "" if flag.default in (None, "") else f"`{_cell(str(flag.default))}`"


def _meaning(flag: Flag) -> str:
    told = f"{flag.help[:1].upper()}{flag.help[1:]}"
    if flag.choices:
        told += f" One of {', '.join(f'`{choice}`' for choice in flag.choices)}."
    return _cell(told)


def _cell(text: str) -> str:
    """Escapes what ends a cell of a table or begins a tag."""
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
