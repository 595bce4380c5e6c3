"""Errors that a user can do something about."""

from __future__ import annotations

import importlib.util
import platform

# Packages that an installation for prediction lacks: name of the import, of the package.
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
    """Input that cannot be used: the message says what, where and what to do."""


def one_line(text: str) -> str:
    """Returns a text with its line breaks and control characters spelt out.

    Names of files may hold them, and a list of failures has one line each.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def require(what: str, *modules: str) -> None:
    """Checks that packages are installed which an installation for prediction lacks.

    Called before a stage begins, so that it does not fail after hours of work.

    Args:
      what: the stage, for the message.
      modules: as they are imported, for example 'official' for tf-models-official.

    Raises:
      InputError: if one is not installed; it names the package and the command to run.
    """
    missing = [_LEFT_OUT[name] for name in modules if not _is_installed(name)]
    if not missing:
        return
    if "tf-models-official" in missing and platform.system() == "Windows":
        advice = (
            "There is none for Windows, since tensorflow-text has no build for it: train on "
            "Linux, macOS or the Windows Subsystem for Linux, and predict here"
        )
    else:
        advice = (
            "This is an installation for prediction alone; to complete it, run: pip "
            "install cellclass_tf"
        )
    raise InputError(
        f"{what} needs {' and '.join(missing)}, not installed here. {advice}."
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    # An import hook refuses it; or it is already imported without a specification.
    except (ImportError, ValueError):
        return False
