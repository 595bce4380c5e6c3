"""Tests of packages for the BioImage Model Zoo, with bioimageio.spec and its core."""

import io
import sys
import zipfile

import numpy as np
import pytest

import cellclass_tf as cc
from cellclass_tf.interchange import bioimage_model
from cellclass_tf.maskrcnn import one_tensor
from cellclass_tf.storage import png
from tests.fake_model import save_model
from tests.metadata import model_metadata

OWNER = {"authors": "Ana Bo, Cem Do", "license": "CC-BY-4.0"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Makes a model that finds one N2a cell of 24 px in every tile of 64 px."""
    return save_model(tmp_path_factory.mktemp("model"), score=0.9)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "a.png"
    pixels = np.random.default_rng(0).integers(0, 99, (90, 120, 3), np.uint8)
    png.write_png(path, pixels)
    return path


@pytest.fixture(scope="module")
def package(model, image, tmp_path_factory):
    pytest.importorskip("bioimageio.spec")
    path = tmp_path_factory.mktemp("package") / "m.zip"
    path.write_bytes(b"of before")
    assert cc.package_model(model, image, path, **OWNER) == path
    assert [file.name for file in path.parent.iterdir()] == ["m.zip"]
    return path


def test_a_package_describes_input_and_output(package, image):
    spec = pytest.importorskip("bioimageio.spec")
    described = spec.load_model_description(package)
    assert [author.name for author in described.authors] == ["Ana Bo", "Cem Do"]
    assert described.license == "CC-BY-4.0"
    (given,), (found,) = described.inputs, described.outputs
    assert [axis.size for axis in given.axes] == [None, 64, 64, 3]
    # The number of detections is only known when they are found.
    assert found.axes[1].size.min == 1
    assert found.axes[2].channel_names[8:11] == ["score", "p_HEK", "p_N2a"]
    with zipfile.ZipFile(package) as file:
        tile = np.load(io.BytesIO(file.read("test_input.npy")))
        readme = file.read("README.md").decode()
        cover = file.read("cover.png")
    pixels = png.read_png(image)
    # The middle of 90 x 120 px.
    np.testing.assert_array_equal(tile[0], pixels[13 : 13 + 64, 28 : 28 + 64])
    assert "| 11 to 26 | mask of 4 x 4" in readme
    assert "# Validation" in readme
    assert len(cover) < 500_000


@pytest.mark.parametrize(
    ("size_um", "told"),
    [
        (
            0.325,
            "training images (0.325 µm), so that one pixel of the tile is 0.65 µm and a",
        ),
        (None, "training images, so that a median cell"),
    ],
)
def test_the_readme_tells_training_images_and_tiles_apart(size_um, told):
    metadata = model_metadata(pixel_size_um=size_um, scale=0.5)
    columns = one_tensor.columns(metadata.type_names, 4)
    axes = [{}, {}, {"channel_names": columns}]
    content = {"name": "m", "description": "d", "outputs": [{"axes": axes}]}
    readme = " ".join(bioimage_model._readme(content, metadata).split())
    assert f"Resize your image by 0.5 if it has the pixel size of the {told}" in readme


def test_bioimageio_core_reproduces_the_test_output(package, tmp_path, monkeypatch):
    core = pytest.importorskip("bioimageio.core")
    # It unzips the weights into the folder of the package.
    monkeypatch.chdir(tmp_path)
    summary = core.test_model(package)
    assert summary.status == "passed", summary.format()


def test_the_network_in_a_package_can_be_used_by_predict(
    package, model, image, tmp_path
):
    with zipfile.ZipFile(package) as file:
        weights = zipfile.ZipFile(io.BytesIO(file.read("weights.zip")))
    weights.extractall(tmp_path / "weights")
    pixels = png.read_png(image)
    first, second = (
        cc.Predictor.load(path).predict(pixels)
        for path in (model, tmp_path / "weights")
    )
    np.testing.assert_array_equal(first.labels, second.labels)


def test_an_invalid_description_is_rejected(model, image, tmp_path):
    pytest.importorskip("bioimageio.spec")
    options = OWNER | {"license": "mine"}
    with pytest.raises(
        cc.InputError, match=r"does not accept the description \(.*license"
    ):
        cc.package_model(model, image, tmp_path / "m.zip", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "authors", "message"),
    [
        ("m.txt", "Ana", "expected the name of a ZIP file"),
        ("m.zip", " ,", "one author"),
    ],
)
def test_missing_arguments_are_reported_before_any_work(
    tmp_path, monkeypatch, output, authors, message
):
    monkeypatch.setattr(bioimage_model, "_bioimageio_spec", lambda: None)
    options = OWNER | {"authors": authors}
    with pytest.raises(cc.InputError, match=message):
        cc.package_model("m", "a.png", tmp_path / output, **options)


def test_without_bioimageio_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioimageio.spec", None)
    with pytest.raises(cc.InputError, match=r"cellclass_tf\[bioimageio\]"):
        cc.package_model("m", "a.png", tmp_path / "m.zip", **OWNER)
