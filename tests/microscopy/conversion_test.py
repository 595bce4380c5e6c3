"""Tests of cellclass_tf.microscopy.conversion."""

import dataclasses
import re
import shutil
import unicodedata

import numpy as np
import pytest
import tifffile

from cellclass_tf import batch, errors, versions
from cellclass_tf.cli import main
from cellclass_tf.core import manifest
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import Study
from cellclass_tf.interchange import ome_zarr_plate
from cellclass_tf.interchange.masks import import_masks
from cellclass_tf.microscopy import conversion
from cellclass_tf.microscopy.conversion import convert
from cellclass_tf.microscopy.files import raw_files
from cellclass_tf.microscopy.formats import omezarr
from cellclass_tf.splits import near_duplicates
from cellclass_tf.storage import csv_json, digests, png


def write_raw(path, brightness=1000, names=("DAPI", "GFP"), times=1, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(100, 100 + brightness, (times, len(names), 32, 40), np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"axes": "TCYX", "Channel": {"Name": list(names)}, "PhysicalSizeX": 0.5}
    tifffile.imwrite(
        path, pixels, ome=True, metadata=metadata, photometric="minisblack"
    )
    return pixels


def test_folders_name_the_types_and_rows_name_the_raw_files(tmp_path):
    pixels = write_raw(tmp_path / "raw" / "HEK" / "d1_a.ome.tif")
    write_raw(tmp_path / "raw" / "mixed" / "d2_a.ome.tif")
    outcome = convert(tmp_path / "raw", tmp_path / "s", group=r"d\d")
    assert not outcome.failures
    study = Study.open(tmp_path / "s")
    row, mixed = study.rows()
    assert (row.image, row.cell_type, row.group) == ("HEK/d1_a.png", "HEK", "d1")
    assert (mixed.image, mixed.cell_type) == ("mixed/d2_a.png", "mixed")
    assert row.raw_sha256 == digests.sha256_of_file(row.raw_file)
    assert (row.nuclei_channel, row.cytoplasm_channel) == ("DAPI", "GFP")
    assert row.pixel_size_um == 0.5
    low, high = (float(x) for x in row.nuclei_limits.split("-"))
    expected = np.rint(np.clip((pixels[0, 0] - low) * 255 / (high - low), 0, 255))
    np.testing.assert_array_equal(study.read_image(row)[..., 2], expected)


def test_fields_of_a_group_share_one_contrast(tmp_path):
    for dish, brightness in (("d1", 500), ("d2", 3000)):
        for field in "ab":
            write_raw(tmp_path / "raw" / f"{dish}_{field}.ome.tif", brightness)
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK", group=r"d\d")
    limits = {(r.group, r.nuclei_limits) for r in Study.open(tmp_path / "s").rows()}
    assert len(limits) == 2


def test_a_folder_names_the_dish_and_older_studies_keep_their_groups(
    tmp_path, monkeypatch
):
    for dish, brightness in (("d1", 500), ("d2", 3000)):
        for field in "ab":
            write_raw(
                tmp_path / "raw" / "HEK" / dish / f"{dish}{field}.ome.tif", brightness
            )
    convert(tmp_path / "raw", tmp_path / "new")
    rows = Study.open(tmp_path / "new").rows()
    assert [r.group for r in rows] == ["HEK/d1", "HEK/d1", "HEK/d2", "HEK/d2"]
    assert len({r.nuclei_limits for r in rows}) == 2
    # An earlier version did not use the folder.
    with monkeypatch.context() as patch:
        patch.setattr(raw_files, "_dish_folder", lambda *a, **k: "")
        convert(tmp_path / "raw", tmp_path / "old")
    before = Study.open(tmp_path / "old").rows()
    assert [r.group for r in before] == ["HEK/d1a", "HEK/d1b", "HEK/d2a", "HEK/d2b"]
    convert(tmp_path / "raw", tmp_path / "old")
    assert Study.open(tmp_path / "old").rows() == before


def write_plate(path):
    """Writes a plate with two fields in well B02 and one in A10."""
    image = np.random.default_rng(0).integers(0, 255, (40, 48, 3), np.uint8)
    image[..., 0] = 0
    cells = Cells.from_labels(np.zeros((40, 48), np.int32), ("HEK",))
    path.parent.mkdir(parents=True)
    field = ome_zarr_plate.PlateField("a", cells, image, 0.5)
    wells = {
        ome_zarr_plate.Well("p", "B", "02"): [field, field],
        ome_zarr_plate.Well("p", "A", "10"): [field],
    }
    ome_zarr_plate.write_plate(path, "p", wells)


def groups_of(study):
    return {row.scene_name: row.group for row in Study.open(study).rows()}


def test_each_well_of_a_plate_is_a_group(tmp_path):
    pytest.importorskip("zarr", reason="no zarr for Python 3.10")
    write_plate(tmp_path / "raw" / "HEK" / "p.zarr")
    convert(tmp_path / "raw", tmp_path / "s")
    expected = {"A/10/0": "HEK/p_A10", "B/02/0": "HEK/p_B02", "B/02/1": "HEK/p_B02"}
    assert groups_of(tmp_path / "s") == expected
    rows = Study.open(tmp_path / "s").rows()
    assert len({row.contrast_group for row in rows}) == 1
    again = convert(tmp_path / "raw", tmp_path / "s")
    assert not again.done
    assert Study.open(tmp_path / "s").rows() == rows
    # A pattern names the group of the whole file.
    convert(tmp_path / "raw", tmp_path / "s", group="HEK", change_settings=True)
    assert set(groups_of(tmp_path / "s").values()) == {"HEK"}


def test_the_time_limit_of_a_folder_counts_all_its_files(tmp_path):
    pytest.importorskip("zarr", reason="no zarr for Python 3.10")
    write_plate(tmp_path / "HEK" / "p.zarr")
    (raw,) = raw_files.find(tmp_path, None, None).files
    study = Study.create(tmp_path / "s")

    def limit(processes):
        engine = batch.Engine(processes=processes)
        step = conversion._Conversion(study, None, 10.0, engine)
        return step._job(raw, None, "", []).limit_s

    size = sum(p.stat().st_size for p in raw.path.rglob("*") if p.is_file())
    assert limit(2) == 10 + size / 1e6
    assert limit(1) is None


def test_an_older_study_keeps_one_group_for_a_plate(tmp_path, monkeypatch):
    pytest.importorskip("zarr", reason="no zarr for Python 3.10")
    write_plate(tmp_path / "raw" / "HEK" / "p.zarr")
    found = omezarr._images
    with monkeypatch.context() as patch:
        patch.setattr(
            omezarr, "_images", lambda root: ((p, "") for p, _ in found(root))
        )
        convert(tmp_path / "raw", tmp_path / "s")
    before = Study.open(tmp_path / "s").rows()
    assert {row.group for row in before} == {"HEK/p"}
    assert not convert(tmp_path / "raw", tmp_path / "s").done
    # Measured again, as after a change of the file, its wells are known.
    monkeypatch.setattr(versions, "MEASUREMENT", versions.MEASUREMENT + 1)
    convert(tmp_path / "raw", tmp_path / "s")
    assert Study.open(tmp_path / "s").rows() == before


@pytest.mark.parametrize("algorithm", ["MEASUREMENT", "MERGING"])
def test_files_are_read_again_by_another_version_of_an_algorithm(
    tmp_path, monkeypatch, algorithm
):
    write_raw(tmp_path / "raw" / "a.ome.tif")
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK")
    called = []
    run = batch.run

    def counted(function, jobs, **options):
        found = run(function, jobs, **options)
        called.append((options["description"], len(found.done)))
        return found

    monkeypatch.setattr(batch, "run", counted)
    monkeypatch.setattr(versions, algorithm, getattr(versions, algorithm) + 1)
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK")
    name = {"MEASUREMENT": "measure", "MERGING": "convert"}[algorithm]
    assert dict(called)[name] == 1


def test_sets_of_files_are_read_again_by_another_version(tmp_path, monkeypatch):
    write_raw(tmp_path / "raw" / "a.ome.tif")
    for channel in (1, 2):
        path = tmp_path / "raw" / f"P_A01_w{channel}.tif"
        tifffile.imwrite(path, np.full((32, 40), channel, np.uint16))
    flags = {"cell_type": "HEK", "nuclei": 0, "cytoplasm": 1}
    convert(tmp_path / "raw", tmp_path / "s", **flags)
    assert not convert(tmp_path / "raw", tmp_path / "s", **flags).done
    monkeypatch.setattr(versions, "JOINING", versions.JOINING + 1)
    (done,) = convert(tmp_path / "raw", tmp_path / "s", **flags).done
    assert "P_A01_w1.tif" in done


def limits_of(study):
    return {row.image: row.nuclei_limits for row in Study.open(study).rows()}


def test_a_group_keeps_its_contrast_when_fields_are_added(tmp_path):
    write_raw(tmp_path / "raw" / "d1_a.ome.tif", 500)
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK", group=r"d\d")
    (before,) = limits_of(tmp_path / "s").values()
    write_raw(tmp_path / "raw" / "d1_b.ome.tif", 3000)
    outcome = convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK", group=r"d\d")
    # The first image is not changed, nor is anything drawn on it.
    assert len(outcome.skipped) == 1
    assert set(limits_of(tmp_path / "s").values()) == {before}
    brighter = Study.open(tmp_path / "s").rows()[1]
    assert brighter.nuclei_clipped > 0.5


def test_contrast_anew_measures_the_limits_again(tmp_path):
    write_raw(tmp_path / "raw" / "a.ome.tif", 500)
    arguments = {"cell_type": "HEK", "contrast": "anew"}
    convert(tmp_path / "raw", tmp_path / "s", **arguments)
    (before,) = limits_of(tmp_path / "s").values()
    write_raw(tmp_path / "raw" / "b.ome.tif", 3000)
    convert(tmp_path / "raw", tmp_path / "s", **arguments)
    after = limits_of(tmp_path / "s")
    assert len(set(after.values())) == 1
    assert before not in after.values()


def test_contrast_field_stretches_each_field_on_its_own(tmp_path):
    write_raw(tmp_path / "raw" / "a.ome.tif", 500)
    write_raw(tmp_path / "raw" / "b.ome.tif", 3000)
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK", contrast="field")
    assert len(set(limits_of(tmp_path / "s").values())) == 2
    assert {row.contrast for row in Study.open(tmp_path / "s").rows()} == {"field"}


def test_other_stains_of_a_group_have_limits_of_their_own(tmp_path):
    write_raw(tmp_path / "raw" / "d1_a.ome.tif", 500)
    write_raw(tmp_path / "raw" / "d1_b.ome.tif", 3000, names=("Hoechst", "GFP"))
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK", group=r"d\d")
    assert len(set(limits_of(tmp_path / "s").values())) == 2


def test_titles_in_the_labels_of_imagej_do_not_separate_the_contrast(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "raw" / "HEK" / "dish1"
    folder.mkdir(parents=True)
    for number, brightness in enumerate((500, 3000)):
        tifffile.imwrite(
            folder / f"{number}.tif",
            rng.integers(100, 100 + brightness, (2, 32, 40), np.uint16),
            imagej=True,
            metadata={
                "axes": "CYX",
                "Labels": [f"c:{c}/2 - HEK_0{number}.czi" for c in (1, 2)],
            },
        )
    convert(tmp_path / "raw", tmp_path / "s", nuclei=0, cytoplasm=1)
    assert len(set(limits_of(tmp_path / "s").values())) == 1


def test_ambiguous_channels_are_drawn_once_and_flags_choose_them(tmp_path):
    for name in ("a", "b"):
        write_raw(tmp_path / "raw" / f"{name}.ome.tif", names=("Cam1", "Cam2"))
    outcome = convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK")
    (picture,) = (tmp_path / "s" / "channels").iterdir()
    assert all(str(picture) in reason for reason in outcome.failures.values())
    assert png.read_png(picture).ndim == 3
    arguments = {"cell_type": "HEK", "nuclei": "Cam2"}
    assert not convert(tmp_path / "raw", tmp_path / "s", **arguments).failures
    row = Study.open(tmp_path / "s").rows()[0]
    assert (row.nuclei_channel, row.cytoplasm_channel) == ("Cam2", "Cam1")
    assert row.channels_by == "user+remaining"


def test_emissions_in_the_file_identify_the_channels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 999, (2, 32, 40), np.uint16)
    channel = {"Name": ["Cam1", "Cam2"], "EmissionWavelength": [525.0, 461.0]}
    metadata = {"axes": "CYX", "Channel": channel}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, ome=True, metadata=metadata)
    convert(tmp_path / "a.ome.tif", tmp_path / "s", cell_type="HEK")
    (row,) = Study.open(tmp_path / "s").rows()
    assert (row.nuclei_channel, row.channels_by) == ("Cam2", "emission")


