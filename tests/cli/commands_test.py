"""Tests of cellclass_tf.cli.commands."""

import ast
import inspect
import pathlib

import pytest
from absl import flags

import cellclass_tf
from cellclass_tf.cli import calls
from cellclass_tf.cli.commands import COMMANDS
from cellclass_tf.interchange import exporting
from cellclass_tf.microscopy import contrast

ROOT = pathlib.Path(__file__).parents[2]
# Commands whose flags are the parameters of the public function of their name.
OWN_FUNCTION = (
    *("demo", "simulate", "convert", "annotate", "finetune", "predict"),
    *("evaluate", "compare", "conditions", "compare-conditions", "report", "trace"),
    "figure",
)
# Where a command line wants something else than a notebook: worker processes where
# files may crash their readers, and text for what is a sequence.
OTHER_DEFAULTS = {
    ("demo", "processes"),
    ("simulate", "processes"),
    ("convert", "processes"),
    ("simulate", "confounded"),
    ("convert", "beam_options"),
    ("annotate", "beam_options"),
    ("predict", "beam_options"),
}


def parameters_of(name):
    return inspect.signature(getattr(cellclass_tf, name.replace("-", "_"))).parameters


def flags_of(name):
    return {flag.name: flag for flag in COMMANDS[name].flags}


@pytest.mark.parametrize("name", OWN_FUNCTION)
def test_flags_are_parameters_of_the_function_and_what_must_be_given_is_required(name):
    parameters, given = parameters_of(name), flags_of(name)
    argument = {COMMANDS[name].argument} - {""}
    assert given.keys() | argument <= parameters.keys()
    needed = {n for n, p in parameters.items() if p.default is p.empty}
    required = {flag.name for flag in given.values() if flag.required}
    assert required | argument == needed


@pytest.mark.parametrize("name", OWN_FUNCTION)
def test_flags_have_the_defaults_of_the_parameters(name):
    parameters = parameters_of(name)
    others = {
        (name, flag.name)
        for flag in COMMANDS[name].flags
        if not flag.required and flag.default != parameters[flag.name].default
    }
    assert others == {(n, flag) for n, flag in OTHER_DEFAULTS if n == name}


def test_flags_of_the_dataset_are_those_of_the_builder():
    # Importing it would load TensorFlow.
    text = (ROOT / "tfds_builders" / "preparation.py").read_text(encoding="utf-8")
    (function,) = (
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name == "dataset"
    )
    options = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    defaults = {arg.arg: default and default.value for arg, default in options}
    # `batch.takes_engine` makes these of the engine.
    added = {"engine", "processes", "beam_options"}
    given = flags_of("dataset")
    assert given.keys() == {"study"} | defaults.keys() | added
    for name in defaults.keys() - added:
        assert given[name].default == defaults[name], name


def test_flags_of_import_export_and_check_are_parameters_of_their_calls():
    for name, call in (
        ("import", calls.import_),
        ("export", calls.export),
        ("check", calls.check),
    ):
        assert flags_of(name).keys() == inspect.signature(call).parameters.keys()


def test_every_choice_is_one_that_the_function_knows():
    for format in flags_of("import")["format"].choices:
        assert callable(getattr(cellclass_tf, f"import_{format}"))
    known = {*exporting.FORMATS, "cellpose"}
    assert set(flags_of("export")["format"].choices) == known
    assert flags_of("convert")["contrast"].choices == contrast.CHOICES


@pytest.mark.parametrize("name", COMMANDS)
def test_names_of_flags_today_and_before_are_distinct(name):
    command = COMMANDS[name]
    names = [flag.name for flag in command.flags]
    names += [flag.former for flag in command.flags if flag.former]
    names += [command.argument] if command.argument else []
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_are_values_that_the_flag_itself_would_take(name):
    for flag in COMMANDS[name].flags:
        assert not (flag.required and flag.default is not None), flag.name
        if flag.default is None:
            continue
        if flag.choices:
            assert flag.default in flag.choices, flag.name
            continue
        values = flags.FlagValues()
        flag.define(flag.name, flag.default, flag.help, flag_values=values)
        values(["cellclass", f"--{flag.name}={flag.default}"])
        assert values[flag.name].value == flag.default, flag.name
