"""Tests of cellclass_tf.splits.near_duplicates."""

import numpy as np
import pytest

from cellclass_tf.core.manifest import ImageRow
from cellclass_tf.splits import near_duplicates


def bits_between(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def row_of(name, **columns):
    return ImageRow(f"HEK/{name}.png", "HEK", **columns)


def hash_of(rng, flipped=0, of=None):
    """Returns a random hash, or one that differs from another in this number of bits."""
    number = int.from_bytes(rng.bytes(32), "big") if of is None else int(of, 16)
    for place in rng.choice(near_duplicates.BITS, flipped, replace=False):
        number ^= 1 << int(place)
    return f"{number:064x}"


def test_different_scenes_differ_in_half_of_the_bits(draw_scene):
    hashes = [near_duplicates.scene_hash(draw_scene(seed, 128)) for seed in range(40)]
    assert all(len(text) == 64 for text in hashes)
    bits = [bits_between(a, b) for n, a in enumerate(hashes) for b in hashes[:n]]
    assert 120 < np.mean(bits) < 136
    assert min(bits) > near_duplicates.LIMIT


def noisy(image, rng):
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255)


def brighter(image, rng):
    return np.clip(image * 1.5, 0, 255)


def drifted(image, rng):
    # 2 % of the width.
    return np.roll(image, 3, axis=1)


def in_light_that_falls_off(image, rng):
    rows, columns = np.mgrid[-1:1:128j, -1:1:128j]
    return image * (1 - 0.4 * np.hypot(rows, columns) / np.sqrt(2))[..., None]


def smaller(image, rng):
    return image[::2, ::2]


@pytest.mark.parametrize(
    "retake", [noisy, brighter, drifted, in_light_that_falls_off, smaller]
)
def test_a_second_image_of_a_scene_is_near(draw_scene, retake):
    rng = np.random.default_rng(0)
    for seed in range(5):
        image = draw_scene(seed, 128)
        again = near_duplicates.scene_hash(retake(image, rng).astype(np.uint8))
        assert (
            bits_between(near_duplicates.scene_hash(image), again)
            <= near_duplicates.LIMIT
        )


def test_uneven_light_does_not_make_fields_alike(draw_scene):
    rng = np.random.default_rng(0)
    hashes = []
    for seed in range(30):
        dim = draw_scene(seed, 128) // 2 + 60
        lit = in_light_that_falls_off(dim, rng).astype(np.uint8)
        hashes.append(near_duplicates.scene_hash(lit))
    bits = [bits_between(a, b) for n, a in enumerate(hashes) for b in hashes[:n]]
    assert min(bits) > near_duplicates.LIMIT


@pytest.mark.parametrize("cells", [0, 1, 3])
def test_nearly_empty_fields_have_no_hash(draw_scene, cells):
    rng = np.random.default_rng(0)
    for seed in range(10):
        image = draw_scene(seed, 128, cells)
        noise = rng.integers(0, 6, image.shape, np.uint8)
        assert near_duplicates.scene_hash(image + noise) == ""
    assert near_duplicates.scene_hash(np.zeros((40, 31, 3), np.uint8)) == ""


@pytest.mark.parametrize("channels", [(1,), (2,), (1, 2)])
def test_scenes_are_distinguished_by_one_channel_or_two_equal_ones(
    draw_scene, channels
):
    hashes = []
    for seed in range(40):
        image = np.zeros((128, 128, 3), np.uint8)
        image[..., channels] = draw_scene(seed, 128)[..., 1:2]
        hashes.append(near_duplicates.scene_hash(image))
    bits = [bits_between(a, b) for n, a in enumerate(hashes) for b in hashes[:n]]
    assert 120 < np.mean(bits) < 136
    assert min(bits) > near_duplicates.LIMIT


def test_rows_of_one_content_or_file_or_scene_are_found():
    rng = np.random.default_rng(0)
    one = hash_of(rng)
    rows = [
        row_of("a", image_sha256="1", scene_hash=one),
        row_of("b", image_sha256="1", scene_hash=one),
        row_of("c", raw_sha256="2", scene=0, time=0),
        row_of("d", raw_sha256="2", scene=0, time=1),
        # Another well of the file.
        row_of("d1", raw_sha256="2", scene=1),
        # Each channel has a file.
        row_of("d2", raw_sha256="3|2"),
        row_of("e", scene_hash=hash_of(rng, 64, of=one)),
        row_of("f", scene_hash=hash_of(rng)),
        row_of("g"),
        row_of("h"),
    ]
    found = [
        (a.name, b.name, why)
        for a, b, why in near_duplicates.find_near_duplicates(rows)
    ]
    # 64 of 256 bits differ, the largest number for one scene.
    assert found == [
        ("a", "b", "the same bytes"),
        ("c", "d", "the same scene of a raw file"),
        ("c", "d2", "the same scene of a raw file"),
        ("a", "e", "alike in 192 of 256 bits"),
        ("b", "e", "alike in 192 of 256 bits"),
    ]
    assert len(near_duplicates.find_near_duplicates(rows, limit=63)) == 3


