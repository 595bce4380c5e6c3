"""Fixtures and helpers for all tests."""

import dataclasses
import os
import pathlib
import shutil

import pytest

from tests import real_files

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests use tiny arrays, for which two pools of threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def assets() -> pathlib.Path:
    """Returns the folder of real microscope files; a test that asks for a missing one skips."""
    return real_files.folder()


@pytest.fixture(scope="module")
def no_report():
    """Leaves out the report of `predict`, whose charts take seconds."""
    from cellclass_tf.analysis import report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "report", lambda out: None)
        yield


@pytest.fixture(scope="session")
def make_simulated_study():
    """Makes a small study of simulated cultures, with the ground truth as annotation."""
    import cellclass_tf as cc
    from cellclass_tf.datasets import simulation

    def make(root: pathlib.Path, size: int) -> pathlib.Path:
        cc.simulate(root, images_per_type=4, mixed=1, size=size)
        cc.convert(root / "raw", root, group=simulation.GROUP_PATTERN)
        # Such small fields may hold only half a nucleus, but are needed here.
        study = cc.Study.open(root)
        study.update(dataclasses.replace(r, verdict="accepted") for r in study.rows())
        cc.import_masks(root, root / "truth")
        return root

    return make


@pytest.fixture(scope="session")
def draw_scene():
    """Draws a merged image of cells at random places; each seed gives another scene."""
    import numpy as np

    def draw(seed: int, size: int = 64, cells: int = 25) -> np.ndarray:
        rng = np.random.default_rng(seed)
        rows, columns = np.mgrid[:size, :size] / size
        image = np.full((size, size, 3), (0, 6, 4), np.uint8)
        for row, column, radius in rng.uniform((0, 0, 0.04), (1, 1, 0.07), (cells, 3)):
            far = np.hypot(rows - row, columns - column)
            image[far < radius, 1] = rng.integers(60, 160)
            image[far < radius / 2, 2] = rng.integers(90, 220)
        return image

    return draw


@pytest.fixture(scope="session")
def browser():
    """Starts headless Chromium, and records the messages of its console."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs chromium and chromedriver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(driver)
    opened = webdriver.Chrome(options=options, service=service)
    yield opened
    opened.quit()
