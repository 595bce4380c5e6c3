"""Finds the real microscope files that some tests read."""

import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
VARIABLE = "CELLCLASS_REAL_FILES"


class RealPath(type(pathlib.Path())):
    """A path in the folder of real files; a test that asks for a missing one skips."""

    __slots__ = ()

    def __truediv__(self, name):
        path = super().__truediv__(name)
        if not path.exists():
            pytest.skip(needed(path))
        return path


def needed(path: pathlib.Path) -> str:
    """Returns the reason for skipping a test whose file is missing."""
    return (
        f"needs real files, of which {path} is missing; "
        "see `python -m tests.fetch_real_files --help`"
    )


def folder() -> RealPath:
    """Returns the folder of real files; the calling test skips where there is none."""
    given = os.environ.get(VARIABLE)
    found = RealPath(given or ROOT.parent / "shared" / "assets")
    if given and not found.is_dir():
        raise NotADirectoryError(f"{VARIABLE}={given} is not a folder")
    if not found.is_dir():
        pytest.skip(needed(found))
    return found