def test_only_rows_of_different_groups_are_compared():
    one = hash_of(np.random.default_rng(0))
    rows = [
        row_of(name, group=group, scene_hash=one, raw_sha256="1")
        for name, group in zip("abcd", ("x", "x", "y", "z"), strict=True)
    ]
    found = near_duplicates.find_near_duplicates(rows, lambda row: row.group)
    # Enough pairs to connect the groups: y and z with x by the file, z with y by the scene.
    assert [(a.name, b.name) for a, b, _ in found] == [
        ("a", "c"),
        ("a", "d"),
        ("c", "d"),
    ]


def test_the_error_for_an_invalid_hash_names_its_image():
    with pytest.raises(ValueError, match=r"HEK/a\.png: expected 64 hex.*got 'xyz'"):
        near_duplicates.find_near_duplicates(
            [row_of("a", scene_hash="xyz"), row_of("b")]
        )


def test_the_one_pair_in_a_large_study_is_found():
    rng = np.random.default_rng(0)
    rows = [row_of(str(n), scene_hash=hash_of(rng)) for n in range(5000)]
    rows.append(row_of("again", scene_hash=hash_of(rng, 40, of=rows[1234].scene_hash)))
    ((one, other, _),) = near_duplicates.find_near_duplicates(rows)
    assert (one.name, other.name) == ("1234", "again")


TURNS = {
    "left to right": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "by 90": np.rot90,
    "by 180": lambda image: np.rot90(image, 2),
    "by 270": lambda image: np.rot90(image, 3),
    "transposed": lambda image: image.transpose(1, 0, 2),
    "about the other diagonal": lambda image: np.rot90(image, 2).transpose(1, 0, 2),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("channels", ["both", "cytoplasm alone"])
@pytest.mark.parametrize("retake", [noisy, brighter])
def test_mirrored_and_rotated_copies_are_found(draw_scene, turn, channels, retake):
    rng = np.random.default_rng(0)
    images = [draw_scene(seed, 96) for seed in range(8)]
    if channels != "both":
        images = [image * np.array([0, 1, 0], np.uint8) for image in images]
    rows = [
        row_of(str(n), scene_hash=near_duplicates.scene_hash(image))
        for n, image in enumerate(images)
    ]
    copy = retake(TURNS[turn](images[5]).astype(float), rng).astype(np.uint8)
    rows.append(row_of("copy", scene_hash=near_duplicates.scene_hash(copy)))
    (found,) = near_duplicates.find_near_duplicates(rows)
    assert (found.one.name, found.other.name) == ("5", "copy")
    assert found.why.endswith("of 256 bits, mirrored or turned")


def test_rotated_fields_of_another_shape_are_found(draw_scene):
    image = draw_scene(0, 128)[:90]
    rows = [
        row_of(
            str(n), scene_hash=near_duplicates.scene_hash(np.ascontiguousarray(view))
        )
        for n, view in enumerate((image, np.rot90(image), image[:, ::-1]))
    ]
    found = near_duplicates.find_near_duplicates(rows)
    assert {row.other.name for row in found} == {"1", "2"}


def test_a_view_is_recognized_in_another_contrast_but_not_rotated(draw_scene):
    rng = np.random.default_rng(0)
    for seed in range(10):
        image = draw_scene(seed, 128)
        for retake in (noisy, brighter, in_light_that_falls_off):
            again = retake(image.astype(float), rng).astype(np.uint8)
            assert near_duplicates.is_same_view(image, again)
        # Uneven illumination looks the same when it is mirrored.
        few = np.minimum(draw_scene(seed, 128, cells=6) // 2 + 100.0, 255)
        lit = in_light_that_falls_off(in_light_that_falls_off(few, rng), rng)
        lit = lit.astype(np.uint8)
        for turn in TURNS.values():
            other = np.ascontiguousarray(turn(image))
            assert not near_duplicates.is_same_view(image, other)
            other = np.ascontiguousarray(turn(lit))
            assert not near_duplicates.is_same_view(lit, other)
        assert not near_duplicates.is_same_view(image, draw_scene(seed + 100, 128))
        assert not near_duplicates.is_same_view(image, image[:64])
    empty = np.zeros((64, 64, 3), np.uint8)
    assert near_duplicates.is_same_view(empty, empty)
    assert not near_duplicates.is_same_view(empty, draw_scene(0, 64))
