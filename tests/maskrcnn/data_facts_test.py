"""Tests of cellclass_tf.maskrcnn.data_facts."""

import dataclasses
import shutil

import pytest

import cellclass_tf as cc
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import config, data_facts
from cellclass_tf.storage import digests
from tests.maskrcnn.facts import facts


@pytest.mark.parametrize("name", config.EXPERIMENTS)
def test_types_scale_and_maximum_numbers_are_set_from_the_data(name):
    params = getattr(config, name)()
    data_facts.apply_facts(
        params,
        dataclasses.replace(facts(), type_names=tuple("ABCDE"), cells_by_type=(9,) * 5),
    )
    task = params.task
    assert task.model.num_classes == 6
    assert task.scale * 24.0 == pytest.approx(task.model_diameter_px)
    params.validate()


def test_maximum_numbers_fit_a_crowded_field():
    params = config.cellclass_maskrcnn_small()
    crowd = dataclasses.replace(facts(most_cells=600), densest=600 / 256**2)
    data_facts.apply_facts(params, crowd)
    model = params.task.model
    assert params.task.train_data.parser.max_num_instances > 200
    assert model.detection_generator.max_num_detections >= 600
    assert model.roi_generator.test_num_proposals >= 1200


@pytest.mark.parametrize("name", config.EXPERIMENTS)
def test_maximum_numbers_fit_mixed_fields_denser_than_pure_ones(name):
    params = getattr(config, name)()
    data_facts.apply_facts(params, facts(most_cells=5))
    task = params.task
    side_by_side = (task.export_size_px / task.model_diameter_px) ** 2
    found, proposed = task.model.detection_generator, task.model.roi_generator
    assert found.max_num_detections >= 1.5 * side_by_side
    assert proposed.test_num_proposals >= 2 * found.max_num_detections
    assert proposed.test_pre_nms_top_k >= proposed.test_num_proposals


def test_fields_that_do_not_fit_into_memory_are_not_cached():
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(params, dataclasses.replace(facts(), decoded_bytes=1 << 40))
    assert not params.task.train_data.cache
    assert params.task.train_data.shuffle_buffer_size == 2
    data_facts.apply_facts(params, facts())
    assert params.task.train_data.cache


def test_a_broken_record_is_named_before_training_begins(prepared, tmp_path):
    shutil.copytree(prepared / "tfds", tmp_path / "tfds")
    (shard,) = tmp_path.glob("tfds/cell_types/study/*/*-train.tfrecord-*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"2\.0\.0: a record of the split train"):
        data_facts.facts_of_dataset("cell_types/study", str(tmp_path / "tfds"))


def test_images_used_for_training_and_calibration_are_listed(prepared):
    found = data_facts.facts_of_dataset("cell_types/study", str(prepared / "tfds"))
    rows = cc.Study.open(prepared).rows()
    seen = [row for row in rows if row.split in ("train", "validation")]
    assert len(seen) < len(rows)
    assert found.labelled_images == tuple(
        sorted(digests.sha256_of_file(prepared / "images" / r.image)[:16] for r in seen)
    )
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(params, found)
    assert params.task.labelled_images == list(found.labelled_images)
    # From a field without types, only outlines are learned.
    fields = {
        "a": {"split": "untyped", "image_sha256": "a" * 64, "cells": {"unknown": 9}},
        "b": {"split": "untyped", "image_sha256": "b" * 64, "cells": {"HEK": 1}},
        "c": {"split": "mixed", "image_sha256": "c" * 64, "cells": {"HEK": 1}},
    }
    assert data_facts._labelled_images({"fields": fields}) == ("b" * 16,)


def test_types_with_few_cells_have_a_larger_weight_in_the_loss():
    assert data_facts.class_weights((50, 50)) == [1.0, 1.0, 1.0]
    weights = data_facts.class_weights((90, 30))
    assert 90 * weights[1] == pytest.approx(30 * weights[2], rel=1e-2)
    assert data_facts.class_weights((9999, 1))[2] == 4.0
    params = config.cellclass_maskrcnn_small()
    rare = dataclasses.replace(facts(), cells_by_type=(90, 30))
    data_facts.apply_facts(params, rare)
    assert params.task.losses.class_weights == weights


def test_diameters_are_converted_to_the_median_pixel_size(prepared, monkeypatch):
    where = ("cell_types/study", str(prepared / "tfds"))
    plain, real = data_facts.facts_of_dataset(*where), data_facts._records

    def coarse_ones(*arguments):
        """Reads every second field as if it had half the magnification."""
        for number, example in enumerate(real(*arguments)):
            zoom = 1 + number % 2
            cells = dict(example["cells"])
            cells["area_px"] = cells["area_px"] / zoom**2
            size = example["pixel_size_um"] * zoom
            yield example | {"cells": cells, "pixel_size_um": size}

    monkeypatch.setattr(data_facts, "_records", coarse_ones)
    found = data_facts.facts_of_dataset(*where)
    in_um = plain.cell_diameter_px * plain.pixel_size_um
    assert found.pixel_size_um > plain.pixel_size_um
    assert found.cell_diameter_px * found.pixel_size_um == pytest.approx(in_um)
