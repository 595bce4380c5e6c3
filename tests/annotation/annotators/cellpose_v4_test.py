"""Tests of cellpose 4, with a small random transformer in place of its own weights."""

import logging
import pathlib
import types

import numpy as np
import pytest
import torch

from cellclass_tf.annotation.annotators import cellpose, cellpose_library, cellpose_v4
from cellclass_tf.annotation.annotators.cellpose import CellposeAnnotator
from cellclass_tf.annotation.annotators.cellpose_v4 import Cellpose4
from cellclass_tf.errors import InputError
from tests.annotation.cellpose_networks import needs_4

OPTIONS = {"batch_size": 1, "flow_threshold": 0.4, "cellprob_threshold": 0.0}


@pytest.fixture
def image():
    image = np.zeros((40, 60, 3), np.uint8)
    image[5:25, 5:25, 1], image[10:20, 10:20, 2] = 200, 100
    return image


class _Model:
    """Finds two squares, and records its arguments."""

    def eval(self, planes, **options):
        self.planes, self.options = planes.copy(), options
        labels = np.zeros(planes.shape[:2], np.uint16)
        labels[:4, :4], labels[10:18, 10:18] = 1, 2
        return labels, [None, None, np.ones(labels.shape, np.float32)], None


def test_options_are_those_that_version_4_knows(image):
    model = _Model()
    labels, logits = Cellpose4().segment(
        model, image, None, diameter_px=45.0, **OPTIONS
    )
    assert labels.shape == logits.shape == (40, 60)
    assert model.planes.shape == (40, 60, 3)
    assert model.planes[12, 12].tolist() == [200, 100, 0]
    assert model.options == {
        "channel_axis": 2,
        "diameter": 45.0,
        "normalize": {"normalize": True},
        **OPTIONS,
    }


def test_limits_are_given_for_three_planes_and_flat_planes_are_0(image):
    model = _Model()
    limits = [(10.0, 90.0), None]
    Cellpose4().segment(model, image, limits, diameter_px=30.0, **OPTIONS)
    assert model.options["normalize"] == {
        "normalize": True,
        "lowhigh": [[10.0, 90.0], [0.0, 1.0], [0.0, 1.0]],
    }
    assert model.planes[12, 12].tolist() == [200, 0, 0]


def test_diameter_is_the_median_of_the_cells_at_the_images_own_scale(image):
    model = _Model()
    found = Cellpose4().estimate_diameter_px(model, None, [image], None, **OPTIONS)
    assert model.options["diameter"] == 30.0
    # Squares of 4 and 8 px are as large as discs of 4.51 and 9.03 px; 6.77 between.
    assert found == pytest.approx(6.77, abs=0.005)


def test_diameter_without_cells_keeps_the_scale(image, monkeypatch):
    nothing = np.zeros((40, 60), int), np.zeros((40, 60))
    monkeypatch.setattr(Cellpose4, "segment", lambda *_, **__: nothing)
    found = Cellpose4().estimate_diameter_px(None, None, [image], None, **OPTIONS)
    assert found == 30.0


def test_estimated_diameter_has_a_lower_limit(image, monkeypatch):
    labels = np.zeros((40, 60), int)
    labels[3, 3] = 1
    monkeypatch.setattr(Cellpose4, "segment", lambda *_, **__: (labels, None))
    found = Cellpose4().estimate_diameter_px(None, None, [image], None, **OPTIONS)
    assert found == 6.0


@pytest.fixture
def library(monkeypatch, tmp_path):
    """Replaces cellpose 4, which would download weights; returns the folder of its models."""
    folder = tmp_path / "models"
    folder.mkdir()
    models = types.SimpleNamespace(
        MODEL_NAMES=["cpsam_v2", "cpdino", "cpsam"],
        MODEL_DIR=folder,
        get_user_models=lambda: ["mine"],
    )
    monkeypatch.setattr(cellpose_library, "installed_version", lambda: "4.2.1.1")
    monkeypatch.setattr(cellpose_library, "load_models", lambda: models)
    monkeypatch.setattr(cellpose_v4, "_check_weights", lambda path: None)
    return folder


