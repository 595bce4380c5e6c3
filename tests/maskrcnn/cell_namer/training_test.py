"""Tests of cellclass_tf.maskrcnn.cell_namer.training."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.maskrcnn import config
from cellclass_tf.maskrcnn.cell_namer import (
    batches,
    crops,
    finished,
    network,
    training,
    weights,
)
from cellclass_tf.maskrcnn.input import reading

TYPES = ("even", "grainy")


def textured(cell_type, seed, size=128):
    """Draws nuclei that are uniform or grainy."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    image = np.full((size, size, 3), (0, 100, 10), np.uint8)
    labels = np.zeros((size, size), np.int32)
    grains = 90 * (rows // 3 % 2 ^ columns // 3 % 2) if cell_type == "grainy" else 45
    middles = [(row, column) for row in (32, 96) for column in (32, 96)]
    for number, (row, column) in enumerate(middles, start=1):
        inside = np.hypot(rows - row, columns - column) < rng.uniform(10, 14)
        labels[inside] = number
        image[..., 2] = np.where(inside, 120 + grains, image[..., 2])
    return reading.Field(image, Cells.from_labels(labels, TYPES, cell_type), 0.0)


@pytest.fixture
def record():
    return finished.NamerTraining(TYPES, 1.0, False, steps=40, seed=0)


def test_two_textures_are_distinguished_after_a_few_steps(record, monkeypatch):
    monkeypatch.setattr(batches.draw_batches, "__defaults__", (16,))
    monkeypatch.setattr(batches, "_COMPOSED_SHARE", 0)
    monkeypatch.setattr(network, "_FILTERS", (16, 32))
    given = training.gather([textured(name, n) for n, name in enumerate(TYPES)], record)
    model, accuracy = training.fit(given, record)
    assert accuracy is None
    for seed, name in ((7, "even"), (8, "grainy")):
        field = textured(name, seed)
        cut = crops.crops_of(field.image, field.cells.labels)
        found = training.probabilities_of(model, cut)
        assert (found.argmax(axis=1) == TYPES.index(name)).all()


def test_training_begins_at_the_starting_weights(record, monkeypatch):
    monkeypatch.setattr(batches.draw_batches, "__defaults__", (4,))
    monkeypatch.setattr(training, "_RATE", 1e-6)
    given = training.gather([textured(name, n) for n, name in enumerate(TYPES)], record)
    record = dataclasses.replace(record, steps=1, starting_weights=config.SIMULATED)
    model, _ = training.fit(given, record)
    with np.load(weights.SIMULATED_FILE, allow_pickle=False) as arrays:
        for name, variable in network.named(model).items():
            # A step changes the moving averages of batch normalisation.
            if "moving" not in name:
                np.testing.assert_allclose(variable, arrays[name], atol=1e-4)


def test_a_random_sample_of_each_type_is_kept_if_there_are_too_many_cells(record):
    fields = [textured("even", n) for n in range(5)] + [textured("grainy", 9)]
    given = training.gather(fields, record, most=10)
    assert np.bincount(given.type_ids).tolist() == [5, 4]
    border = (batches.WINDOW_PX - 1) // 2
    assert (given.windows.labels[:, border, border] == given.own).all()


def test_cells_of_unknown_type_are_left_out(record):
    field = textured("even", 0)
    ids = np.int32([0, 1, 0, 2])
    field = dataclasses.replace(
        field, cells=dataclasses.replace(field.cells, type_ids=ids)
    )
    given = training.gather([field], record)
    assert given.own.tolist() == [2, 4]
    assert given.type_ids.tolist() == [0, 1]


def test_a_finished_namer_of_the_run_is_kept_and_loaded(task, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "_FILTERS", (8,))
    assert finished.load(tmp_path) is None
    task.namer_steps, task.namer_init = 1, ""
    training.train(tmp_path, task)
    model, record = finished.load(tmp_path)
    assert record.type_names == ("HEK", "N2a")
    assert record.cells > 4
    assert 0 <= record.validation_accuracy <= 1
    written = tmp_path / finished.FOLDER / finished.RECORD_FILE
    before = written.stat().st_mtime_ns
    training.train(tmp_path, task)
    assert written.stat().st_mtime_ns == before
    cut = np.zeros((2, 64, 64, 2), np.uint8)
    assert training.probabilities_of(model, cut).shape == (2, 2)
    # For another dataset, the namer is trained again.
    (dataclasses.replace(record, dataset_fingerprint="another")).write(written)
    assert not finished.fits(tmp_path, record)


def test_typed_cells_in_fields_without_types_are_used(task, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "_FILTERS", (8,))
    task.namer_steps, task.namer_init = 1, ""
    cells = []
    for number, split in enumerate(("", "validation")):
        task.train_data.untyped_split = split
        training.train(tmp_path / str(number), task)
        cells.append(finished.load(tmp_path / str(number))[1].cells)
    assert cells[0] < cells[1]
