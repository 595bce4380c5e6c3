"""Tests of cellclass_tf.maskrcnn.familiarity."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import familiarity

TYPES = ("HEK", "N2a")


def field(
    seed, count=12, *, shift=0.0, size=20, light=100, cell_type="HEK", features=6
):
    """Returns an image of discs with nuclei, and its cells with features of a type."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((200, 40 * count), np.int32)
    image = rng.integers(0, 5, (*labels.shape, 3), np.uint8)
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
    for n in range(count):
        far = np.hypot(y - 100, x - 40 * n - 20)
        labels[far < size / 2] = n + 1
        image[far < size / 2, 1], image[far < size / 4, 2] = light, 200
    cells = Cells.from_labels(labels, TYPES, cell_type)
    mean = np.full(features, 3.0 * (cell_type == "N2a") + shift)
    drawn = rng.normal(mean, 1, (count, features)).astype(np.float32)
    return image, dataclasses.replace(cells, features=drawn)


@pytest.fixture(scope="module")
def known():
    gathered = familiarity.Familiarizer()
    for seed in range(8):
        cell_type = TYPES[seed % 2]
        gathered.add(*field(seed, cell_type=cell_type), f"dish{seed}", 1.0)
    return gathered.fit()


def judged(known, image, cells, scale=1.0):
    return known.judge(familiarity.Look.of(image, cells, scale))


def test_fields_like_the_training_fields_are_accepted(known):
    for seed in range(20, 30):
        found = judged(known, *field(seed, cell_type=TYPES[seed % 2]))
        assert not found.reasons
        assert 0 < found.distance <= known.field_limit
        assert 0 <= found.shift <= known.shift_limit
        assert found.distances.shape == (12,)


def test_cells_with_other_features_are_reported(known):
    (reason,) = judged(known, *field(50, shift=-6.0)).reasons
    assert reason.startswith("cells look unlike the training cells (median distance ")
    assert ", and mean difference " in reason


def test_a_field_whose_cells_all_differ_a_little_is_reported():
    gathered = familiarity.Familiarizer()
    for seed in range(8):
        of = field(seed, 40, cell_type=TYPES[seed % 2], features=24)
        gathered.add(*of, f"dish{seed}", 1.0)
    known = gathered.fit()
    assert not judged(known, *field(40, 40, features=24)).reasons
    # Each cell by itself could be a training cell, but all differ in the same direction.
    found = judged(known, *field(50, 40, shift=-0.4, features=24))
    assert (found.distances < 1).mean() > 0.7
    (reason,) = found.reasons
    assert reason.startswith("cells look unlike the training cells (mean difference ")


def test_a_field_of_both_types_has_no_shift(known):
    image, cells = field(50, 40)
    _, others = field(51, 40, cell_type="N2a")
    both = np.where(np.arange(40)[:, None] % 2, cells.features, others.features)
    found = judged(known, image, dataclasses.replace(cells, features=both))
    assert not found.reasons


def test_unusual_size_and_brightness_are_reported_with_the_training_range(known):
    (reason,) = judged(known, *field(50, size=38)).reasons
    assert "the median cell is 38 px wide in the network's input (20 to 20 in" in reason
    # Diameters are measured at the scale of the network's input.
    assert not judged(known, *field(50, size=38), scale=0.53).reasons
    (reason,) = judged(known, *field(50, light=40)).reasons
    assert "cytoplasm in the cells has a grey level of 40 (100 to 100" in reason


def test_nuclei_outside_of_cells_are_reported(known):
    image, cells = field(50)
    few = cells.kept(np.arange(12) < 5)
    (reason,) = judged(known, image, few).reasons
    assert reason == "7 of 12 nuclei are outside of the outlined cells"
    none = judged(known, image, cells.kept(np.zeros(12, bool)))
    assert none.reasons == ("12 of 12 nuclei are outside of the outlined cells",)


def test_nuclei_of_a_large_scan_are_counted_in_a_reduced_one(known):
    image, cells = field(50, size=38)
    large = image.repeat(6, axis=0).repeat(6, axis=1)
    labels = cells.kept(np.arange(12) < 5).labels.repeat(6, axis=0).repeat(6, axis=1)
    some = dataclasses.replace(cells.kept(np.arange(12) < 5), labels=labels)
    look = familiarity.Look.of(large, some, 1 / 6)
    assert (look.nuclei_outside, look.nuclei) == (7, 12)


def test_nuclei_that_the_network_does_not_see_are_not_compared():
    gathered = familiarity.Familiarizer()
    for seed in range(8):
        of = field(seed, cell_type=TYPES[seed % 2])
        gathered.add(*of, f"dish{seed}", 1.0, grayscale=True)
    known = gathered.fit()
    image, cells = field(50)
    image[..., 2] = 0
    few = cells.kept(np.arange(12) < 8)
    for shown, outlined in ((image, cells), field(50), (field(50)[0], few)):
        look = familiarity.Look.of(shown, outlined, 1.0, grayscale=True)
        assert not known.judge(look).reasons


def test_an_empty_field_is_accepted(known):
    image, cells = field(50)
    nothing = cells.kept(np.zeros(12, bool))
    found = judged(known, np.zeros_like(image), nothing)
    assert not found.reasons
    assert found.distances.shape == (0,)


