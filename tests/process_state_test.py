"""Tests of cellclass_tf.process_state."""

import inspect
import io
import logging
import os
import random
import subprocess
import sys
import threading

import matplotlib
import numpy as np
import pytest
from PIL import Image

import cellclass_tf as cc
from cellclass_tf import process_state
from tests import process_state_of

# These change nothing, and are called once for each image.
LIGHT = ("read_micrograph", "read_micrographs", "merge_channels", "cell_table")
LIGHT += ("compare_cells", "draw_overlay", "json_schema", "write_schemas")


def test_every_public_stage_restores_the_state():
    stages = {name: getattr(cc, name) for name in cc.__all__ if name not in LIGHT}
    for name, stage in stages.items():
        assert not inspect.isfunction(stage) or hasattr(stage, "__wrapped__"), name


def test_a_stage_leaves_random_numbers_and_loggers_alone():
    @process_state.keep()
    def stage(value):
        random.seed(1)
        np.random.seed(1)
        logging.root.addHandler(logging.NullHandler())
        logging.getLogger("absl").setLevel(logging.FATAL)
        return value

    states = random.getstate(), np.random.get_state()[1].tolist()
    handlers, level = list(logging.root.handlers), logging.getLogger("absl").level
    assert stage(5) == 5
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
    assert logging.root.handlers == handlers
    assert logging.getLogger("absl").level == level


@pytest.mark.parametrize("engine", ["local", "beam"])
def test_stages_without_a_network_change_nothing(tmp_path, engine):
    # Settings that libraries make while they load are kept.
    import apache_beam.runners.worker.operations  # noqa: F401
    import zarr  # noqa: F401

    before = process_state_of.process_state()

    def check(outcome):
        assert process_state_of.changed(before, process_state_of.process_state()) == {}
        return outcome

    check(cc.simulate(tmp_path, images_per_type=1, mixed=0, size=160))
    check(cc.convert(tmp_path / "raw", tmp_path, engine=engine))
    check(cc.annotate(tmp_path, annotator="watershed", engine=engine))
    check(cc.import_masks(tmp_path, tmp_path / "truth"))
    check(cc.export_coco(tmp_path, tmp_path / "coco"))
    check(cc.import_coco(tmp_path, tmp_path / "coco"))
    check(cc.export_cellpose(tmp_path, tmp_path / "gui"))
    check(cc.compare(tmp_path, tmp_path, tmp_path / "compared"))
    for name in ("imagej", "geojson", "ome", "zarr"):
        check(cc.export_cells(tmp_path, tmp_path / name, format=name))
    with pytest.raises(cc.InputError):
        cc.finetune(tmp_path, tmp_path / "weights", model="none")
    check(None)


def test_cellpose_changes_nothing(tmp_path, assets):
    import cellpose.models  # noqa: F401

    cc.simulate(tmp_path, images_per_type=1, mixed=0, size=160)
    cc.convert(tmp_path / "raw", tmp_path)
    weights = assets / "weights" / "cellpose_unet_scellseg"
    before = process_state_of.process_state()
    outcome = cc.annotate(tmp_path, model=weights, diameter=40)
    assert outcome.done
    assert not outcome.failures
    assert process_state_of.changed(before, process_state_of.process_state()) == {}


def test_processors_are_those_that_a_scheduler_grants(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 7}, raising=False)
    assert process_state.processors() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert process_state.processors() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert process_state.processors() == 1


def test_environment_variables_are_restored(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "mine")
    monkeypatch.delenv("OTHER", raising=False)
    with process_state.keep_environment("TF_CONFIG", "OTHER"):
        os.environ.update(TF_CONFIG="theirs", OTHER="theirs")
    assert os.environ["TF_CONFIG"] == "mine"
    assert "OTHER" not in os.environ


def test_the_backend_of_matplotlib_is_restored():
    before = dict.__getitem__(matplotlib.rcParams, "backend")
    with process_state.keep_matplotlib_backend():
        matplotlib.use("svg")
    assert dict.__getitem__(matplotlib.rcParams, "backend") == before


@pytest.mark.parametrize("own", [logging.NOTSET, logging.DEBUG])
def test_a_log_level_that_the_user_set_is_kept(own):
    logger = logging.getLogger("a_library")
    logger.setLevel(own)
    with process_state.log_level("a_library", logging.ERROR):
        assert logger.level == (own or logging.ERROR)
    assert logger.level == own


def test_the_limit_of_pillow_is_restored_when_threads_read_together():
    before, seen = Image.MAX_IMAGE_PIXELS, []

    def read(pixels):
        for _ in range(200):
            with process_state.pillow_pixel_limit(pixels):
                seen.append(Image.MAX_IMAGE_PIXELS == pixels)

    threads = [threading.Thread(target=read, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(seen)
    assert len(seen) == 600
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("loaded", [True, False])
def test_triton_is_hidden_from_pytorch_where_tensorflow_was_first(monkeypatch, loaded):
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    if loaded:
        monkeypatch.setitem(sys.modules, "tensorflow", object())
    with process_state.hide_triton():
        assert ("triton" in sys.modules) == loaded
        if loaded:
            with pytest.raises(ImportError):
                import triton  # noqa: F401
    assert "triton" not in sys.modules


def test_settings_of_the_user_take_precedence_over_those_of_the_program(monkeypatch):
    monkeypatch.setattr(os, "environ", {"TF_ENABLE_ONEDNN_OPTS": "0"})
    process_state.begin_program()
    assert os.environ == {"TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_characters_that_a_terminal_cannot_show_are_escaped(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(os, "environ", dict(os.environ))
    process_state.begin_program()
    print("5 µm \u2192 細胞 \udcff", flush=True)
    shown = stream.buffer.getvalue().decode(encoding)
    assert shown.startswith("5 ")
    assert shown.endswith("\\udcff\n")


def test_importing_the_package_changes_nothing_but_sys_modules():
    code = """
import os, warnings, matplotlib
from PIL import Image
state = lambda: (dict(os.environ), list(warnings.filters), Image.MAX_IMAGE_PIXELS,
                 dict.__getitem__(matplotlib.rcParams, "backend"))
before = state()
import cellclass_tf, cellclass_tf.cli, experiments
assert state() == before
# TensorFlow sets variables and warning filters of its own.
from cellclass_tf.maskrcnn import training
assert state()[2:] == before[2:]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], "utf-8 ascii backslashreplace"),
        (["-X", "utf8"], "utf-8 utf-8 backslashreplace"),
        # An explicit -X utf8=0 is respected.
        (["-X", "utf8=0"], "ascii ascii backslashreplace"),
    ],
)
def test_a_program_has_utf_8_file_names_in_any_locale(options, shown):
    code = (
        "import sys; from cellclass_tf import process_state as p; p.begin_program(); "
        "print(sys.getfilesystemencoding(), sys.stdout.encoding, sys.stdout.errors)"
    )
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"}
    environment.pop("PYTHONIOENCODING", None)
    found = subprocess.run(
        [sys.executable, *options, "-c", code],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.replace("us-ascii", "ascii").split() == shown.split()