def test_files_with_one_channel_each_become_one_image(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    rng = np.random.default_rng(0)
    for name in ("P_A01_s1_w1.tif", "P_A01_s1_w2.tif"):
        tifffile.imwrite(raw / name, rng.integers(0, 999, (32, 40), np.uint16))
    arguments = {"cell_type": "HEK", "nuclei": "w1", "cytoplasm": "w2"}
    outcome = convert(raw, tmp_path / "s", **arguments)
    assert not outcome.failures
    (row,) = Study.open(tmp_path / "s").rows()
    assert row.image == "HEK/P_A01_s1.png"
    paths = row.raw_file.split("|")
    assert [p.rsplit("_", 1)[1] for p in paths] == ["w1.tif", "w2.tif"]
    assert row.raw_sha256.split("|") == [digests.sha256_of_file(p) for p in paths]


def test_an_index_is_refused_if_a_file_of_the_set_is_missing(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    rng = np.random.default_rng(0)
    names = ["s1_w1", "s1_w2", "s1_w3", "s2_w2", "s2_w3", "s3_w1", "s3_w2"]
    for name in names:
        path = raw / f"P_A01_{name}.tif"
        tifffile.imwrite(path, rng.integers(0, 999, (32, 40), np.uint16))

    def failures(**flags):
        flags |= {"cell_type": "HEK", "change_settings": True}
        return sorted(convert(raw, tmp_path / "s", **flags).failures.values())

    (told,) = failures(nuclei=0, cytoplasm=1)
    assert told.startswith(f"{raw / 'P_A01_s2.tif'}: the file of w1 is missing")
    assert "(they have w1, w2, w3)" in told
    # The indices of the third set are those of complete ones.
    images = [row.image for row in Study.open(tmp_path / "s").rows()]
    assert images == ["HEK/P_A01_s1.png", "HEK/P_A01_s3.png"]
    # The remaining one of two may not be the one that complete sets need.
    told = failures(nuclei="w2", cytoplasm="")
    assert len(told) == 3
    assert sum("the file of w" in text for text in told) == 2
    # By name, only the field without w3 fails.
    (told,) = failures(nuclei="w2", cytoplasm="w3")
    assert "no channel 'w3'" in told


def test_adding_files_of_another_channel_reads_the_sets_again(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    rng = np.random.default_rng(0)

    def write(*names):
        for name in names:
            path = raw / f"P_A01_{name}.tif"
            tifffile.imwrite(path, rng.integers(0, 999, (32, 40), np.uint16))

    flags = {"cell_type": "HEK", "nuclei": 0, "cytoplasm": 1}
    write("s2_w2", "s2_w3")
    assert not convert(raw, tmp_path / "s", **flags).failures
    write("s1_w1", "s1_w2", "s1_w3")
    assert len(convert(raw, tmp_path / "s", **flags).failures) == 1


def test_without_groups_one_call_shares_one_contrast_and_each_file_is_a_group(tmp_path):
    write_raw(tmp_path / "raw" / "a.ome.tif", 500)
    write_raw(tmp_path / "raw" / "b.ome.tif", 3000)
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK")
    a, b = Study.open(tmp_path / "s").rows()
    assert a.nuclei_limits == b.nuclei_limits
    assert a.group != b.group


def test_files_keep_their_shared_contrast_without_the_record_of_the_study(tmp_path):
    for name, brightness in (("a", 1000), ("b", 3000)):
        write_raw(tmp_path / "raw" / f"{name}.ome.tif", brightness=brightness)
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK")
    before = Study.open(tmp_path / "s").rows()
    shutil.rmtree(tmp_path / "s" / ".journal")
    # Without the record, each group counts as one that a person wrote.
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK")
    assert Study.open(tmp_path / "s").rows() == before


def test_files_of_unknown_dishes_are_reported(tmp_path):
    def notes(name, *files, **options):
        for file in files:
            write_raw(tmp_path / name / f"{file}.ome.tif")
        outcome = convert(tmp_path / name, tmp_path / f"study_{name}", **options)
        return [note for note in outcome.notes if note.startswith("dishes: ")]

    (note,) = notes("lone", "HEK/a_1", "HEK/a_2", "N2a/a_1")
    assert "each of 3 files counts as a dish of its own" in note
    assert not notes("pattern", "HEK/a_1", "HEK/a_2", group="HEK/a")
    assert not notes("folders", "HEK/dish1/1", "HEK/dish1/2", "HEK/dish2/1")
    assert not notes("one", "HEK/a", "N2a/a")


def test_each_time_point_is_a_field(tmp_path):
    write_raw(tmp_path / "a.ome.tif", times=3)
    convert(tmp_path / "a.ome.tif", tmp_path / "s", cell_type="HEK")
    rows = Study.open(tmp_path / "s").rows()
    assert [r.image for r in rows] == ["HEK/a.png", "HEK/a_t1.png", "HEK/a_t2.png"]
    assert len({r.group for r in rows}) == 1


def test_broken_files_do_not_stop_the_others(tmp_path):
    raw = tmp_path / "raw"
    write_raw(raw / "good.ome.tif")
    write_raw(raw / "one_channel.ome.tif", names=("DAPI",))
    (raw / "text.tif").write_text("no picture")
    whole = (raw / "good.ome.tif").read_bytes()
    (raw / "truncated.ome.tif").write_bytes(whole[: len(whole) // 2])
    outcome = convert(raw, tmp_path / "s", cell_type="HEK")
    assert sorted(p.rsplit("/", 1)[1] for p in outcome.failures) == [
        "one_channel.ome.tif",
        "text.tif",
        "truncated.ome.tif",
    ]
    assert [r.image for r in Study.open(tmp_path / "s").rows()] == ["HEK/good.png"]


def test_a_second_run_does_nothing_and_keeps_hand_made_edits(tmp_path):
    write_raw(tmp_path / "raw" / "a.ome.tif")
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK")
    manifest = tmp_path / "s" / "images.csv"
    other = {"accepted": "rejected", "rejected": "accepted"}
    (row,) = Study.open(tmp_path / "s").rows()
    text = manifest.read_text().replace(row.verdict, other[row.verdict])
    manifest.write_text(text)
    outcome = convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK")
    assert not outcome.done
    assert len(outcome.skipped) == 1
    assert manifest.read_text() == text


def test_rows_hold_the_hash_of_the_scene(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_raw(tmp_path / "raw" / f"{name}.ome.tif", seed=seed)
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK")
    study = Study.open(tmp_path / "s")
    a, b, c = study.rows()
    assert a.scene_hash == near_duplicates.scene_hash(study.read_image(a)) != ""
    assert a.scene_hash == b.scene_hash != c.scene_hash


def test_a_study_without_scene_hashes_is_not_converted_again(tmp_path):
    write_raw(tmp_path / "raw" / "a.ome.tif")
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK")
    study = Study.open(tmp_path / "s")
    # The manifest and the journal are as an earlier version wrote them.
    columns = [c for c in manifest.COLUMNS if c != "scene_hash"]
    old = [{c: getattr(row, c) for c in columns} for row in study.rows()]
    csv_json.write_csv(study.manifest_path, columns, old)
    journal = study.journal("convert")
    text = re.sub(r'"scene_hash": "\w+", ', "", journal.read_text())
    assert "scene_hash" not in text
    journal.write_text(text)
    outcome = convert(tmp_path / "raw", study, cell_type="HEK")
    assert not outcome.done
    assert len(outcome.skipped) == 1
    (row,) = study.rows()
    assert row.scene_hash == ""
    assert [{c: getattr(row, c) for c in columns}] == old
    study.manifest_path.unlink()
    convert(tmp_path / "raw", study, cell_type="HEK")
    assert study.rows()[0].image_sha256 == row.image_sha256


def test_a_changed_raw_file_is_converted_again_and_keeps_its_corrections(tmp_path):
    raw = tmp_path / "raw" / "a.ome.tif"
    write_raw(raw)
    convert(raw, tmp_path / "s", cell_type="HEK")
    study = Study.open(tmp_path / "s")
    (row,) = study.rows()
    study.update([dataclasses.replace(row, corrected=True, cells=7, split="test")])
    write_raw(raw, seed=1)
    assert len(convert(raw, study, cell_type="HEK").done) == 1
    (after,) = study.rows()
    assert after.raw_sha256 != row.raw_sha256
    assert (after.corrected, after.cells, after.split) == (True, 7, "test")


def test_rows_that_a_killed_run_did_not_write_are_added(tmp_path):
    write_raw(tmp_path / "raw" / "a.ome.tif")
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK")
    (tmp_path / "s" / "images.csv").unlink()
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK")
    assert len(Study.open(tmp_path / "s").rows()) == 1


def test_rows_that_a_person_deleted_are_added_with_a_note(tmp_path):
    for name in ("a", "b"):
        write_raw(tmp_path / "raw" / f"{name}.ome.tif")

    def deleted(**options):
        outcome = convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK", **options)
        assert len(Study.open(tmp_path / "s").rows()) == 2
        return [note for note in outcome.notes if "deleted" in note]

    assert not deleted()
    study = Study.open(tmp_path / "s")
    lines = study.manifest_path.read_text().splitlines(keepends=True)
    for options in ({}, {"contrast": "field", "change_settings": True}):
        study.manifest_path.write_text("".join(lines[:2]))
        (note,) = deleted(**options)
        assert note.startswith("1 images whose rows were deleted from images.csv")
        assert "HEK/b.png" in note
        assert not deleted(**options)


def test_two_files_with_the_same_name_become_two_images(tmp_path):
    write_raw(tmp_path / "raw" / "HEK" / "dish1" / "a.ome.tif")
    write_raw(tmp_path / "raw" / "HEK" / "dish2" / "a.ome.tif")
    convert(tmp_path / "raw", tmp_path / "s")
    images = [r.image for r in Study.open(tmp_path / "s").rows()]
    assert images == ["HEK/a.png", "HEK/dish2_a.png"]


def test_a_second_batch_with_the_same_names_replaces_no_image(tmp_path):
    write_raw(tmp_path / "A" / "a.ome.tif", seed=1)
    write_raw(tmp_path / "B" / "a.ome.tif", seed=2)
    for folder in "AB":
        convert(tmp_path / folder, tmp_path / "s", cell_type="HEK")
    rows = Study.open(tmp_path / "s").rows()
    assert [(r.image, r.raw_file.rsplit("/", 2)[1]) for r in rows] == [
        ("HEK/B_a.png", "B"),
        ("HEK/a.png", "A"),
    ]


def test_folders_of_one_name_are_told_apart(tmp_path, monkeypatch):
    for number, experiment in enumerate(("one", "two")):
        write_raw(tmp_path / experiment / "raw" / "HEK" / "a.ome.tif", seed=number)
        monkeypatch.chdir(tmp_path / experiment)
        convert("raw", tmp_path / "s")
    rows = Study.open(tmp_path / "s").rows()
    assert [row.raw_file for row in rows] == [
        str(tmp_path / experiment / "raw" / "HEK" / "a.ome.tif")
        for experiment in ("two", "one")
    ]
    assert len({row.image_sha256 for row in rows}) == 2
    # Each file counts as a dish of its own.
    assert len({row.group for row in rows}) == 2


def accept_all(study):
    text = study.manifest_path.read_text()
    study.manifest_path.write_text(text.replace(",rejected,", ",accepted,"))


def test_a_file_that_moved_to_another_type_is_reported(tmp_path):
    wrong = tmp_path / "raw" / "HEK" / "a.ome.tif"
    right = tmp_path / "raw" / "N2a" / "a.ome.tif"
    write_raw(wrong)
    assert "stay in the study" not in str(
        convert(tmp_path / "raw", tmp_path / "s").notes
    )
    accept_all(Study.open(tmp_path / "s"))
    right.parent.mkdir()
    wrong.rename(right)
    found = convert(tmp_path / "raw", tmp_path / "s").notes
    (told,) = (note for note in found if "stay in the study" in note)
    assert "HEK/a.png" in told
    assert "N2a" not in told


def test_time_points_that_a_changed_file_does_not_have_are_reported(tmp_path):
    raw = tmp_path / "raw" / "a.ome.tif"
    write_raw(raw, times=2)
    convert(raw, tmp_path / "s", cell_type="HEK")
    accept_all(Study.open(tmp_path / "s"))
    write_raw(raw, seed=1)
    found = convert(raw, tmp_path / "s", cell_type="HEK").notes
    assert len([note for note in found if "stay in the study" in note]) == 1


def test_a_study_can_be_moved(tmp_path):
    write_raw(tmp_path / "raw" / "a.ome.tif")
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK")
    (tmp_path / "s").rename(tmp_path / "t")
    write_raw(tmp_path / "raw" / "b.ome.tif", 3000)
    assert not convert(tmp_path / "raw", tmp_path / "t", cell_type="HEK").failures
    assert len(Study.open(tmp_path / "t").rows()) == 2


def test_a_pixel_size_added_to_the_study_later_is_used(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 999, (2, 16, 16), np.uint16)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    raw = tmp_path / "a.ome.tif"
    tifffile.imwrite(raw, pixels, ome=True, metadata=metadata)
    convert(raw, tmp_path / "s", cell_type="HEK")
    assert Study.open(tmp_path / "s").rows()[0].pixel_size_um is None
    settings = tmp_path / "s" / "study.yaml"
    text = settings.read_text().replace("pixel_size_um: null", "pixel_size_um: 0.65")
    for size in ("0.65", "0.325"):
        settings.write_text(text.replace("0.65", size))
        study = Study.open(tmp_path / "s")
        assert study.pixel_size_of(study.rows()[0]) == float(size)
        convert(raw, tmp_path / "s", cell_type="HEK")


def test_an_impossible_pixel_size_is_reported_and_not_used(tmp_path, caplog):
    for name, value, unit in (("a", 300, "nm"), ("b", 0.0033, "inch"), ("c", 3, "ell")):
        write_raw(tmp_path / "raw" / f"{name}.ome.tif")
        xml = tifffile.tiffcomment(tmp_path / "raw" / f"{name}.ome.tif")
        size = f'PhysicalSizeX="{value}" PhysicalSizeXUnit="{unit}"'
        xml = xml.replace('PhysicalSizeX="0.5"', size)
        tifffile.tiffcomment(tmp_path / "raw" / f"{name}.ome.tif", xml.encode())
    convert(tmp_path / "raw", tmp_path / "s", cell_type="HEK")
    sizes = [row.pixel_size_um for row in Study.open(tmp_path / "s").rows()]
    assert sizes == [0.3, None, None]
    told = [m for m in caplog.messages if m.startswith("The pixel size of 1 fields")]
    assert len(told) == 2
    assert "3 ell, a unit that is not known. The first is " in told[0]
    assert "83.82 µm, which no light microscope has (0.0033 inch" in told[1]
    assert "into the column pixel_size_um of" in told[1]


def test_every_file_is_reported_and_linked_folders_are_read(tmp_path, capsys):
    write_raw(tmp_path / "raw" / "HEK" / "a.ome.tif")
    write_raw(tmp_path / "server" / "b.ome.tif", seed=1)
    (tmp_path / "raw" / "N2a").symlink_to(tmp_path / "server")
    (tmp_path / "raw" / "HEK" / "preview.jpg").write_bytes(b"")
    (tmp_path / "raw" / "HEK" / "notes.txt").write_bytes(b"")
    flags = [f"--input={tmp_path / 'raw'}", f"--study={tmp_path / 's'}"]
    assert main.run(["convert", *flags, "--processes=1"]) == main.SOME_FAILED
    told = capsys.readouterr().out
    assert "2 files done, 0 were done before, 1 failed." in told
    assert "\n  read: 2 .tif\n  left out: 1 of other kinds (notes.txt)\n" in told
    assert "1 files ending in .jpg are not read (preview.jpg). JPEG compression" in told
    rows = Study.open(tmp_path / "s").rows()
    assert [row.image for row in rows] == ["HEK/a.png", "N2a/b.png"]


def test_masks_with_long_names_fit_to_their_images(tmp_path):
    stems = [f"{'dish ' * 30}{number}" for number in range(3)]
    for seed, stem in enumerate(stems):
        write_raw(tmp_path / "raw" / "HEK" / f"{stem}.ome.tif", seed=seed)
    assert not convert(tmp_path / "raw", tmp_path / "s").failures
    study = Study.open(tmp_path / "s")
    for number, stem in enumerate(stems):
        labels = np.zeros((32, 40), np.uint16)
        labels[5 : 10 + number, 5:20] = 1
        path = tmp_path / "masks" / "HEK" / f"{stem}_masks.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, labels)
    assert not import_masks(study, tmp_path / "masks").failures
    found = {row.raw_file[-9:]: study.read_cells(row).areas_px for row in study.rows()}
    areas = {name: int(sizes[0]) for name, sizes in found.items()}
    assert areas == {f"{n}.ome.tif": 15 * (5 + n) for n in range(3)}


def test_a_colour_picture_in_a_file_does_not_affect_its_fields(tmp_path):
    path = tmp_path / "raw" / "HEK" / "a.ome.tif"
    path.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    with tifffile.TiffWriter(path, ome=True) as file:
        plane = rng.integers(100, 1000, (2, 32, 40), np.uint16)
        file.write(plane, photometric="minisblack", metadata=metadata)
        label = rng.integers(0, 255, (40, 30, 3), np.uint8)
        file.write(label, photometric="rgb", metadata={"Name": "label"})
    outcome = convert(tmp_path / "raw", tmp_path / "s")
    assert not outcome.failures
    assert [row.image for row in Study.open(tmp_path / "s").rows()] == ["HEK/a.png"]
    (note,) = (note for note in outcome.notes if "colour" in note)
    assert (
        "1 colour pictures such as slide overviews, in 1 files (scene 1 (label) of "
        in note
    )


def test_the_picture_named_in_a_channel_error_exists(tmp_path):
    # Two pages without metadata need the two flags.
    (tmp_path / "raw" / "HEK").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(100, 1000, (2, 32, 40), np.uint16)
    with tifffile.TiffWriter(tmp_path / "raw" / "HEK" / "a.tif") as file:
        for plane in pixels:
            file.write(plane, metadata=None, contiguous=False)
    (doubt,) = convert(tmp_path / "raw", tmp_path / "s").failures.values()
    assert "which channel is which?" in doubt
    assert "study.yaml" in doubt
    assert (tmp_path / "s" / "study.yaml").exists()
    outcome = convert(tmp_path / "raw", tmp_path / "s", nuclei=1, cytoplasm=0)
    assert not outcome.failures
    assert len(Study.open(tmp_path / "s").rows()) == 1


def test_types_keep_the_names_that_people_use(tmp_path):
    folders = ("HEK 293", unicodedata.normalize("NFD", "Zellen ä"), "N2a(2)", "MIXED")
    for seed, folder in enumerate(folders):
        write_raw(tmp_path / "raw" / folder / "day 1 (ü).ome.tif", seed=seed)
    assert not convert(tmp_path / "raw", tmp_path / "s").failures
    study = Study.open(tmp_path / "s")
    assert study.cell_types == ("HEK 293", "N2a(2)", "Zellen ä")
    images = [row.image for row in study.rows()]
    assert images == [f"{name}/day_1_ü_.png" for name in (*study.cell_types, "mixed")]
    labels = np.zeros((32, 40), np.uint16)
    labels[5:20, 5:20] = 1
    for folder in folders:
        path = tmp_path / "masks" / folder / "day 1 (ü)_masks.tif"
        path.parent.mkdir(parents=True)
        tifffile.imwrite(path, labels)
    outcome = import_masks(study, tmp_path / "masks")
    assert not outcome.failures
    assert len(outcome.done) == 4
    assert study.read_cells(study.rows()[0]).cell_types == ("HEK 293",)


def test_one_file_outside_of_the_type_folders_fails_alone(tmp_path):
    write_raw(tmp_path / "raw" / "HEK" / "d1_a.ome.tif")
    write_raw(tmp_path / "raw" / "HEK" / "other.ome.tif")
    write_raw(tmp_path / "raw" / "overview.ome.tif")
    outcome = convert(tmp_path / "raw", tmp_path / "s", group=r"d\d_")
    assert len(outcome.done) == 1
    assert len(outcome.failures) == 2


def test_errors_for_an_empty_folder_and_a_missing_type_give_advice(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.InputError, match="no image to convert"):
        convert(tmp_path / "empty", tmp_path / "s", cell_type="HEK")
    write_raw(tmp_path / "raw" / "a.ome.tif")
    with pytest.raises(errors.InputError, match="--cell_type"):
        convert(tmp_path / "raw", tmp_path / "s")


def test_the_error_for_a_misspelt_type_lists_those_of_the_study(tmp_path):
    write_raw(tmp_path / "raw" / "a.ome.tif")
    Study.create(tmp_path / "s")
    with pytest.raises(errors.InputError, match=r"'Hek'.*HEK, N2a"):
        convert(tmp_path / "raw", tmp_path / "s", cell_type="Hek")


def test_a_real_merged_image_keeps_its_pixels(assets, tmp_path):
    source = assets / "images" / "hek" / "hek_0004.png"
    convert(source, tmp_path / "s", cell_type="HEK")
    study = Study.open(tmp_path / "s")
    (row,) = study.rows()
    np.testing.assert_array_equal(study.read_image(row), png.read_png(source))
