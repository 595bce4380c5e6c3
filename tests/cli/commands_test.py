"""Tests of cellclass_tf.cli.commands."""

import inspect

import pytest
from absl import flags

import cellclass_tf
from cellclass_tf.cli.commands import COMMANDS
from cellclass_tf.interchange import exporting


def flags_of(name):
    return {flag.name: flag for flag in COMMANDS[name].flags}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_described_and_its_default_is_a_value_that_it_takes(name):
    for flag in COMMANDS[name].flags:
        # A sentence, without words of Python that mean nothing on the command line.
        assert len(flag.help.split()) > 1, flag
        assert flag.help.endswith("."), flag
        assert "None" not in flag.help, flag
        assert not (flag.required and flag.default is not None), flag.name
        values = flags.FlagValues()
        flag.define(values)
        given = [] if flag.default is None else [f"--{flag.name}={flag.default}"]
        values(["cellclass", *given])
        assert values[flag.name].value == flag.default, flag.name


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_its_flags_as_parameters_with_the_same_defaults(name):
    command = COMMANDS[name]
    called = command.execute or getattr(cellclass_tf, command.function)
    parameters = inspect.signature(called).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for flag in command.flags:
        assert takes_all or flag.name in parameters, flag.name
        if flag.name in parameters and flag.name not in command.defaults:
            default = parameters[flag.name].default
            if flag.required:
                assert default in (inspect.Parameter.empty, None), flag.name
            else:
                assert flag.default == ("" if default == () else default), flag.name


def test_every_choice_is_one_that_the_function_knows():
    for format in flags_of("import")["format"].choices:
        assert callable(getattr(cellclass_tf, f"import_{format}"))
    known = {*exporting.FORMATS, "cellpose"}
    assert set(flags_of("export")["format"].choices) == known
    assert flags_of("convert")["contrast"].choices == ("group", "anew", "field")
    assert flags_of("annotate")["engine"].choices == ("local", "beam")


@pytest.mark.parametrize("name", COMMANDS)
def test_current_and_former_names_of_flags_are_distinct(name):
    command = COMMANDS[name]
    names = [flag.name for flag in command.flags]
    names += [flag.former for flag in command.flags if flag.former]
    names += [command.argument] if command.argument else []
    assert len(set(names)) == len(names)
