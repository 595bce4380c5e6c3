"""Errors that a user can correct, and checks for missing packages."""

from __future__ import annotations

import importlib.util
import platform
import shlex
from collections.abc import Collection

# Packages that an installation for prediction lacks, by the name of the import.
_LEFT_OUT = {
    "cellpose": "cellpose",
    "official": "tf-models-official",
    "tensorflow_datasets": "tensorflow-datasets",
    "tf_keras": "tf_keras",
    "torch": "torch",
}
# What training and the export of models import.
FOR_TRAINING = ("official", "tensorflow_datasets", "tf_keras")


class InputError(ValueError):
    """Input that cannot be used; the message says what is wrong, where, and what to do."""


def one_line(text: str) -> str:
    """Returns a text with line breaks and control characters as escape sequences.

    File names may contain such characters, but a list of failures has one line per file.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def first_names(names: Collection[str], most: int = 5) -> str:
    """Returns the first names for a message, such as 'a, b, …'; 'none' if there are none."""
    shown = list(names)[:most]
    return ", ".join([*shown, *["…"][: len(names) > most]]) or "none"


def command(name: str, **flags: object) -> str:
    """Returns a command of `cellclass` for a message, with its flags quoted for a shell."""
    given = [f"--{flag}={shlex.quote(str(value))}" for flag, value in flags.items()]
    return " ".join(["cellclass", name, *given])


def require(what: str, *modules: str) -> None:
    """Checks that packages are installed, which an installation for prediction lacks.

    It is called before a stage begins, so that the stage does not fail after hours of work.

    Args:
      what: name of the stage, for the message.
      modules: names of the imports, for example 'official' for tf-models-official.

    Raises:
      InputError: if a package is not installed; the message names the package and the
        command to run.
    """
    missing = [_LEFT_OUT[name] for name in modules if not _is_installed(name)]
    if not missing:
        return
    if "tf-models-official" in missing and platform.system() == "Windows":
        advice = (
            "It does not run on Windows, since tensorflow-text has no build for it: train "
            "on Linux, macOS or the Windows Subsystem for Linux, and predict here"
        )
    else:
        advice = (
            "This is an installation for prediction alone; to complete it, run: pip "
            "install cellclass_tf"
        )
    raise InputError(
        f"{what} needs {' and '.join(missing)}, which is not installed. {advice}."
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    # An import hook blocks it, or it was imported without a specification.
    except (ImportError, ValueError):
        return False
