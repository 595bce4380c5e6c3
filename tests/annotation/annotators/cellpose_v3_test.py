"""Tests of cellpose 3: real weights, size models, and named models."""

import pathlib
import shutil
import ssl
import urllib.error

import numpy as np
import pytest

from cellclass_tf.annotation.annotators import cellpose
from cellclass_tf.annotation.annotators.cellpose import CellposeAnnotator
from cellclass_tf.errors import InputError
from cellclass_tf.labels import matching
from cellclass_tf.storage import digests, png
from tests.annotation.cellpose_networks import needs_3

pytestmark = needs_3


def _size_model(**changes):
    return {
        "A": np.zeros(256, np.float32),
        "smean": np.zeros(256, np.float32),
        "ymean": 0.0,
        "diam_mean": 30.0,
    } | changes


def _save_size_model(path, value):
    np.save(path, np.array(value, object), allow_pickle=True)


@pytest.fixture(scope="module")
def real_crop(assets):
    image = png.read_png(assets / "images/hek/hek_0004.png")
    return np.ascontiguousarray(image[430:570, 380:480, :3])


@pytest.fixture(scope="module")
def real_weights(assets):
    return assets / "weights" / "cellpose_unet_scellseg"


def test_real_weights_find_real_cells(real_crop, real_weights):
    annotator = CellposeAnnotator(real_weights, diameter_px=38)
    labels, diameter_px, _ = annotator.annotate(real_crop)
    assert labels.dtype == np.int32
    assert labels.shape == (140, 100)
    # Four cells in a column are in this crop.
    assert 3 <= labels.max() <= 5
    assert set(np.unique(labels)) == set(range(labels.max() + 1))
    assert diameter_px == 38
    assert annotator.name == "cellpose:cellpose_unet_scellseg"
    assert annotator.weights_sha256 == digests.sha256_of_file(real_weights)


def test_size_model_beside_real_weights_estimates_the_diameter(real_crop, real_weights):
    _, diameter_px, _ = CellposeAnnotator(real_weights).annotate(real_crop)
    assert 30 <= diameter_px <= 50


def test_without_size_model_the_diameter_is_that_of_training(own_weights):
    image = np.zeros((40, 60, 3), np.uint8)
    assert CellposeAnnotator(own_weights).annotate(image)[1] == 24


def test_estimate_from_specks_falls_back_to_the_mean(
    own_weights, tmp_path, monkeypatch
):
    from cellpose import models

    shutil.copy(own_weights, tmp_path / "mine")
    _save_size_model(tmp_path / "size_mine.npy", _size_model(diam_mean=17.0))
    monkeypatch.setattr(models.SizeModel, "eval", lambda *_, **__: (2.5, 2.5))
    image = np.zeros((40, 60, 3), np.uint8)
    assert CellposeAnnotator(tmp_path / "mine").annotate(image)[1] == 17


def test_real_weights_find_the_same_cells_in_tiles(assets, real_weights, monkeypatch):
    image = png.read_png(assets / "images/hek/hek_0004.png")[200:600, 200:500, :3]
    image = np.ascontiguousarray(image)
    annotator = CellposeAnnotator(real_weights, diameter_px=38)
    whole = annotator.annotate(image).labels
    monkeypatch.setattr(cellpose, "_TILE_PX", 300)
    tiled = annotator.annotate(image).labels
    assert matching.threat_score(whole, tiled, 0.5) >= 0.85


def test_diameter_of_a_large_field_is_estimated_on_parts(
    own_weights, tmp_path, monkeypatch
):
    import shutil

    from cellpose import models

    shutil.copy(own_weights, tmp_path / "mine")
    _save_size_model(tmp_path / "size_mine.npy", _size_model())
    seen = []

    def estimate(self, image, **options):
        seen.append((image.shape, options["normalize"]["lowhigh"]))
        return 10.0 * len(seen), 0.0

    monkeypatch.setattr(models.SizeModel, "eval", estimate)
    monkeypatch.setattr(cellpose, "_SAMPLE_PX", 100)
    image = np.zeros((90, 400, 3), np.uint8)
    image[:, 200:, 1] = 100
    found = CellposeAnnotator(tmp_path / "mine").estimate_diameter_px(image)
    # The median of 10, 20 and 30; all parts are stretched as the whole field.
    assert found == 20
    assert seen == [((90, 100, 3), [[0.0, 100.0], [0.0, 1.0]])] * 3


class _Touch:
    """Makes a file when it is unpickled without care."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self._path,)


@pytest.fixture
def models_folder(tmp_path, monkeypatch):
    from cellpose import models

    monkeypatch.setattr(models, "MODEL_DIR", tmp_path / "models")
    return tmp_path / "models"


def test_malicious_size_model_is_refused_and_not_run(own_weights, tmp_path):
    shutil.copy(own_weights, tmp_path / "mine")
    trap = tmp_path / "trap"
    _save_size_model(tmp_path / "size_mine.npy", _size_model(extra=_Touch(trap)))
    with pytest.raises(
        InputError, match=r"size_mine\.npy.*pathlib.*No code from it was"
    ):
        CellposeAnnotator(tmp_path / "mine")
    assert not trap.exists()
    # If the diameter is given, the file is not opened.
    CellposeAnnotator(tmp_path / "mine", diameter_px=30)


def _sharing(depth=60):
    """Returns a list whose conversion to an array would never end."""
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
def test_a_size_model_without_finite_numbers_is_refused(own_weights, tmp_path, changes):
    shutil.copy(own_weights, tmp_path / "mine")
    _save_size_model(tmp_path / "size_mine.npy", _size_model(**changes))
    with pytest.raises(
        InputError, match=f"finite numbers as {next(iter(changes))} of a"
    ):
        CellposeAnnotator(tmp_path / "mine")


def test_size_model_without_its_numbers_is_refused(own_weights, tmp_path):
    shutil.copy(own_weights, tmp_path / "mine")
    _save_size_model(tmp_path / "mine_size.npy", {"A": 1})
    with pytest.raises(InputError, match="expected a cellpose size model"):
        CellposeAnnotator(tmp_path / "mine")


def test_error_for_models_of_version_4_says_what_to_install():
    with pytest.raises(InputError, match=r"cpsam is of version 4: `pip install 'cell"):
        CellposeAnnotator("cpsam")


def test_unknown_model_lists_the_known(tmp_path):
    with pytest.raises(InputError, match=r"nothing.*neither a file.*cyto3, .*nuclei"):
        CellposeAnnotator(tmp_path / "nothing")


def test_error_without_network_names_folder_and_alternatives(
    models_folder, monkeypatch
):
    from cellpose import utils

    calls = []

    def refuse(url, *_, **__):
        calls.append(url)
        # cellpose does this before it opens an address.
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


def test_incomplete_download_is_removed(models_folder, monkeypatch, own_weights):
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


def test_bfloat16_is_refused(own_weights):
    with pytest.raises(
        InputError, match="computes in float32; bfloat16 is for version"
    ):
        CellposeAnnotator(own_weights, 30, bfloat16=True)


def test_weights_of_the_encoder_are_those_of_the_file(own_weights):
    import torch

    annotator = CellposeAnnotator(own_weights)
    found = annotator.encoder_weights()
    assert (found.diameter_px, found.sha256) == (30.0, annotator.weights_sha256)
    stored = torch.load(own_weights, weights_only=True)
    assert set(found.tensors) == {n for n in stored if n.startswith("downsample.")}
    for name, values in found.tensors.items():
        np.testing.assert_array_equal(values, stored[name].numpy())
