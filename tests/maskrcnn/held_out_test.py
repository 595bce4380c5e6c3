"""Tests of cellclass_tf.maskrcnn.held_out; training_test measures with trained networks."""

import dataclasses
import types

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.model_metadata import NamerRecord
from cellclass_tf.maskrcnn import calibration, held_out
from cellclass_tf.maskrcnn.input import reading
from tests.metadata import model_metadata

TYPES = ("HEK", "N2a")


def field_of(bright: int) -> reading.Field:
    """A HEK cell beside an N2a cell whose cytoplasm is brighter."""
    labels = np.zeros((8, 16), np.int32)
    labels[2:6, 2:6], labels[2:6, 10:14] = 1, 2
    image = np.zeros((8, 16, 3), np.uint8)
    image[..., 1] = np.select([labels == 1, labels == 2], [30, bright])
    return reading.Field(image, Cells.from_labels(labels, TYPES, TYPES), 0.0, "d", "f")


class Model:
    """A detector that classifies by brightness, and a namer that ignores the image.

    Args:
      hek: the namer's probabilities that the HEK and the N2a cell are HEK.
    """

    def __init__(self, hek: tuple[float, float]):
        self.metadata = model_metadata(
            namer=NamerRecord(1.0), named_by=("detector", "namer")
        )
        self._namer = np.array([[p, 1 - p] for p in hek])

    def name_by_detector(self, image, labels, pixel_size_um=None):
        levels = [image[..., 1][labels == n].mean() for n in (1, 2)]
        odds = [0.99 if level > 60 else 0.01 for level in levels]
        return types.SimpleNamespace(probabilities=np.array([[1 - p, p] for p in odds]))

    def probabilities_by(self, classifier, image, labels, pixel_size_um=None):
        assert classifier == "namer"
        return self._namer


@pytest.mark.parametrize(
    ("bright", "hek", "chosen"),
    # At a gain of 0.6, a cell of grey level 90 is as dark as the other type.
    [(90, (0.8, 0.2), "namer"), (200, (0.95, 0.95), "detector")],
)
def test_detector_and_namer_are_compared_at_other_gains(bright, hek, chosen):
    found = held_out._choose_naming(Model(hek), iter([field_of(bright)] * 20))
    assert found.named_by == (chosen,)
    assert max(found.log_likelihoods, key=found.log_likelihoods.get) == chosen


def test_without_held_out_cells_all_classifiers_are_combined():
    nobody = dataclasses.replace(
        field_of(90), cells=Cells.from_labels(field_of(90).cells.labels, TYPES)
    )
    for fields in ([], [nobody]):
        found = held_out._choose_naming(Model((0.8, 0.2)), iter(fields))
        assert found.named_by == ("detector", "namer")
        assert not found.log_likelihoods


def test_all_classifiers_are_combined_if_a_type_has_no_held_out_cells(caplog):
    field = field_of(90)
    hek = dataclasses.replace(
        field, cells=Cells.from_labels(field.cells.labels, TYPES, ["HEK", "unknown"])
    )
    found = held_out._choose_naming(Model((0.8, 0.2)), iter([hek] * 20))
    assert found.named_by == ("detector", "namer")
    assert "no cells of N2a" in caplog.text


def test_no_more_fields_are_held_out_than_calibration_takes(monkeypatch):
    monkeypatch.setattr(calibration, "MOST_FIELDS", 3)
    monkeypatch.setattr(held_out, "fields_of", lambda *_: iter([field_of(90)] * 2))
    assert len(list(held_out._held_out(None, None, ("validation", "composed")))) == 3
