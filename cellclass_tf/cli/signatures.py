"""Makes the flags of a command from the signature and docstring of a function."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

# --help lists the flags under the program that defines them, not under this module.
flags.disclaim_key_flags()
_ENTRY = re.compile(r"(\w+(?:, \w+)*):\s*(.*)")
_DEFINE = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}
_VALUES = {int: "INTEGER", float: "NUMBER", str: "TEXT"}


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag of a command.

    Attributes:
      name: the name of the function's parameter.
      help: what the docstring says of the parameter.
      kind: bool, int, float or str.
      choices: the only values that are allowed; empty for any.
      default: the value if the flag is not given.
      required: whether the flag has to be given.
      former: the name that the flag had in earlier versions, which is still understood.
    """

    name: str
    help: str = ""
    kind: type = str
    choices: tuple[str, ...] = ()
    default: Any = None
    required: bool = False
    former: str = ""

    @property
    def form(self) -> str:
        """The flag as it is written, such as '--steps=INTEGER'."""
        if self.kind is bool:
            return f"--[no]{self.name}"
        values = "|".join(self.choices) or _VALUES[self.kind]
        return f"--{self.name}={values}"

    @property
    def note(self) -> str:
        """The default, in words; empty if the flag has none."""
        if self.kind is bool:
            return " (default: on)" if self.default else ""
        return "" if self.default in (None, "") else f" (default: {self.default})"

    def define(self, values: flags.FlagValues) -> None:
        """Adds the flag to `values`."""
        if self.choices:
            define = functools.partial(
                flags.DEFINE_enum, enum_values=list(self.choices)
            )
        else:
            define = _DEFINE[self.kind]
        define(self.name, self.default, help=self.help, flag_values=values)
        if self.former:
            flags.DEFINE_alias(self.former, self.name, flag_values=values)


def flags_of(
    function: Callable[..., Any],
    *,
    names: Sequence[str] | None = None,
    leave_out: Sequence[str] = (),
    described_by: Sequence[Any] = (),
    defaults: Mapping[str, Any] = types.MappingProxyType({}),
    former: Mapping[str, str] = types.MappingProxyType({}),
) -> tuple[Flag, ...]:
    """Makes a flag of every parameter of a function.

    A parameter without a default becomes a required flag. Its annotation gives the type of
    the value: Literal, bool, int or float, and text for everything else. The text of the
    parameter in the section "Args" of the docstring is the flag's help.

    Args:
      function: a public function.
      names: the parameters that become flags; None for all of them.
      leave_out: parameters that do not become flags.
      described_by: functions or classes whose docstrings describe the parameters that the
        docstring of `function` does not describe.
      defaults: values for the command line where they differ from the function's.
      former: names that flags had in earlier versions.

    Raises:
      ValueError: if a parameter is not described, or a name is no parameter.
    """
    parameters = inspect.signature(function).parameters
    known: dict[str, str] = {}
    for owner in (*reversed(described_by), function):
        known |= descriptions(owner.__doc__ or "")
    unknown = {*(names or ()), *defaults, *former} - {*parameters}
    if unknown:
        raise ValueError(f"{function.__name__} has no parameter {sorted(unknown)}.")
    found = []
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD or name in leave_out:
            continue
        if names is not None and name not in names:
            continue
        if name not in known:
            raise ValueError(f"The docstring of {function.__name__} lacks {name}.")
        kind, choices = _kind_of(parameter, inspect.unwrap(function))
        required = parameter.default is parameter.empty
        default = None if required else defaults.get(name, parameter.default)
        found.append(
            Flag(
                name,
                known[name],
                kind,
                choices,
                # A sequence is written as one text with commas.
                "" if default == () else default,
                required,
                former.get(name, ""),
            )
        )
    return tuple(found)


def descriptions(docstring: str) -> dict[str, str]:
    """Reads what a docstring says of each parameter or attribute.

    Args:
      docstring: in Google's style, with a section "Args" or "Attributes".

    Returns:
      The text by name, on one line.
    """
    found: dict[str, list[str]] = {}
    indent, lines = None, []
    for line in inspect.cleandoc(docstring).splitlines():
        if not line.startswith(" "):
            indent = 0 if line in ("Args:", "Attributes:") else None
            continue
        if indent is None:
            continue
        depth = len(line) - len(line.lstrip())
        indent = indent or depth
        entry = _ENTRY.fullmatch(line.strip())
        if depth == indent and entry:
            lines = [entry[2]]
            found |= dict.fromkeys(entry[1].split(", "), lines)
        else:
            lines.append(line.strip())
    return {name: " ".join(text) for name, text in found.items()}


def _kind_of(
    parameter: inspect.Parameter, function: Callable[..., Any]
) -> tuple[type, tuple[str, ...]]:
    """Returns the type of a flag's value, and its choices."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        parts = _union(ast.parse(annotation, mode="eval").body)
        values = [_evaluated(part, function) for part in parts]
    else:
        values = [annotation]
    values = [
        part
        for value in values
        for part in (
            typing.get_args(value) if isinstance(value, types.UnionType) else [value]
        )
    ]
    for value in values:
        if typing.get_origin(value) is typing.Literal:
            return str, typing.get_args(value)
    plain = [value for value in values if value in _DEFINE]
    return (plain[0] if len(plain) == 1 else str), ()


def _union(node: ast.expr) -> list[ast.expr]:
    """Returns the members of 'a | b | c'."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_union(node.left), *_union(node.right)]
    return [node]


def _evaluated(node: ast.expr, function: Callable[..., Any]) -> Any:
    """Evaluates an annotation; None for names that only type checkers load."""
    code = compile(ast.Expression(node), "<annotation>", "eval")
    try:
        # This is safe, since annotations are part of this package's code.
        return eval(code, {**function.__globals__, "Literal": typing.Literal})
    except NameError:
        return None