def test_named_weights_are_taken_from_disk_and_never_downloaded(library):
    assert Cellpose4().known_models() == ["cpsam", "cpsam_v2", "mine"]
    with pytest.raises(InputError) as info:
        Cellpose4().find_weights("cpsam")
    for part in (str(library / "cpsam"), "not downloaded", "1.2 GB", "CC-BY-NC"):
        assert part in str(info.value)
    (library / "cpsam").touch()
    assert Cellpose4().find_weights("cpsam") == library / "cpsam"


def test_unknown_names_and_those_of_version_3_are_refused(library):
    with pytest.raises(InputError, match=r"typo: neither.*Known are cpsam, cpsam_v2"):
        Cellpose4().find_weights("typo")
    with pytest.raises(InputError, match=r"cyto3 is of version 3: `pip install 'cell"):
        Cellpose4().find_weights("cyto3")


def test_missing_weights_are_not_replaced_by_others(library, tmp_path):
    with pytest.raises(InputError, match="weights does not exist any more"):
        Cellpose4().load(tmp_path / "gone", None, "cpu", False)


def test_weights_that_cellpose_replaces_are_not_used(library, tmp_path):
    path = tmp_path / "mine"
    path.touch()
    other = types.SimpleNamespace(pretrained_model="/models/cpsam_v2")
    cellpose_library.load_models().CellposeModel = lambda **_: other
    with pytest.raises(InputError, match=r"loaded /models/cpsam_v2 in its place"):
        Cellpose4().load(path, None, "cpu", False)


@needs_4
@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_field_is_segmented_in_either_precision(own_weights, image, bfloat16):
    annotator = CellposeAnnotator(
        own_weights, 30, cellprob_threshold=-9, device="cpu", bfloat16=bfloat16
    )
    labels, diameter_px, _ = annotator.annotate(image)
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    assert annotator.network.net.dtype == dtype
    assert annotator.network.net.out.weight.dtype == dtype
    assert labels.shape == (40, 60)
    assert labels.dtype == np.int32
    assert diameter_px == 30
    assert ("bfloat16" in annotator.settings) == bfloat16


@needs_4
def test_precisions_agree_as_far_as_bfloat16_goes(own_weights, image):
    logits = []
    for bfloat16 in (False, True):
        annotator = CellposeAnnotator(own_weights, 30, device="cpu", bfloat16=bfloat16)
        logits.append(annotator._segment(image, 30, None)[1])
    assert np.ptp(logits[0]) > 0
    # bfloat16 has 8 significant bits.
    np.testing.assert_allclose(*logits, atol=0.03 * np.abs(logits[0]).max())


@needs_4
def test_precision_and_thresholds_are_part_of_the_fingerprints(own_weights):
    def made(*args, **options):
        return CellposeAnnotator(own_weights, *args, device="cpu", **options)

    one, other = made(None), made(None, bfloat16=True)
    assert one.fingerprint != other.fingerprint
    assert one.size_fingerprint != other.size_fingerprint
    assert one.size_fingerprint != made(None, 0.5).size_fingerprint
    assert "of the cells found at the image's own scale" in one.settings


@needs_4
def test_the_network_gets_cytoplasm_nuclei_and_an_empty_plane(own_weights, image):
    """The image goes to the network as cellpose itself prepares it."""
    from cellpose import transforms

    annotator, seen = CellposeAnnotator(own_weights, 30, device="cpu"), []
    annotator.network.net.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].numpy())
    )
    annotator.annotate(image)
    (batch,) = seen
    assert batch.shape == (1, 3, 256, 256)
    expected = transforms.normalize_img(Cellpose4().planes_of(image), axis=0)
    top, left = (256 - 40) // 2, (256 - 60) // 2
    found = batch[0, :, top : top + 40, left : left + 60]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not found[2].any()


