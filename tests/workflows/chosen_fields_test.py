"""Tests of cellclass_tf.workflows.chosen_fields."""

import dataclasses

import numpy as np
import pytest
import tifffile

from cellclass_tf import batch
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import conversion
from cellclass_tf.storage import png
from cellclass_tf.workflows import chosen_fields
from tests import by_hand


def write_raw(path, seed=0):
    """Writes a raw file of 32 x 40 px with two channels and pixels of 0.5 µm."""
    pixels = np.random.default_rng(seed).integers(100, 999, (2, 32, 40), np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = {"Name": ["DAPI", "GFP"]}
    metadata = {"axes": "CYX", "Channel": names, "PhysicalSizeX": 0.5}
    tifffile.imwrite(
        path, pixels, ome=True, metadata=metadata, photometric="minisblack"
    )


def choose(source, output, **options):
    """Chooses fields; takes the options of `convert` too."""
    given = {n: options.pop(n, None) for n in ("cell_type", "pixel_size_um")}
    return chosen_fields.choose_fields(
        source,
        output,
        **given,
        conversion_options=options,
        engine=batch.IN_THIS_PROCESS,
    )


def convert_and_accept(source, output):
    """Converts as `choose` does, and accepts all fields, which hold only noise."""
    study = Study.open_or_create(output / "converted")
    conversion.convert(source, study, cell_type="mixed")
    for row in study.rows():
        by_hand.edit(study, row.image, verdict="accepted", reason="")


@pytest.fixture
def study(tmp_path):
    study = Study.create(tmp_path / "study", pixel_size_um=0.3)
    rows = [
        ImageRow("HEK/a.png", "HEK", pixel_size_um=0.2),
        ImageRow("HEK/b.png", "HEK", verdict="rejected", reason="blurred"),
        ImageRow("mixed/m.png", "mixed", verdict="accepted"),
    ]
    study.update(rows)
    return study


def test_all_fields_of_a_study_except_rejected_ones_are_chosen(study, tmp_path):
    chosen = choose(study.root, tmp_path / "out", cell_type="all")
    assert [field.stem for field in chosen.fields] == ["HEK/a", "mixed/m"]
    assert chosen.cell_type == "all"
    assert not chosen.notes
    assert [row.image for row in chosen.rejected] == ["HEK/b.png"]
    assert [field.pixel_size_um for field in chosen.fields] == [0.2, 0.3]
    first = chosen.fields[0]
    assert first.image == study.image_path(first.row)
    assert chosen.study.root == study.root
    assert not chosen.failures
    # A study needs no conversion.
    assert not (tmp_path / "out" / "converted").exists()


def test_the_mixed_fields_of_a_study_are_chosen_or_all_if_there_are_none(
    study, tmp_path
):
    chosen = choose(study.root, tmp_path / "out")
    assert [field.stem for field in chosen.fields] == ["mixed/m"]
    assert chosen.cell_type == "mixed"
    (note,) = chosen.notes
    assert note.startswith("Mixed fields only; 2 fields of pure cultures were left out")
    pure = Study.create(tmp_path / "pure")
    pure.update([ImageRow("HEK/a.png", "HEK")])
    chosen = choose(pure.root, tmp_path / "out2")
    assert [field.stem for field in chosen.fields] == ["HEK/a"]
    assert chosen.cell_type == "all"
    assert not chosen.notes


def test_results_of_one_selection_are_not_mixed_with_those_of_another(study, tmp_path):
    out = tmp_path / "out"
    choose(study.root, out)
    choose(study.root, out, cell_type="mixed")
    for cell_type in ("HEK", "all"):
        with pytest.raises(
            InputError, match="results of other fields: cell_type=mixed"
        ):
            choose(study.root, out, cell_type=cell_type)
    write_raw(tmp_path / "raw" / "a.ome.tif")
    with pytest.raises(InputError, match="Give another folder as --output"):
        choose(tmp_path / "raw", out)
    assert not (out / "converted").exists()


def test_a_selection_without_fields_does_not_occupy_the_folder(study, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="no images to predict"):
        choose(study.root, out, cell_type="HKE")
    with pytest.raises(InputError, match="raww"):
        choose(tmp_path / "raww", out)
    assert choose(study.root, out, cell_type="HEK").fields


def test_a_study_that_was_moved_together_with_its_results_is_the_same(study, tmp_path):
    choose(study.root, tmp_path / "study" / "results" / "out")
    moved = tmp_path / "moved"
    study.root.rename(moved)
    assert choose(moved, moved / "results" / "out").fields
    with pytest.raises(InputError, match="other fields"):
        choose(moved, moved / "results" / "out", cell_type="HEK")


def test_results_cannot_be_written_into_a_study(study, tmp_path):
    write_raw(tmp_path / "raw" / "a.ome.tif")
    for source in (study.root, tmp_path / "raw"):
        with pytest.raises(InputError, match="is a study; results would be"):
            choose(source, study.root)


def test_only_the_chosen_folder_of_a_study_is_predicted(study, tmp_path):
    chosen = choose(study.root, tmp_path, cell_type="mixed", pixel_size_um=0.7)
    (field,) = chosen.fields
    assert (field.stem, field.pixel_size_um) == ("mixed/m", 0.7)
    assert not chosen.rejected
    chosen = choose(study.root, tmp_path / "out", cell_type="HEK")
    assert [field.stem for field in chosen.fields] == ["HEK/a"]
    assert [row.image for row in chosen.rejected] == ["HEK/b.png"]


def test_a_study_without_fields_to_predict_is_refused(study, tmp_path):
    with pytest.raises(InputError, match=r"no images to predict \(cell_type=N2a\)"):
        choose(study.root, tmp_path, cell_type="N2a")
    study.update(dataclasses.replace(r, verdict="rejected") for r in study.rows())
    with pytest.raises(InputError, match=r"or all of them are rejected; see .*images"):
        choose(study.root, tmp_path / "out")


def test_cell_type_is_refused_for_raw_files(tmp_path):
    write_raw(tmp_path / "raw" / "HEK" / "a.ome.tif")
    with pytest.raises(InputError, match="--cell_type=HEK chooses images of a study"):
        choose(tmp_path / "raw", tmp_path / "out", cell_type="HEK")
    assert not (tmp_path / "out").exists()


def test_raw_files_become_fields_without_folder_and_broken_ones_are_reported(tmp_path):
    write_raw(tmp_path / "raw" / "HEK" / "a.ome.tif")
    write_raw(tmp_path / "raw" / "b.ome.tif", seed=1)
    (tmp_path / "raw" / "c.tif").write_text("no picture")
    out = tmp_path / "out"
    convert_and_accept(tmp_path / "raw", out)
    chosen = choose(tmp_path / "raw", out)
    # The folder's name is not taken for the type.
    assert sorted(field.stem for field in chosen.fields) == ["a", "b"]
    assert {field.row.cell_type for field in chosen.fields} == {"mixed"}
    assert {field.pixel_size_um for field in chosen.fields} == {0.5}
    assert chosen.study.root == out / "converted"
    for field in chosen.fields:
        assert png.read_png(field.image).shape == (32, 40, 3)
    ((name, reason),) = chosen.failures.items()
    assert name.endswith("c.tif")
    assert "of no known format" in reason
    chosen = choose(tmp_path / "raw", out, pixel_size_um=0.7)
    assert {field.pixel_size_um for field in chosen.fields} == {0.7}


def test_removed_raw_files_are_not_predicted_again(tmp_path):
    for seed, name in enumerate("ab"):
        write_raw(tmp_path / "a" / f"{name}.ome.tif", seed)
    convert_and_accept(tmp_path / "a", tmp_path / "out")
    (tmp_path / "a" / "b.ome.tif").unlink()
    chosen = choose(tmp_path / "a", tmp_path / "out")
    assert [field.stem for field in chosen.fields] == ["a"]
    assert len(chosen.study.rows()) == 2
    # The options are passed on to the conversion.
    chosen = choose(tmp_path / "a", tmp_path / "out", nuclei="GFP", cytoplasm="DAPI")
    assert [field.row.nuclei_channel for field in chosen.fields] == ["GFP"]


def test_if_all_files_fail_the_failures_are_returned(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.tif").write_text("no picture")
    chosen = choose(tmp_path / "raw", tmp_path / "out")
    assert not chosen.fields
    assert not chosen.rejected
    assert len(chosen.failures) == 1
