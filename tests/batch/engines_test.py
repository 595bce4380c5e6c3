"""Tests that every engine writes the same bytes for images, cells and predictions."""

import pathlib
import pickle
import shutil

import numpy as np
import pytest
import tifffile

import cellclass_tf as cc
from cellclass_tf.core.study import ImageRow
from cellclass_tf.storage import png
from tests.fake_model import save_model

ENGINES = {
    "one process": {},
    "two processes": {"processes": 2},
    "beam": {"processes": 2, "engine": "beam"},
}


def field(seed):
    """Returns a (64, 96, 3) uint8 merged image: two cells with a nucleus each, and noise."""
    image = np.random.default_rng(seed).integers(0, 6, (64, 96, 3), np.uint8)
    image[..., 0] = 0
    for left in (10, 54):
        image[20:44, left : left + 24, 1] += 100
        image[26:38, left + 6 : left + 18, 2] += 200
    return image


def tree(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns all files below a folder, without journals and the path of the run."""
    own = {"run.json", "report.html"}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".journal" not in path.parts and path.name not in own
    }


def trees_of_all_engines(call, tmp_path):
    """Calls `call(folder, **engine)` for every engine and returns what they wrote."""
    found = []
    for name, engine in ENGINES.items():
        outcome = call(tmp_path / name, **engine)
        assert not outcome.failures
        assert len(outcome.done) == 3
        found.append(tree(tmp_path / name))
    return found


@pytest.fixture
def study(tmp_path):
    study = cc.Study.create(tmp_path / "study")
    rows = [ImageRow(f"HEK/{name}.png", "HEK") for name in "abc"]
    for seed, row in enumerate(rows):
        png.write_png(study.image_path(row), field(seed))
    study.update(rows)
    return study


def test_convert_writes_the_same_bytes_on_every_engine(tmp_path):
    (tmp_path / "raw" / "HEK").mkdir(parents=True)
    for seed, name in enumerate("abc"):
        pixels = field(seed)[..., [2, 1]].transpose(2, 0, 1).astype(np.uint16) * 16
        metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
        tifffile.imwrite(
            tmp_path / "raw" / "HEK" / f"{name}.ome.tif",
            pixels,
            ome=True,
            metadata=metadata,
            photometric="minisblack",
        )

    def call(folder, **engine):
        return cc.convert(tmp_path / "raw", folder, **engine)

    first, *others = trees_of_all_engines(call, tmp_path)
    assert {"images/HEK/a.png", "images.csv"} <= set(first)
    assert all(other == first for other in others)


def test_annotate_writes_the_same_bytes_on_every_engine(study, tmp_path):
    def call(folder, **engine):
        # A copy keeps the images' times, on which a row's `annotation` depends.
        shutil.copytree(study.root, folder)
        return cc.annotate(folder, annotator="watershed", diameter=24, **engine)

    first, *others = trees_of_all_engines(call, tmp_path)
    assert {"cells/HEK/a.tif", "images.csv"} <= set(first)
    assert all(other == first for other in others)


def test_predict_writes_the_same_bytes_on_every_engine(study, model, tmp_path):
    def call(folder, **engine):
        return cc.predict(model, study.root, folder, **engine)

    first, *others = trees_of_all_engines(call, tmp_path)
    assert {"labels/HEK/a.tif", "overlays/HEK/a.png", "cells.csv"} <= set(first)
    assert all(other == first for other in others)


def test_a_process_loads_the_same_model_only_once(model):
    sent = pickle.dumps(cc.Predictor.load(model))
    assert len(sent) < 1000
    assert pickle.loads(sent) is pickle.loads(sent)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Makes a model that finds one cell at the same place in every tile."""
    return save_model(tmp_path_factory.mktemp("model"))
