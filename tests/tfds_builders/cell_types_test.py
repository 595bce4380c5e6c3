"""Tests of tfds_builders: the dataset cell_types."""

import dataclasses
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

import cellclass_tf as cc
import tfds_builders
from cellclass_tf.batch import beam
from cellclass_tf.cli import main
from cellclass_tf.core import manifest
from cellclass_tf.datasets import examples
from tfds_builders.cell_types import cell_types_dataset_builder


@pytest.fixture(scope="module")
def original(make_simulated_study, tmp_path_factory):
    root = make_simulated_study(tmp_path_factory.mktemp("study"), size=224)
    tfds_builders.dataset(root)
    return root


@pytest.fixture
def root(original, tmp_path):
    """Returns a copy of a study with a prepared dataset."""
    return shutil.copytree(original, tmp_path / "study")


def load(root, version="", **options):
    return tfds.load(f"cell_types/study{version}", data_dir=root / "tfds", **options)


def names_in(dataset) -> set[str]:
    return {example["image_name"].decode() for example in tfds.as_numpy(dataset)}


def reject_first(root):
    study = cc.Study.open(root)
    row = next(row for row in study.rows() if row.split == "train")
    study.update([dataclasses.replace(row, verdict="rejected", reason="glow: 50%")])
    return row


def test_the_study_loads_as_the_readme_says(original):
    (example,) = tfds.as_numpy(load(original, split="mixed"))
    study = cc.Study.open(original)
    (row,) = [row for row in study.rows() if row.cell_type == "mixed"]
    cells = study.read_cells(row)
    np.testing.assert_array_equal(example["image"], study.read_image(row))
    np.testing.assert_array_equal(example["labels"][..., 0], cells.labels)
    np.testing.assert_array_equal(example["cells"]["type"], cells.type_ids - 1)
    np.testing.assert_array_equal(example["cells"]["area_px"], cells.areas_px)
    np.testing.assert_allclose(
        example["cells"]["box"] * 224, cells.boxes_yxyx, atol=1e-4
    )


def test_info_describes_features_and_splits(original):
    info = tfds.builder("cell_types/study", data_dir=original / "tfds").info
    assert info.features["cells"]["type"].names == ["HEK", "N2a"]
    assert info.features["culture"].names == ["HEK", "N2a", "mixed"]
    assert set(info.splits) == {"train", "validation", "mixed", "composed"}
    assert "cellclass" in info.citation
    assert "outlined" in info.description
    assert all(doc.doc.desc for doc in info.features.values())


def test_metadata_contain_how_each_field_was_annotated(original):
    metadata = tfds.builder(
        "cell_types/study", data_dir=original / "tfds"
    ).info.metadata
    study = cc.Study.open(original)
    for row in study.rows():
        field = metadata["fields"][row.image]
        assert field["image_sha256"] == row.image_sha256
        assert field["annotator"] == row.annotator != ""
        assert field["split"] == row.split
    assert metadata["fingerprint"]


def test_the_dataset_can_be_read_as_a_data_frame(original):
    dataset, info = load(original, split="train", with_info=True)
    frame = tfds.as_dataframe(dataset, info)
    assert len(frame) == info.splits["train"].num_examples
    assert {"image", "culture", "group", "cells/type"} <= set(frame.columns)


def test_no_group_is_in_two_splits(original):
    groups = {}
    for split, dataset in load(original).items():
        for example in tfds.as_numpy(dataset):
            groups.setdefault(example["group"], set()).add(split)
    # Composed fields have no group; their sources are validation fields.
    assert groups.pop(b"") == {"composed"}
    assert len(groups) == 9
    assert all(len(splits) == 1 for splits in groups.values())


def test_the_check_command_reports_leaks_between_splits(root, capsys):
    assert main.run(["check", f"--study={root}"]) == 0
    assert "Leaks: 0, damaged records: 0" in capsys.readouterr().out
    (held_out,) = root.glob("tfds/cell_types/study/2.0.0/*-validation.tfrecord*")
    (composed,) = root.glob("tfds/cell_types/study/2.0.0/*-composed.tfrecord*")
    shutil.copy(held_out, composed)
    folder = composed.parent
    assert main.run(["check", f"--dataset={folder}"]) == 1
    assert (
        "is in the dataset 2 times, in composed and validation"
        in capsys.readouterr().out
    )
    assert main.run(["check"]) == 2


def test_the_command_reports_contents_and_changes(root, capsys):
    assert main.run(["dataset", f"--study={root}", "--processes=1"]) == 0
    assert "cell_types/study/2.0.0" in capsys.readouterr().out
    reject_first(root)
    assert main.run(["dataset", f"--study={root}", "--processes=1"]) == 0
    said = capsys.readouterr().out
    assert "new; changes since the previous version:\n  1 field removed" in said
    assert "rejected (glow): 1 fields" in said


def test_the_command_reports_uneven_rejection_of_types(root, capsys, monkeypatch):
    reject_first(root)
    assert main.run(["dataset", f"--study={root}", "--processes=1"]) == 0
    assert "differs between types" not in capsys.readouterr().out
    # A single field may be chance, so the significance level is raised here.
    monkeypatch.setattr(manifest, "_UNEVEN_P", 1.0)
    assert main.run(["dataset", f"--study={root}", "--processes=1"]) == 0
    assert "share of rejected images differs between types" in capsys.readouterr().out


