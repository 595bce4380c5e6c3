"""Tests of cellclass_tf.datasets.simulation."""

import numpy as np
import pytest

from cellclass_tf import files
from cellclass_tf.cells import Cells
from cellclass_tf.datasets.simulation import simulate
from cellclass_tf.microscopy.readers import read_micrograph
from cellclass_tf.study import Study


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".journal" not in path.parts
    }


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    small = {"images_per_type": 1, "mixed": 1, "size": 96}
    simulate(tmp_path / "a", seed=3, **small)
    simulate(tmp_path / "b", seed=3, **small)
    simulate(tmp_path / "c", seed=4, **small)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    raw = "raw/HEK/HEK_dish1_0001.ome.tif"
    assert tree(tmp_path / "a")[raw] != tree(tmp_path / "c")[raw]


def test_files_are_as_a_microscope_writes_them_with_the_truth_beside(tmp_path):
    simulate(tmp_path, images_per_type=1, mixed=1, size=128)
    raw = read_micrograph(tmp_path / "raw/mixed/mixed_dish1_0001.ome.tif")
    assert raw.channel_names == ("DAPI", "GFP")
    assert raw.pixel_size_um == 0.325
    assert raw.pixels.dtype == np.uint16
    types = Study.open(tmp_path).cell_types
    truth = Cells.read(tmp_path / "truth/mixed/mixed_dish1_0001.tif", types)
    assert truth.labels.shape == raw.size_yx
    assert set(truth.cell_types) <= {"HEK", "N2a"}


@pytest.mark.parametrize("wrong", [{"size": 10}, {"seed": -1}, {"mixed": -2}])
def test_numbers_that_make_no_sense_are_refused(tmp_path, wrong):
    with pytest.raises(files.InputError, match=next(iter(wrong))):
        simulate(tmp_path, **wrong)


def test_a_study_of_other_types_cannot_be_simulated_into(tmp_path):
    Study.create(tmp_path, ("CHO", "HEK"))
    with pytest.raises(files.InputError, match="cannot simulate 'CHO'"):
        simulate(tmp_path)
