"""What all tests share."""

import os
import pathlib

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests use tiny arrays; two pools of threads on two cores only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def assets() -> pathlib.Path:
    """Real microscope files beside the project; tests that need them skip without."""
    folder = pathlib.Path(__file__).parents[2] / "shared" / "assets"
    if not folder.exists():
        pytest.skip(f"needs real files in {folder}")
    return folder
