"""Runs `cellclass COMMAND --flag=value`: parses flags, calls, and prints the result."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

from absl import flags

import cellclass_tf
from cellclass_tf import batch, messages, process_state
from cellclass_tf.cli import log_file, next_steps
from cellclass_tf.cli.commands import COMMANDS
from cellclass_tf.errors import InputError, one_line

DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
# Flags that every command has.
_OF_ALL = {
    "--verbose": "Shows the messages of TensorFlow and other libraries.",
    "--noprogress": "Draws no progress bars.",
}


def main() -> None:
    """Runs the command in the arguments of this process, and exits with its status."""
    process_state.begin_program()
    arguments = [value for value in sys.argv[1:] if value not in _OF_ALL]
    given = {*sys.argv[1:]} & _OF_ALL.keys()
    bars = "--noprogress" not in given
    try:
        if "--verbose" in given or not arguments or "--help" in arguments:
            with messages.shown_on(bars=bars):
                sys.exit(run(arguments))
        with (
            log_file.catches_messages(arguments[0]) as terminal,
            messages.shown_on(terminal, bars=bars),
        ):
            status = run(arguments, terminal)
        sys.exit(status)
    except KeyboardInterrupt:
        print("Interrupted. Run the same command again to continue.", file=sys.stderr)
        sys.exit(INTERRUPTED)


def run(arguments: Sequence[str], terminal: TextIO | None = None) -> int:
    """Runs one command.

    Args:
      arguments: name of the command, and its flags.
      terminal: stream for error messages; the standard error stream if not given.

    Returns:
      0 if everything succeeded, 1 if some files failed or a check did not pass (they are
      listed), 2 if the command is invalid or had nothing to work on.
    """
    if not arguments or arguments[0] in ("help", "--help", "-h"):
        print(_overview())
        return DONE if arguments else USAGE
    if arguments[0] == "--version":
        print(f"cellclass_tf {cellclass_tf.__version__}")
        return DONE
    name, *rest = arguments
    if name not in COMMANDS:
        unknown = f"unknown command {name!r}; known are {', '.join(COMMANDS)}."
        return _complain(unknown, terminal)
    if {"--help", "-help", "-h", "--helpshort", "--helpfull"} & set(rest):
        print(_usage(name))
        return DONE
    try:
        values = _parse(name, rest)
        result = COMMANDS[name](**values)
        status = _report(result, "files" if name == "convert" else "images")
        if isinstance(result, batch.Outcome) and result.results:
            for line in next_steps.lines_after(name, values):
                print(line)
        return status
    except (flags.Error, InputError, OSError) as error:
        return _complain(str(error), terminal)


def _parse(name: str, arguments: Sequence[str]) -> dict[str, Any]:
    values = flags.FlagValues()
    # Otherwise flags after an argument would be parsed as arguments.
    values.set_gnu_getopt()
    for flag in COMMANDS[name].flags:
        flag.define(values)
    rest = values([f"cellclass {name}", *arguments])[1:]
    given = _arguments(name, rest)
    missing = [
        f.name for f in COMMANDS[name].flags if f.required and not values[f.name].value
    ]
    if missing:
        raise flags.Error(f"--{missing[0]} is missing.\n\n{_usage(name)}")
    return given | {f.name: values[f.name].value for f in COMMANDS[name].flags}


def _arguments(name: str, rest: Sequence[str]) -> dict[str, str]:
    """Returns the command's argument, if it takes one; raises an error for other words."""
    wanted = [COMMANDS[name].argument] if COMMANDS[name].argument else []
    if len(rest) > len(wanted):
        expected = "only --flag=value" if not wanted else f"one {wanted[0].upper()}"
        raise flags.Error(f"expected {expected}, got {rest[len(wanted)]!r}.")
    if len(rest) < len(wanted):
        raise flags.Error(f"{wanted[0].upper()} is missing.\n\n{_usage(name)}")
    return dict(zip(wanted, rest, strict=True))


def _report(result: Any, unit: str) -> int:
    """Prints what a command returned, and returns the exit status."""
    if not isinstance(result, batch.Outcome):
        if result is not None:
            print(result)
        # The results of checks have an attribute `passed`.
        return DONE if getattr(result, "passed", True) else SOME_FAILED
    print(
        f"{len(result.done)} {unit} done, {len(result.skipped)} were done before, "
        f"{len(result.failures)} failed."
    )
    for note in result.notes:
        print(f"  {one_line(note)}")
    for name, reason in sorted(result.failures.items()):
        # Names may contain line breaks, but each failure is printed on one line.
        name, reason = one_line(name), one_line(reason)
        print(f"  {reason if name in reason else f'{name}: {reason}'}")
    return SOME_FAILED if result.failures else DONE


def _complain(message: str, terminal: TextIO | None) -> int:
    print(f"cellclass: {message}", file=terminal or sys.stderr)
    return USAGE


def _overview() -> str:
    lines = ["usage: cellclass COMMAND --flag=value ...", ""]
    width = max(map(len, COMMANDS)) + 2
    lines += [f"  {name:<{width}}{command.help}" for name, command in COMMANDS.items()]
    lines += ["", "Flags of every command:"]
    lines += [f"  {name:<{width}}{help}" for name, help in _OF_ALL.items()]
    lines += ["", "`cellclass COMMAND --help` lists the flags of a command."]
    return "\n".join(lines)


def _usage(name: str) -> str:
    shown = f"{name} {COMMANDS[name].argument.upper()}".rstrip()
    lines = [f"cellclass {shown}: {COMMANDS[name].help}", ""]
    for flag in COMMANDS[name].flags:
        lines.append(f"  {flag.form}{' (required)' * flag.required}")
        text = f"{flag.help[:1].upper()}{flag.help[1:]}{flag.note}"
        lines += textwrap.wrap(
            text,
            88,
            break_on_hyphens=False,
            initial_indent="      ",
            subsequent_indent="      ",
        )
    return "\n".join(lines)
