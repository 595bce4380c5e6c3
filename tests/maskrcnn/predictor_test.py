"""Tests of cellclass_tf.maskrcnn.predictor."""

import dataclasses
import types

import numpy as np
import pytest

from cellclass_tf import errors
from cellclass_tf.core.model_metadata import (
    CalibrationRecord,
    CellposeFeaturesRecord,
    NamerRecord,
    NamingRecord,
)
from cellclass_tf.maskrcnn.predictor import Predictor
from tests.fake_model import save_model
from tests.metadata import model_metadata

TYPES = ("HEK", "N2a")


class FakeNetwork:
    """Finds every white square of 10 px in tiles of 64 px; one type, full masks."""

    def __call__(self, images):
        from scipy import ndimage

        tiles = []
        for image in np.asarray(images):
            found, _ = ndimage.label(image[..., 1] > 128)
            boxes = [
                (s[0].start, s[1].start, s[0].stop, s[1].stop)
                for s in ndimage.find_objects(found)
            ]
            tiles.append(np.array(boxes, np.float32).reshape(-1, 4))
        most = max(1, *(len(boxes) for boxes in tiles))
        padded = [np.pad(b, [(0, most - len(b)), (0, 0)]) for b in tiles]
        count = len(tiles)
        outputs = {
            "detection_boxes": np.stack(padded),
            "detection_outer_boxes": np.stack(padded),
            "detection_scores": np.ones((count, most), np.float32),
            "detection_probabilities": np.tile([0.3, 0.7], (count, most, 1)),
            "detection_masks": np.ones((count, most, 28, 28), np.float32),
            "num_detections": np.array([len(b) for b in tiles]),
        }
        return {k: _Tensor(v) for k, v in outputs.items()}


class _Tensor:
    def __init__(self, value):
        self._value = value

    def numpy(self):
        return self._value


def fake(scale=1.0, pixel_size_um=0.5):
    metadata = model_metadata(
        type_names=TYPES,
        scale=scale,
        model_diameter_px=10.0,
        pixel_size_um=pixel_size_um,
    )
    return Predictor(FakeNetwork(), metadata, "f")


def squares(count, step=20):
    image = np.zeros((count * step, count * step, 3), np.uint8)
    for i in range(count):
        for j in range(count):
            image[i * step + 5 : i * step + 15, j * step + 5 : j * step + 15] = 255
    return image


def test_each_cell_of_a_field_of_many_tiles_is_found_once():
    found = fake().predict(squares(20))
    assert len(found) == 400
    np.testing.assert_array_equal(found.labels > 0, squares(20)[..., 1] > 0)
    assert set(found.cell_types) == {"N2a"}


def test_a_field_smaller_than_a_tile_is_predicted():
    assert len(fake().predict(squares(1))) == 1
    assert len(fake().predict(np.zeros((30, 500, 3), np.uint8))) == 0


def test_images_are_resized_to_the_cell_size_of_the_training():
    assert fake(scale=0.4).scale_for(1.0) == 0.8
    assert fake(scale=0.4).scale_for(None) == 0.4
    assert fake(scale=0.4, pixel_size_um=None).scale_for(1.0) == 0.4
    for wrong in (325.0, -1.0, float("inf")):
        with pytest.raises(errors.InputError, match="Check that the unit is µm"):
            fake().scale_for(wrong)
    # The pixels are twice as large as in training, so the field is enlarged twice.
    found = fake().predict(squares(4), pixel_size_um=1.0)
    assert len(found) == 16
    assert found.labels.shape == (80, 80)


def test_a_field_without_nuclei_is_refused_unless_the_model_needs_none():
    image = squares(2)
    image[..., 2] = 0
    with pytest.raises(errors.InputError, match="no nuclei"):
        fake().predict(image)
    predictor = fake()
    predictor.metadata = dataclasses.replace(predictor.metadata, grayscale=True)
    assert len(predictor.predict(image)) == 4


def test_an_array_that_is_not_a_merged_image_is_refused():
    with pytest.raises(errors.InputError, match=r"\(H, W, 3\) uint8; got \(8, 8\)"):
        fake().predict(np.zeros((8, 8), np.uint8))


def test_a_folder_without_a_model_says_what_to_do(tmp_path):
    with pytest.raises(errors.InputError, match=r"cellclass export-model"):
        Predictor.load(tmp_path)
    (tmp_path / "cellclass.json").write_text('{"format": "another"}')
    with pytest.raises(errors.InputError, match="'another'"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tile_px": 128},
            r"shape of images should be \[None, 128, 128, 3\]; the network has \[",
        ),
        (
            {"type_names": ("A", "B", "C")},
            "3 cell types, so the shape of detection_probabilities",
        ),
    ],
)
def test_a_network_that_does_not_fit_its_metadata_is_refused(
    tmp_path, changes, message
):
    save_model(tmp_path / "model")
    model_metadata(**changes).write(tmp_path / "model" / "cellclass.json")
    with pytest.raises(errors.InputError, match=message):
        Predictor.load(tmp_path / "model")