def test_composed_fields_are_made_of_validation_fields_of_two_types(original):
    held_out = names_in(load(original, split="validation"))
    for example in tfds.as_numpy(load(original, split="composed")):
        one, other = (source.decode() for source in example["sources"])
        assert {one, other} <= held_out
        assert one.split("/")[0] != other.split("/")[0]
        assert set(example["cells"]["type"].tolist()) <= {0, 1}


def test_an_unchanged_study_keeps_its_version(root):
    prepared = tfds_builders.dataset(root)
    assert not prepared.is_new
    assert str(prepared.info.version) == "2.0.0"


def test_a_changed_study_gets_a_new_version_and_the_old_one_is_kept(root):
    before = names_in(load(root, split="train"))
    row = reject_first(root)
    prepared = tfds_builders.dataset(root)
    assert prepared.is_new
    assert str(prepared.info.version) == "2.1.0"
    assert any("One dish of HEK is held out" in note for note in prepared.outcome.notes)
    assert prepared.rejected == {"glow": (1, row.cells)}
    assert prepared.changes[0].startswith(f"1 field removed ({row.image})")
    assert names_in(load(root, split="train")) == before - {row.image}
    assert names_in(load(root, ":2.0.0", split="train")) == before
    notes = tfds.builder("cell_types/study", data_dir=root / "tfds").release_notes
    assert row.image in notes["2.1.0"]
    assert {"1.0.0", "2.0.0"} <= set(notes)


def test_old_data_of_a_changed_study_is_not_loaded_by_default(root):
    row = reject_first(root)
    with pytest.raises(AssertionError, match="download_and_prepare"):
        load(root, split="train", download=False)
    assert row.image not in names_in(load(root, split="train"))


def test_a_changed_file_counts_as_a_changed_study(root):
    study = cc.Study.open(root)
    row = next(row for row in study.rows() if row.split == "train")
    cells = study.read_cells(row)
    labels = np.where(cells.labels == 1, 0, cells.labels)
    cc.Cells.from_labels(labels, study.cell_types, row.cell_type).write(
        study.cells_path(row)
    )
    (change,) = tfds_builders.dataset(root).changes
    assert change.startswith(f"1 field with other cells ({row.image})")


def test_a_dataset_can_be_loaded_without_its_study(root, tmp_path):
    shutil.copytree(root / "tfds", tmp_path / "copy")
    dataset, info = tfds.load(
        "cell_types/study", data_dir=tmp_path / "copy", split="mixed", with_info=True
    )
    assert len(dataset) == 1
    assert info.features["cells"]["type"].names == ["HEK", "N2a"]


def test_without_study_and_dataset_the_message_says_what_to_do(tmp_path):
    with pytest.raises(cc.InputError, match="cellclass dataset"):
        tfds.builder("cell_types/study", data_dir=tmp_path)


def test_a_version_of_an_older_format_is_kept(root):
    folder = root / "tfds/cell_types/study"
    (folder / "2.0.0").rename(folder / "1.0.0")
    for path in (folder / "1.0.0").glob("dataset_info.json"):
        path.write_text(path.read_text().replace("2.0.0", "1.0.0"))
    assert str(tfds_builders.dataset(root).info.version) == "2.0.0"
    assert {path.name for path in folder.iterdir()} == {"1.0.0", "2.0.0"}


def test_an_error_during_preparation_keeps_the_old_dataset(root, monkeypatch):
    reject_first(root)

    def fail(*_):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(examples, "keyed_example_of_row", fail)
    with pytest.raises(RuntimeError, match="disk is full"):
        tfds_builders.dataset(root)
    monkeypatch.undo()
    folder = root / "tfds/cell_types/study"
    assert (folder / "2.0.0").exists()
    assert not (folder / "2.1.0").exists()
    assert str(tfds_builders.dataset(root).info.version) == "2.1.0"
    assert not list(folder.glob("*incomplete*"))


def test_without_annotations_the_message_says_what_to_do(tmp_path):
    cc.simulate(tmp_path, images_per_type=1, mixed=0, size=64)
    cc.convert(tmp_path / "raw", tmp_path)
    with pytest.raises(cc.InputError, match="cellclass annotate"):
        tfds_builders.dataset(tmp_path)