def test_a_type_of_one_dish_is_held_out_by_halves():
    gathered = familiarity.Familiarizer()
    for seed in range(4):
        gathered.add(*field(seed), f"dish{seed}", 1.0)
    gathered.add(*field(9, 40, cell_type="N2a"), "other", 1.0)
    found = gathered.fit()
    # If the whole dish were held out, all of its cells would be unfamiliar.
    assert found.field_limit < 2
    assert found.shift_limit < 2
    assert judged(found, *field(70, shift=20.0)).reasons


def test_a_few_cells_of_another_dish_do_not_tell_what_a_type_looks_like():
    gathered = familiarity.Familiarizer()
    for seed in range(4):
        image, cells = field(seed)
        ids = np.where(np.arange(12) < (seed == 0), 2, 1).astype(np.int32)
        cells = dataclasses.replace(cells, type_ids=ids)
        gathered.add(image, cells, f"dish{seed}", 1.0)
    gathered.add(*field(9, 40, cell_type="N2a"), "other", 1.0)
    assert gathered.fit().shift_limit < 2


def test_one_dish_per_type_gives_no_limit_of_the_shift(tmp_path):
    gathered = familiarity.Familiarizer()
    for number, cell_type in enumerate(TYPES):
        of = field(number, 40, cell_type=cell_type, features=24)
        gathered.add(*of, f"dish{number}", 1.0)
    gathered.fit().write(tmp_path / "familiarity.npz")
    found = familiarity.Familiarity.read(tmp_path / "familiarity.npz")
    assert found.shift_limit == np.inf
    assert not judged(found, *field(50, 40, shift=-0.4, features=24)).reasons
    (reason,) = judged(found, *field(70, shift=20.0, features=24)).reasons
    assert "mean difference" not in reason


def test_the_nearest_training_cells_are_similar(known):
    _, cells = field(60, cell_type="N2a")
    nearest = known.nearest(cells.features, 3)
    assert nearest.shape == (12, 3)
    assert (known.type_ids[nearest] == 2).mean() > 0.9
    assert known.pictures.shape[1:] == (48, 48, 2)


def test_training_fields_without_cells_have_no_influence(known):
    gathered = familiarity.Familiarizer()
    image, cells = field(99)
    nobody = cells.kept(np.zeros(12, bool))
    # A network has no features, of whatever number, without cells.
    nobody = dataclasses.replace(nobody, features=np.zeros((0, 0), np.float32))
    gathered.add(image, nobody, "dish", 1.0)
    for seed in range(8):
        gathered.add(*field(seed, cell_type=TYPES[seed % 2]), f"dish{seed}", 1.0)
    found = gathered.fit()
    assert found.field_limit == known.field_limit
    np.testing.assert_array_equal(found.means, known.means)


def test_few_cells_in_every_training_field_give_no_limit_of_the_median():
    gathered = familiarity.Familiarizer()
    for seed in range(16):
        of = field(seed, 3, cell_type=TYPES[seed % 2])
        gathered.add(*of, f"dish{seed}", 1.0)
    found = gathered.fit()
    assert found.field_limit == np.inf
    assert not judged(found, *field(50)).reasons


def test_too_few_cells_give_no_statistics():
    assert familiarity.Familiarizer().fit() is None
    gathered = familiarity.Familiarizer()
    gathered.add(*field(0, 3), "dish", 1.0)
    assert gathered.fit() is None


def test_a_file_of_version_0_1_0_is_read_and_limits_single_cells(known, tmp_path):
    content = dataclasses.asdict(known)
    content["mean"] = content.pop("means").mean(axis=0)
    del content["shift_limit"]
    np.savez(tmp_path / "familiarity.npz", **content)
    found = familiarity.Familiarity.read(tmp_path / "familiarity.npz")
    assert found.shift_limit == np.inf
    assert found.means.shape == (1, 6)
    (reason,) = judged(found, *field(50, shift=-6.0)).reasons
    assert "mean difference" not in reason


def test_the_file_can_be_read_back_and_other_files_are_refused(known, tmp_path):
    path = tmp_path / "familiarity.npz"
    known.write(path)
    again = familiarity.Familiarity.read(path)
    for item in dataclasses.fields(known):
        np.testing.assert_array_equal(
            getattr(again, item.name), getattr(known, item.name)
        )
    np.savez(path, means=np.zeros((2, 3)))
    with pytest.raises(InputError, match="Export the model again"):
        familiarity.Familiarity.read(path)
    dataclasses.replace(known, whitening=np.eye(5)).write(path)
    with pytest.raises(InputError, match="arrays do not match"):
        familiarity.Familiarity.read(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(familiarity, "_MOST_BYTES", 1000)
        with pytest.raises(InputError, match="it contains over 1000 bytes"):
            familiarity.Familiarity.read(path)
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="Export the model again"):
        familiarity.Familiarity.read(path)
    np.savez(path, **{n: np.array([{}]) for n in ("means", "whitening", "limit")})
    with pytest.raises(InputError, match="Export the model again"):
        familiarity.Familiarity.read(path)