@needs_4
def test_tiles_of_a_field_are_segmented_with_its_limits(own_weights, monkeypatch):
    monkeypatch.setattr(cellpose, "_TILE_PX", 400)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (60, 500, 3)).astype(np.uint8)
    image[..., 2] = 7
    annotator = CellposeAnnotator(own_weights, 30, device="cpu")
    labels = annotator.annotate(image).labels
    assert labels.shape == (60, 500)


@needs_4
def test_a_file_of_version_4_fits_and_others_do_not(own_weights, tmp_path):
    weights = torch.load(own_weights, weights_only=True)
    del weights["out.bias"]
    torch.save(weights, tmp_path / "part")
    with pytest.raises(
        InputError, match=r"out\.bias should be \(192,\) and is missing"
    ):
        CellposeAnnotator(tmp_path / "part")
    old = {"output.2.weight": torch.ones(1), "downsample.x": torch.ones(1)}
    torch.save(old, tmp_path / "old")
    with pytest.raises(InputError, match=r"U-net of cellpose 3.*'cellpose>=3.1.1.2,<4"):
        CellposeAnnotator(tmp_path / "old")


@needs_4
def test_the_old_format_of_torch_is_refused(own_weights, tmp_path):
    weights = torch.load(own_weights, weights_only=True)
    options = {"_use_new_zipfile_serialization": False}
    torch.save(weights, tmp_path / "old", **options)
    with pytest.raises(InputError, match=r"format of PyTorch before 1.6"):
        CellposeAnnotator(tmp_path / "old")


@needs_4
def test_a_missing_file_downloads_nothing(own_weights, tmp_path, monkeypatch):
    from cellpose import utils

    def download(*_, **__):
        raise AssertionError("downloads")

    monkeypatch.setattr(utils, "download_url_to_file", download)
    path = tmp_path / "mine"
    path.write_bytes(pathlib.Path(own_weights).read_bytes())
    annotator = CellposeAnnotator(path, 30, device="cpu")
    path.unlink()
    with pytest.raises(InputError, match="does not exist any more"):
        _ = annotator.network
    with pytest.raises(InputError, match="neither a file"):
        CellposeAnnotator(path)


@needs_4
def test_size_of_the_published_network_is_that_of_its_class(monkeypatch):
    import segment_anything as sam

    monkeypatch.setitem(sam.sam_model_registry, "vit_l", sam.build_sam_vit_l)
    full = cellpose_v4._weight_shapes()
    # ViT-L: 24 blocks of 1024 numbers, 305 million in all.
    assert full["encoder.pos_embed"] == (1, 32, 32, 1024)
    count = sum(int(np.prod(shape)) for shape in full.values())
    assert 304e6 < count < 306e6


@needs_4
def test_training_moves_the_weights_and_leaves_the_random_numbers(
    own_weights, tmp_path, caplog
):
    import tifffile
    from cellpose import dynamics

    annotator = CellposeAnnotator(own_weights, 30, device="cpu")
    network = annotator.network.net
    labels = np.zeros((64, 64), np.int32)
    labels[8:24, 8:24], labels[36:56, 36:56] = 1, 2
    planes = np.stack([labels > 0, labels > 1, labels < 0]).astype(np.float32)
    flows = dynamics.labels_to_flows([labels], device=torch.device("cpu"))[0]
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack")
    tifffile.imwrite(tmp_path / "a_flows.tif", flows, photometric="minisblack")
    before = network.out.weight.detach().clone()
    state = torch.get_rng_state()
    with caplog.at_level(logging.WARNING, logger="cellpose"):
        Cellpose4().train(
            network,
            cellpose_library.TrainingRun(
                images=[str(tmp_path / "a.tif")],
                flows=[str(tmp_path / "a_flows.tif")],
                weights=np.ones(1),
                folder=tmp_path,
                epochs=2,
                learning_rate=1e-3,
                draws=2,
                seed=0,
            ),
        )
    assert (network.out.weight != before).any()
    assert torch.equal(torch.get_rng_state(), state)
    # No option is passed that version 4 ignores or warns of.
    assert not caplog.records
    # The mean diameter of the training images: cellpose's own measure, by the median.
    assert 17 < float(network.diam_labels) < 22
