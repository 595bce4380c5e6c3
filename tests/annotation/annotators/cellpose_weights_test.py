"""Tests of cellpose weights: content is identified, and no code in it is run."""

import pathlib
import pickle

import numpy as np
import pytest
import torch

from cellclass_tf.annotation.annotators import cellpose_library, cellpose_weights
from cellclass_tf.annotation.annotators.cellpose import CellposeAnnotator
from cellclass_tf.errors import InputError
from cellclass_tf.storage import digests


class _Touch:
    """Makes a file when it is unpickled without care."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self._path,)


def test_weights_with_nan_or_infinity_are_refused(own_weights, tmp_path):
    import torch

    weights = torch.load(own_weights, weights_only=True)
    name = next(name for name, value in weights.items() if value.ndim == 4)
    weights[name][0, 0, 0, 0] = np.nan
    torch.save(weights, tmp_path / "mine")
    with pytest.raises(InputError, match=f"finite numbers in weights; {name}"):
        CellposeAnnotator(tmp_path / "mine", diameter_px=30)


def test_malicious_weights_are_refused_and_not_run(tmp_path):
    import torch

    trap = tmp_path / "trap"
    torch.save({"output.2.weight": _Touch(trap)}, tmp_path / "zip")
    (tmp_path / "pickle").write_bytes(pickle.dumps(_Touch(trap), protocol=2))
    for name in ("zip", "pickle"):
        with pytest.raises(InputError, match=f"{name}: expected cellpose weights"):
            CellposeAnnotator(tmp_path / name)
    assert not trap.exists()


def _sam(**changes):
    """Returns the names of cellpose 4's tensors by which it is identified."""
    names = ("diam_labels", "W2", "encoder.pos_embed", "out.weight")
    return {name: torch.ones(2) for name in names} | changes


def _unet():
    return {"downsample.down.0.weight": torch.ones(2), "output.2.weight": torch.ones(2)}


def _size_model():
    return {"A": np.ones(2), "smean": np.ones(2), "ymean": 1.0, "diam_mean": 30.0}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (_unet(), cellpose_weights.UNET),
        (_sam(), cellpose_weights.SAM),
        (_sam(**{"encoder.cls_token": torch.ones(2)}), cellpose_weights.DINO),
        ({"W2": torch.ones(2)}, cellpose_weights.OTHER),
        # As DataParallel names them: cellpose 4 does not find them either.
        (
            {f"module.{name}": value for name, value in _sam().items()},
            cellpose_weights.OTHER,
        ),
        ({}, cellpose_weights.OTHER),
    ],
)
def test_kind_of_weights_is_identified_by_tensor_names(tmp_path, content, kind):
    torch.save(content, tmp_path / "file")
    found = cellpose_weights.inspect(tmp_path / "file")
    assert found.kind == kind
    assert found.shapes == {name: tuple(t.shape) for name, t in content.items()}


@pytest.mark.parametrize(
    ("content", "kind"),
    [(_size_model(), cellpose_weights.SIZE_MODEL), ({"A": 1}, cellpose_weights.OTHER)],
)
def test_size_models_and_other_npy_files_are_distinguished(tmp_path, content, kind):
    np.save(tmp_path / "a.npy", np.array(content, object), allow_pickle=True)
    assert cellpose_weights.inspect(tmp_path / "a.npy").kind == kind


@pytest.mark.parametrize(
    ("version", "kind", "content", "problem", "advice"),
    [
        (
            "4.2.1.1",
            cellpose_weights.SAM,
            _unet(),
            "weights of the U-net of cellpose 3. cellpose 4.2.1.1 is installed",
            "Run `pip install 'cellpose>=3.1.1.2,<4'` for this file, or give weights",
        ),
        (
            "3.1.1.3",
            cellpose_weights.UNET,
            _sam(),
            "weights of the SAM transformer of cellpose 4. cellpose 3.1.1.3 is installed",
            "Run `pip install 'cellpose>=4.0.8,<5'` for this file, or give weights",
        ),
        (
            "3.1.1.3",
            cellpose_weights.UNET,
            {"W2": torch.ones(3)},
            "no weights of a network of cellpose 3 or 4. cellpose 3.1.1.3 is installed",
            "Give weights of the U-net of cellpose 3.",
        ),
    ],
)
def test_error_for_weights_of_another_network_gives_advice(
    tmp_path, monkeypatch, version, kind, content, problem, advice
):
    monkeypatch.setattr(cellpose_library, "installed_version", lambda: version)
    path = tmp_path / "file"
    torch.save(content, path)
    with pytest.raises(InputError) as info:
        cellpose_weights.check_fit(path, kind, {})
    sha256 = digests.sha256_of_file(path)
    for part in (f"{path} (SHA-256 {sha256}): {problem}", advice):
        assert part in str(info.value)


def test_size_model_in_place_of_weights_is_named(tmp_path):
    path = tmp_path / "size_cyto3.npy"
    np.save(path, np.array(_size_model(), object), allow_pickle=True)
    with pytest.raises(InputError, match=r"a size model of cellpose 3.*it belongs to"):
        CellposeAnnotator(path)


def test_weights_of_another_size_name_the_first_tensor(tmp_path):
    wanted = {name: (2,) for name in _sam()}
    torch.save(_sam(**{"out.weight": torch.ones(3)}), tmp_path / "file")
    with pytest.raises(InputError, match=r"out\.weight should be \(2,\) and is \(3,\)"):
        cellpose_weights.check_fit(tmp_path / "file", cellpose_weights.SAM, wanted)
    smaller = {name: value for name, value in _sam().items() if name != "diam_labels"}
    torch.save(smaller, tmp_path / "file")
    with pytest.raises(InputError, match=r"diam_labels should be .* and is missing"):
        cellpose_weights.check_fit(tmp_path / "file", cellpose_weights.SAM, wanted)
    cellpose_weights.check_fit(
        tmp_path / "file", cellpose_weights.SAM, wanted, ["diam_labels"]
    )