def test_a_model_that_lacks_the_namer_in_its_metadata_is_refused(tmp_path):
    save_model(tmp_path / "model")
    for name, record in (
        ("namer", NamerRecord(1.0)),
        ("cellpose_features", CellposeFeaturesRecord(1.0)),
    ):
        metadata = model_metadata(**{name: record})
        metadata.write(tmp_path / "model" / "cellclass.json")
        with pytest.raises(errors.InputError, match="the network has none"):
            Predictor.load(tmp_path / "model")


class Always:
    """A classifier that always returns the same probability of N2a."""

    def __init__(self, probability):
        self._row = np.float32([[1 - probability, probability]])

    def probabilities_of(self, image, labels, *, ratio, views):
        return np.tile(self._row, (labels.max(), 1))


ALL = ("detector", "namer", "cellpose_features")


@pytest.mark.parametrize(
    ("named_by", "expected"),
    [
        (("detector",), 0.7),
        (("namer",), 0.1),
        (("cellpose_features",), 0.4),
        # Odds of 7/3, 1/9 and 2/3; see `combining`.
        (("detector", "namer"), 0.2779),
        (ALL, 0.2663),
    ],
)
def test_metadata_decide_which_classifiers_are_combined(named_by, expected):
    metadata = dataclasses.replace(
        fake().metadata,
        namer=NamerRecord(1.0),
        cellpose_features=CellposeFeaturesRecord(1.0),
        named_by=named_by,
    )
    others = {"namer": Always(0.1), "cellpose_features": Always(0.4)}
    predictor = Predictor(FakeNetwork(), metadata, "f", classifiers=others)
    found = predictor.predict(squares(20))
    assert found.probabilities.shape == (400, 2)
    assert found.probabilities[:, 1] == pytest.approx(expected, abs=0.001)
    assert set(found.cell_types) == {"HEK" if expected < 0.5 else "N2a"}
    assert (found.scores == 1).all()
    assert len(predictor.predict(np.zeros((30, 50, 3), np.uint8))) == 0


def name_by_green(images, boxes):
    """Classifies a box by its central pixel: green of 255 is N2a with probability 1."""
    y, x = np.moveaxis((boxes[..., :2] + boxes[..., 2:]) / 2, -1, 0).astype(int)
    tiles = np.arange(len(images))[:, np.newaxis]
    green = np.asarray(images)[tiles, y, x, 1] / np.float32(255)
    sizes = (boxes[..., 2] - boxes[..., 0]) / np.float32(64)
    probabilities = np.stack([1 - green, green], -1)
    return {"scores": _Tensor(sizes), "probabilities": _Tensor(probabilities)}


