"""cellpose's weights: strange files are refused and never run."""

import pathlib
import pickle
import shutil
import ssl
import urllib.error

import numpy as np
import pytest

from cellclass_tf.annotation.annotators import cellpose_weights
from cellclass_tf.annotation.annotators.cellpose import CellposeAnnotator
from cellclass_tf.errors import InputError


class _Touch:
    """Unpickled without care, it makes a file."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self._path,)


@pytest.fixture
def models_folder(tmp_path, monkeypatch):
    from cellpose import models

    monkeypatch.setattr(models, "MODEL_DIR", tmp_path / "models")
    return tmp_path / "models"


def _size_model(**changes):
    return {
        "A": np.zeros(256, np.float32),
        "smean": np.zeros(256, np.float32),
        "ymean": 0.0,
        "diam_mean": 30.0,
    } | changes


def _save_size_model(path, value):
    np.save(path, np.array(value, object), allow_pickle=True)


def test_malicious_size_model_is_refused_and_not_run(own_weights, tmp_path):
    shutil.copy(own_weights, tmp_path / "mine")
    trap = tmp_path / "trap"
    _save_size_model(tmp_path / "size_mine.npy", _size_model(extra=_Touch(trap)))
    with pytest.raises(InputError, match=r"size_mine\.npy.*pathlib.*Nothing of it was"):
        CellposeAnnotator(tmp_path / "mine")
    assert not trap.exists()
    # With the diameter given, the file is not even looked at.
    CellposeAnnotator(tmp_path / "mine", diameter_px=30)


def _sharing(depth=60):
    """A list that would take for ever to be made an array."""
    shared = []
    for _ in range(depth):
        shared = [shared, shared]
    return shared


@pytest.mark.parametrize(
    "changes",
    [
        {"A": np.full(256, np.nan, np.float32)},
        {"ymean": np.inf},
        {"diam_mean": "30"},
        {"smean": _sharing()},
        {"smean": np.array([None])},
    ],
)
def test_a_size_model_of_no_numbers_is_refused(own_weights, tmp_path, changes):
    shutil.copy(own_weights, tmp_path / "mine")
    _save_size_model(tmp_path / "size_mine.npy", _size_model(**changes))
    with pytest.raises(
        InputError, match=f"finite numbers as {next(iter(changes))} of a"
    ):
        CellposeAnnotator(tmp_path / "mine")


def test_weights_that_are_no_numbers_are_refused(own_weights, tmp_path):
    import torch

    weights = torch.load(own_weights, weights_only=True)
    name = next(name for name, value in weights.items() if value.ndim == 4)
    weights[name][0, 0, 0, 0] = np.nan
    torch.save(weights, tmp_path / "mine")
    with pytest.raises(InputError, match=f"finite numbers in weights; {name}"):
        CellposeAnnotator(tmp_path / "mine", diameter_px=30)


def test_size_model_without_its_numbers_is_refused(own_weights, tmp_path):
    shutil.copy(own_weights, tmp_path / "mine")
    _save_size_model(tmp_path / "mine_size.npy", {"A": 1})
    with pytest.raises(InputError, match="expected a cellpose size model"):
        CellposeAnnotator(tmp_path / "mine")


def test_malicious_weights_are_refused_and_not_run(tmp_path):
    import torch

    trap = tmp_path / "trap"
    torch.save({"output.2.weight": _Touch(trap)}, tmp_path / "zip")
    (tmp_path / "pickle").write_bytes(pickle.dumps(_Touch(trap), protocol=2))
    for name in ("zip", "pickle"):
        with pytest.raises(InputError, match=f"{name}: expected cellpose weights"):
            CellposeAnnotator(tmp_path / name)
    assert not trap.exists()


def test_weights_of_another_network_are_refused(tmp_path):
    import torch

    torch.save({"W2": torch.zeros(3)}, tmp_path / "other")
    with pytest.raises(InputError, match="not weights of the cellpose 3 U-net"):
        CellposeAnnotator(tmp_path / "other")


def test_unknown_model_lists_the_known(tmp_path):
    with pytest.raises(InputError, match=r"nothing.*neither a file.*cyto3, .*nuclei"):
        CellposeAnnotator(tmp_path / "nothing")


def test_no_network_names_the_folder_and_the_ways_on(models_folder, monkeypatch):
    from cellpose import utils

    calls = []

    def refuse(url, *_, **__):
        calls.append(url)
        # As cellpose does before it opens an address.
        ssl._create_default_https_context = ssl._create_unverified_context
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(utils, "download_url_to_file", refuse)
    context = ssl._create_default_https_context
    with pytest.raises(InputError) as info:
        CellposeAnnotator("cyto3")
    for part in (str(models_folder), "cyto3", "--model=PATH", "--annotator=watershed"):
        assert part in str(info.value)
    assert len(calls) == 1
    assert not list(models_folder.glob("*"))
    assert ssl._create_default_https_context is context


def test_download_that_broke_off_does_not_stay(models_folder, monkeypatch, own_weights):
    from cellpose import utils

    def half(url, path, **_):
        content = own_weights.read_bytes()
        pathlib.Path(path).write_bytes(content[: len(content) // 2])

    monkeypatch.setattr(utils, "download_url_to_file", half)
    with pytest.raises(InputError, match="expected cellpose weights"):
        CellposeAnnotator("cyto3", diameter_px=30)
    assert not list(models_folder.glob("*"))


def test_named_weights_on_disk_are_used(models_folder, own_weights):
    models_folder.mkdir()
    shutil.copy(own_weights, models_folder / "cyto3")
    _save_size_model(models_folder / "size_cyto3.npy", _size_model())
    annotator = CellposeAnnotator("cyto3")
    assert annotator.name == "cellpose:cyto3"
    labels, _, _ = annotator.annotate(np.zeros((32, 32, 3), np.uint8))
    assert labels.shape == (32, 32)


def test_version_4_is_refused(monkeypatch, own_weights):
    import importlib.metadata

    monkeypatch.setattr(importlib.metadata, "version", lambda _: "4.0.1")
    with pytest.raises(InputError, match="cellpose 4.0.1 is installed"):
        cellpose_weights.known_models()
