"""Overrides the parameters of an experiment, after checking names and types."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import yaml
from official.modeling import hyperparams

from cellclass_tf.errors import InputError, one_line


def apply(params: hyperparams.Config, text: str, source: str) -> None:
    """Overrides parameters in place.

    Args:
      params: parameters of an experiment.
      text: 'a.b=c,d=e', YAML, or the path of a YAML file.
      source: where the text comes from (a flag or file name), for messages.

    Raises:
      InputError: if the text cannot be read, contains an unknown parameter, or a value of
        the wrong type.
    """
    try:
        read = hyperparams.override_params_dict(
            hyperparams.ParamsDict({}), text, is_strict=False
        )
    except (yaml.YAMLError, tf.errors.OpError, AttributeError, ValueError) as error:
        raise InputError(
            f"{source}: expected overrides such as task.model_diameter_px=30,"
            f"trainer.train_steps=800, or a YAML file; got {one_line(text)!r} "
            f"({type(error).__name__})."
        ) from error
    content = read.as_dict()
    _check(content, _parameters(params), "", source)
    try:
        params.override(content, is_strict=True)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{source}: {one_line(str(error))}") from error


def _parameters(config: hyperparams.Config) -> dict[str, Any]:
    """Returns all parameters, including those of alternatives that are not chosen.

    `as_dict` leaves out the latter, such as those of all backbones but one, but overrides may
    choose another one and set its parameters.
    """
    found = config.as_dict()
    names = list(found)
    if isinstance(config, hyperparams.OneOfConfig):
        names = [field.name for field in dataclasses.fields(config)]
    for name in names:
        value = getattr(config, name)
        is_config = isinstance(value, hyperparams.Config)
        found[name] = _parameters(value) if is_config else value
    return found


def _check(
    given: Mapping[str, Any], known: Mapping[str, Any], at: str, source: str
) -> None:
    for name, value in given.items():
        if name not in known:
            raise InputError(
                f"{source}: unknown parameter {at}{name}.{_near(name, known, at)}"
            )
        expected = _kind_that_is_expected(known[name], value)
        if expected:
            raise InputError(
                f"{source}: expected {expected} for {at}{name}, got {value!r}."
            )
        if isinstance(value, Mapping):
            _check(value, known[name], f"{at}{name}.", source)


def _near(name: str, known: Mapping[str, Any], at: str) -> str:
    near = difflib.get_close_matches(str(name), known, 1)
    if near:
        return f" Did you mean {at}{near[0]}?"
    return f" Known parameters: {', '.join(f'{at}{other}' for other in known)}."


def _kind_that_is_expected(known: Any, value: Any) -> str:
    """Returns the kind of value that is expected, or '' if the value is of that kind."""
    if known is None or value is None:
        return ""
    if isinstance(known, Mapping) or isinstance(value, Mapping):
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        if both:
            return ""
        return "several values" if isinstance(known, Mapping) else "a single value"
    if isinstance(known, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(known, (int, float)):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return "" if is_number else "a number"
    return ""