def namer(scale=1.0):
    predictor = fake(scale=scale)
    return Predictor(None, predictor.metadata, "f", name_by_green)


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("numbers", [np.arange(1, 101), np.arange(1, 101)[::-1] * 7])
def test_each_cell_in_given_outlines_is_classified_at_its_place(scale, numbers):
    # 100 cells over many tiles, each with a different grey level.
    image, labels = squares(10), np.zeros((200, 200), np.uint16)
    green = np.random.default_rng(0).integers(1, 255, 100)
    for n, number in enumerate(numbers):
        box = (slice(20 * (n // 10) + 5, 20 * (n // 10) + 15),)
        box = (*box, slice(20 * (n % 10) + 5, 20 * (n % 10) + 15))
        image[box] = (0, green[n], 255)
        labels[box] = number
    cells = namer(scale).name(image, labels)
    order = np.argsort(numbers)
    np.testing.assert_allclose(cells.probabilities[:, 1], green[order] / 255, atol=0.02)
    np.testing.assert_allclose(cells.scores, scale * 10 / 64, atol=0.01)
    # The outlines are not changed, only renumbered.
    assert len(cells) == 100
    assert cells.type_names == TYPES
    np.testing.assert_array_equal(cells.labels > 0, labels > 0)
    assert cells.type_ids[0] == (cells.probabilities[0, 1] > 0.5) + 1


def test_given_outlines_use_the_calibration_for_outlines_of_their_kind():
    image, labels = squares(2), np.zeros((40, 40), np.int32)
    labels[5:15, 5:15], labels[25:30, 25:30] = 3, 8
    image[5:15, 5:15, 1] = image[25:35, 25:35, 1] = 204
    predictor = namer()
    own = predictor.name(image, labels)
    assert own.probabilities[:, 1] == pytest.approx(0.8, abs=0.01)
    assert len(own) == 2
    figures = CalibrationRecord((), (), 0.1)
    of_dataset = NamingRecord("dataset", 0.1, 2.0, figures)
    predictor.metadata = dataclasses.replace(predictor.metadata, naming=(of_dataset,))
    # The smaller one has a score of 5 / 64; odds of 4 to 1 become 2 to 1.
    kept = predictor.name(image, labels)
    assert len(kept) == 1
    assert kept.labels.max() == 1
    assert kept.labels[10, 10] == 1
    assert kept.probabilities[0, 1] == pytest.approx(2 / 3, abs=0.01)
    of_cellpose = NamingRecord("cellpose:w", 0.0, 0.5, figures, "abc")
    again = predictor.name(image, labels, measured=of_cellpose)
    assert again.probabilities[:, 1] == pytest.approx(16 / 17, abs=0.01)
    assert len(predictor.name(image, labels, score_threshold=0)) == 2


def test_a_cell_larger_than_a_tile_is_classified_by_its_part_in_the_tile():
    image, labels = np.full((300, 300, 3), 200, np.uint8), np.ones((300, 300), np.int32)
    cells = namer().name(image, labels)
    assert len(cells) == 1
    assert cells.scores[0] == 1
    assert cells.probabilities[0, 1] == pytest.approx(200 / 255)


@pytest.mark.parametrize("shape", [(30, 40), (64, 64), (200, 90)])
def test_an_empty_label_image_gives_no_cells(shape):
    cells = namer().name(np.full((*shape, 3), 9, np.uint8), np.zeros(shape, np.uint8))
    assert len(cells) == 0
    assert cells.probabilities.shape == (0, 2)


def test_a_field_whose_outlines_are_all_missing_is_compared_with_the_training_fields():
    predictor = namer()
    image = squares(2)
    nothing = predictor.name(image, np.zeros(image.shape[:2], np.uint16))
    seen = []
    predictor.familiarity = types.SimpleNamespace(
        means=np.zeros((2, 7)), judge=seen.append
    )
    predictor.judge(image, nothing)
    assert seen[0].features.shape == (0, 7)


def test_thousands_of_given_outlines_are_classified():
    labels = np.arange(1, 10_001, dtype=np.int64).reshape(100, 100).repeat(8, 0)
    labels = labels.repeat(8, 1)
    cells = namer().name(np.full((800, 800, 3), 51, np.uint8), labels)
    assert len(cells) == 10_000
    np.testing.assert_allclose(cells.probabilities[:, 1], 0.2, atol=1e-6)


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((64, 63), np.int32),
        np.zeros((64, 64, 1), np.int32),
        np.zeros((64, 64), np.float32),
        np.full((64, 64), -1, np.int32),
    ],
)
def test_labels_that_do_not_fit_the_image_are_refused(labels):
    with pytest.raises(errors.InputError, match=r"size of the image, \(64, 64\) px"):
        namer().name(np.full((64, 64, 3), 9, np.uint8), labels)


def test_a_model_without_classification_of_outlines_must_be_exported_again():
    with pytest.raises(errors.InputError, match="Export it again"):
        fake().name(np.full((64, 64, 3), 9, np.uint8), np.ones((64, 64), np.uint8))


@pytest.mark.parametrize(("views", "seen"), [(1, 1), (2, 2), (8, 4)])
def test_other_classifiers_get_no_more_views_than_the_model_has(views, seen):
    asked = []

    class Recorder(Always):
        def probabilities_of(self, image, labels, *, ratio, views):
            asked.append((ratio, views))
            return super().probabilities_of(image, labels, ratio=ratio, views=views)

    metadata = dataclasses.replace(
        fake().metadata, views=views, namer=NamerRecord(1.0), named_by=ALL[:2]
    )
    others = {"namer": Recorder(0.1)}
    predictor = Predictor(FakeNetwork(), metadata, "f", classifiers=others)
    labels = np.ones((40, 40), np.int32)
    found = predictor.probabilities_by("namer", squares(2), labels, pixel_size_um=1.0)
    assert asked == [(2.0, seen)]
    assert found.shape == (1, 2)
    nobody = predictor.probabilities_by("namer", squares(2), 0 * labels)
    assert nobody.shape == (0, 2)
    assert len(asked) == 1
    with pytest.raises(ValueError, match="has no cellpose_features"):
        predictor.probabilities_by("cellpose_features", squares(2), labels)