def test_a_folder_that_is_not_writable_is_reported_first(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")

    def check(*_):
        raise AssertionError("hours were spent")

    monkeypatch.setattr(examples, "check_study", check)
    with pytest.raises(cc.InputError, match="cannot be written"):
        tfds_builders.dataset(root, data_dir=tmp_path / "file" / "tfds")


def test_a_study_can_be_prepared_elsewhere(root, tmp_path):
    prepared = tfds_builders.dataset(root, data_dir=tmp_path / "bucket")
    assert pathlib.Path(prepared.info.data_dir).is_relative_to(tmp_path / "bucket")
    assert prepared.is_new


def test_the_dataset_is_made_on_beam_in_the_same_bytes(root, tmp_path):
    prepared = tfds_builders.dataset(
        root, data_dir=tmp_path / "beam", engine="beam", beam_options=""
    )
    assert prepared.is_new
    one, other = (
        {
            path.name: path.read_bytes()
            for path in sorted(folder.glob("cell_types/study/2.0.0/*.tfrecord*"))
        }
        for folder in (root / "tfds", tmp_path / "beam")
    )
    assert len(one) == 4
    assert one == other
    assert not list((root / ".journal").glob(".part-*"))


def test_examples_that_fail_on_beam_are_named(root, tmp_path, monkeypatch):
    def make(*_):
        raise ValueError("no pixels")

    monkeypatch.setattr(cell_types_dataset_builder, "_write_examples", make)
    with pytest.raises(cc.InputError, match="could not be made: no pixels"):
        tfds_builders.dataset(root, data_dir=tmp_path / "beam", engine="beam")


def test_tfds_makes_the_same_examples_on_beam(root, tmp_path):
    builder = cell_types_dataset_builder.Builder(
        config="study", data_dir=tmp_path / "beam", study=os.fspath(root)
    )
    options = beam.pipeline_options(())
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(beam_options=options)
    )
    for split in builder.info.splits:
        one, other = (
            sorted(
                tfds.as_numpy(
                    tfds.load("cell_types/study:2.0.0", data_dir=d, split=split)
                ),
                key=lambda example: example["image_name"],
            )
            for d in (root / "tfds", tmp_path / "beam")
        )
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a["image"], b["image"])
            np.testing.assert_array_equal(a["labels"], b["labels"])


def test_a_builder_can_be_pickled(root):
    builder = cell_types_dataset_builder.Builder(
        config="study", data_dir=root / "tfds", study=os.fspath(root)
    )
    assert pickle.loads(pickle.dumps(builder)).version == builder.version


def test_tfds_build_and_load_in_fresh_processes(root):
    reject_first(root)
    folder = pathlib.Path(tfds_builders.__file__).parent / "cell_types"
    tool = pathlib.Path(sys.executable).with_name("tfds")
    build = [tool, "build", "--config=study", f"--data_dir={root}/tfds"]
    subprocess.run(build, check=True, cwd=folder, capture_output=True)
    code = (
        "import tensorflow_datasets as tfds, tfds_builders; "
        f"d = tfds.load('cell_types/study:2.1.0', data_dir='{root}/tfds'); "
        "print(sorted(d))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == "['composed', 'mixed', 'train', 'validation']"


def test_splits_are_recorded_by_both_ways_to_prepare_the_dataset(root):
    study = cc.Study.open(root)
    study.update([dataclasses.replace(row, split="") for row in study.rows()])
    shutil.rmtree(study.tfds_dir)
    tfds.load("cell_types/study", data_dir=str(study.tfds_dir))
    recorded = {row.image: row.split for row in study.rows()}
    assert set(recorded.values()) == {"train", "validation", "mixed"}


@pytest.mark.parametrize("by_tfds", [False, True])
def test_broken_fields_are_named_by_both_ways_to_prepare_the_dataset(
    root, by_tfds, caplog
):
    study = cc.Study.open(root)
    row = next(row for row in study.rows() if row.split == "train")
    study.cells_path(row).write_bytes(b"II*")
    if by_tfds:
        load(root)
    else:
        prepared = tfds_builders.dataset(root)
        assert list(prepared.outcome.failures) == [row.image]
    told = [text for text in caplog.messages if "is left out of the dataset" in text]
    assert [row.image in text for text in told] == [True] * by_tfds


def test_leftovers_of_killed_runs_are_removed_unless_they_may_be_in_use(root, tmp_path):
    left = root / "tfds" / "cell_types" / "study" / "2.9.0.incompleteABC_x"
    shared = tmp_path / "shared" / "cell_types" / "study" / left.name
    for folder in (left, shared):
        folder.mkdir(parents=True)
    config = root / "tfds" / "cell_types" / ".config" / "incomplete.0123.metadata.json"
    config.parent.mkdir(exist_ok=True)
    config.write_text("{")
    tfds_builders.dataset(root)
    # A process that writes to a study's own folder holds its lock.
    assert not left.exists()
    assert not config.exists()
    tfds_builders.dataset(root, data_dir=tmp_path / "shared")
    assert shared.exists()
    hours_ago = time.time() - 2 * 3600
    os.utime(shared, (hours_ago, hours_ago))
    tfds_builders.dataset(root, data_dir=tmp_path / "shared")
    assert not shared.exists()


def test_only_one_process_prepares_a_study_at_a_time(root):
    shutil.rmtree(root / "tfds")
    script = (
        "import pathlib, sys; from cellclass_tf.storage import lock\n"
        f"with lock.one_writer(pathlib.Path({str(root)!r}), 'annotate'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(cc.InputError, match="being written to by `annotate`"):
            tfds.load("cell_types/study", data_dir=str(root / "tfds"))
        holder.communicate()
    tfds.load("cell_types/study", data_dir=str(root / "tfds"))
