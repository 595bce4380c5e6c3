"""Tests of cellclass_tf.datasets.simulation."""

import numpy as np
import pytest

from cellclass_tf import errors
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import Study
from cellclass_tf.datasets.simulation import simulate
from cellclass_tf.microscopy.readers import read_micrograph


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


def test_files_have_microscope_metadata_and_ground_truth(tmp_path):
    simulate(tmp_path, images_per_type=1, mixed=1, size=128)
    raw = read_micrograph(tmp_path / "raw/mixed/mixed_dish1_0001.ome.tif")
    assert raw.channel_names == ("DAPI", "GFP")
    assert raw.pixel_size_um == 0.325
    assert raw.pixels.dtype == np.uint16
    types = Study.open(tmp_path).cell_types
    truth = Cells.read(tmp_path / "truth/mixed/mixed_dish1_0001.tif", types)
    assert truth.labels.shape == raw.size_yx
    assert set(truth.cell_types) <= {"HEK", "N2a"}


@pytest.mark.parametrize(
    "wrong", [{"size": 10}, {"seed": -1}, {"mixed": -2}, {"dishes": 0}]
)
def test_numbers_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(errors.InputError, match=next(iter(wrong))):
        simulate(tmp_path, **wrong)


def test_a_study_of_other_types_is_refused(tmp_path):
    Study.create(tmp_path, ("CHO", "HEK"))
    with pytest.raises(errors.InputError, match="cannot simulate 'CHO'"):
        simulate(tmp_path)


def test_fields_are_assigned_to_the_dishes_in_turn(tmp_path):
    outcome = simulate(tmp_path, images_per_type=4, mixed=1, size=64, dishes=3)
    names = [name for name in outcome.done if name.startswith("HEK")]
    # Field 4 is the second field of the first dish.
    assert sorted(names) == [
        f"HEK/HEK_dish{dish}_000{number}"
        for dish, number in ((1, 1), (1, 4), (2, 2), (3, 3))
    ]


def test_a_dish_drawn_alone_has_the_same_bytes(tmp_path):
    numbers = {"images_per_type": 3, "mixed": 2, "size": 64, "dishes": 2}
    simulate(tmp_path / "all", **numbers, confounded="stain")
    simulate(
        tmp_path / "some",
        **numbers,
        confounded="stain",
        only=[("N2a", 1), ("mixed", 2)],
    )
    whole, part = tree(tmp_path / "all"), tree(tmp_path / "some")
    drawn = {path for path in part if path.startswith("raw")}
    assert drawn == {
        "raw/N2a/N2a_dish1_0001.ome.tif",
        "raw/N2a/N2a_dish1_0003.ome.tif",
        "raw/mixed/mixed_dish2_0002.ome.tif",
    }
    assert part.items() <= whole.items()


def test_unknown_dishes_are_refused(tmp_path):
    with pytest.raises(errors.InputError, match=r"only: there is no dish \('HEK', 5\)"):
        simulate(tmp_path, size=64, only=[("HEK", 1), ("HEK", 5)])
    assert not (tmp_path / "raw").exists()


def test_a_confounded_lamp_dims_one_pure_culture_and_leaves_mixed_fields(tmp_path):
    numbers = {"images_per_type": 2, "mixed": 2, "size": 128, "dishes": 2}
    simulate(tmp_path / "free", **numbers)
    simulate(tmp_path / "confounded", **numbers, confounded=["illumination"])
    ratios = {"HEK": [], "N2a": [], "mixed": []}
    for path in sorted((tmp_path / "free/raw").rglob("*.tif")):
        same = tmp_path / "confounded" / path.relative_to(tmp_path / "free")
        # The offset of the camera has no effect on a spread.
        free, confounded = (read_micrograph(p).pixels[1].std() for p in (path, same))
        ratios[path.parent.name].append(confounded / free)
    assert ratios["mixed"] == [1, 1]
    # The lamp's strength is 0.65 to 1.05 for the first type, 1.15 to 1.55 for the other.
    assert 0.6 < min(ratios["HEK"]) <= max(ratios["HEK"]) < 1.1
    assert 1.1 < min(ratios["N2a"]) <= max(ratios["N2a"]) < 1.6


def test_confounding_draws_the_pure_fields_of_a_study_again_and_no_others(tmp_path):
    numbers = {"images_per_type": 1, "mixed": 1, "size": 64}
    simulate(tmp_path, **numbers)
    again = simulate(tmp_path, **numbers, confounded=" focus, stain,")
    assert sorted(again.done) == ["HEK/HEK_dish1_0001", "N2a/N2a_dish1_0001"]
    same = simulate(tmp_path, **numbers, confounded=("stain", "focus"))
    assert not same.done


@pytest.mark.parametrize("wrong", ["colour", "stain,colour", ("stain", "colour")])
def test_an_unknown_quality_is_refused(tmp_path, wrong):
    with pytest.raises(errors.InputError, match=r"'colour'.*density, focus, illumin"):
        simulate(tmp_path, confounded=wrong)
