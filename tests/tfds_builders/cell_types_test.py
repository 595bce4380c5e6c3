"""Tests of tfds_builders: the dataset cell_types."""

import dataclasses

import numpy as np
import pytest
import tensorflow_datasets as tfds

import cellclass_tf as cc
import tfds_builders
from cellclass_tf.datasets import examples


@pytest.fixture(scope="module")
def root(make_simulated_study, tmp_path_factory):
    return make_simulated_study(tmp_path_factory.mktemp("study"), size=96)


@pytest.fixture(scope="module")
def info(root):
    return tfds_builders.dataset(root).info


def test_the_study_loads_as_the_readme_says(root, info):
    loaded = tfds.load("cell_types/study", data_dir=root / "tfds", split="mixed")
    (example,) = tfds.as_numpy(loaded)
    study = cc.Study.open(root)
    (row,) = [row for row in study.rows() if row.cell_type == "mixed"]
    cells = study.read_cells(row)
    np.testing.assert_array_equal(example["image"], study.read_image(row))
    np.testing.assert_array_equal(example["labels"][..., 0], cells.labels)
    np.testing.assert_array_equal(example["cells"]["type"], cells.type_ids - 1)
    np.testing.assert_array_equal(example["cells"]["area_px"], cells.areas_px)
    np.testing.assert_allclose(
        example["cells"]["box"] * 96, cells.boxes_yxyx, atol=1e-4
    )
    assert info.features["cells"]["type"].names == ["HEK", "N2a"]


def test_no_group_is_in_two_splits(root, info):
    groups = {}
    for split in info.splits:
        loaded = tfds.load("cell_types/study", data_dir=root / "tfds", split=split)
        for example in tfds.as_numpy(loaded):
            groups.setdefault(example["group"], set()).add(split)
    assert len(groups) == 9
    assert all(len(splits) == 1 for splits in groups.values())


def test_a_study_that_changed_gets_a_new_dataset_and_an_unchanged_one_does_not(
    root, info
):
    assert tfds_builders.dataset(root).info.metadata == info.metadata
    study = cc.Study.open(root)
    row = next(row for row in study.rows() if row.split == "train")
    study.update([dataclasses.replace(row, verdict="rejected", reason="glow: 50%")])
    prepared = tfds_builders.dataset(root)
    study.update([row])
    changed = prepared.info
    assert prepared.rejected == {"glow": (1, row.cells)}
    assert changed.metadata != info.metadata
    assert changed.splits.total_num_examples == info.splits.total_num_examples - 1
    assert tfds_builders.dataset(root).info.metadata == info.metadata


def test_a_field_that_breaks_leaves_the_old_dataset(root, info, monkeypatch):
    study = cc.Study.open(root)
    row = next(row for row in study.rows() if row.split == "train")
    study.update([dataclasses.replace(row, verdict="rejected")])

    def fail(*_):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(examples, "example_of_row", fail)
    with pytest.raises(RuntimeError, match="disk is full"):
        tfds_builders.dataset(root)
    monkeypatch.undo()
    study.update([row])
    assert tfds.load("cell_types/study", data_dir=root / "tfds", split="train")


def test_simulated_needs_no_download(tmp_path):
    config = tfds_builders.CellTypes.builder_configs["simulated"]
    small = {"images_per_type": 4, "mixed": 1, "size": 224, "seed": 1}
    builder = tfds_builders.CellTypes(
        config=dataclasses.replace(config, name="small", simulation=small),
        data_dir=tmp_path,
    )
    builder.download_and_prepare()
    assert builder.info.splits["mixed"].num_examples == 1
    # Fields so small may be rejected, being empty.
    assert builder.info.splits["train"].num_examples >= 4


def test_a_study_without_annotations_says_what_to_do(tmp_path):
    cc.simulate(tmp_path, images_per_type=1, mixed=0, size=64)
    cc.convert(tmp_path / "raw", tmp_path)
    with pytest.raises(cc.InputError, match="cellclass annotate"):
        tfds_builders.dataset(tmp_path)
