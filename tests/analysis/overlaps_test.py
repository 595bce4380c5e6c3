"""Tests of cellclass_tf.analysis.overlaps."""

import dataclasses
import json

import numpy as np
import pytest

from cellclass_tf.analysis import overlaps
from cellclass_tf.analysis.overlaps import Place, Placement, Tile
from cellclass_tf.storage import png
from tests import tiles
from tests.microscopy.formats.czi_test import MOSAIC, stored_tiles

# Stage x and y as columns and rows, with the four signs, and the other way round.
AXES = [(*xy, *signs) for xy in ((1, 0), (0, 1)) for signs in np.ndindex(2, 2)]
AXES = [(x, y, 1 - 2 * sx, 1 - 2 * sy) for x, y, sx, sy in AXES]


def picture(pixels):
    """The merged image of (2, H, W) counts."""
    image = np.zeros((*pixels.shape[1:], 3), np.uint8)
    image[..., 2], image[..., 1] = (pixels // 8).clip(0, 255)
    return image


def made(folder, corners, *, seed=0, axes=AXES[0], off_px=(), areas=None):
    """Tiles of the area; of others where `areas` has another seed for a tile."""
    rng = np.random.default_rng(seed)
    found = []
    for number, corner in enumerate(corners):
        pixels = tiles.area(areas[number] if areas else 0).pixels
        path = folder / f"{number}.png"
        png.write_png(path, picture(tiles.recorded(pixels, corner, rng)))
        off = off_px[number] if len(off_px) else (0, 0)
        found.append(
            Tile(
                str(number),
                path,
                (tiles.TILE_PX, tiles.TILE_PX),
                tiles.PIXEL_SIZE_UM,
                tiles.stage_um(corner, axes, off),
            )
        )
    return found


def relative(placement):
    tops = np.array([place.top_yx for place in placement.places.values()])
    return tops - tops[0]


@pytest.mark.parametrize("axes", AXES)
def test_tiles_are_placed_whatever_the_directions_of_the_stage(tmp_path, axes):
    off_px = np.random.default_rng(1).choice([-3, 3], (4, 2))
    found = overlaps.place_tiles(
        made(tmp_path, tiles.CORNERS, axes=axes, off_px=off_px)
    )
    assert {place.part for place in found.places.values()} == {0}
    assert not found.doubts
    # Positions are off by up to 6 px to each other, places by less than 1 px.
    np.testing.assert_allclose(relative(found), tiles.CORNERS, atol=1)
    # Half of each of two overlaps of 10 % is counted in another tile.
    shares = [found.counted_share(name) for name in found.places]
    np.testing.assert_allclose(shares, 0.95**2, atol=0.01)


def test_the_result_is_the_same_after_it_was_written(tmp_path):
    found = overlaps.place_tiles(made(tmp_path, tiles.CORNERS))
    content = json.loads(json.dumps(found.as_content()))
    assert Placement.parse(content) == dataclasses.replace(found, doubts=[])


@pytest.mark.parametrize("far", [tiles.TILE_PX, 5000])
def test_tiles_far_apart_are_not_compared(tmp_path, far):
    parts = made(tmp_path, tiles.CORNERS[:2])
    moved = tiles.stage_um((0, far))
    (tmp_path / "1.png").unlink()
    found = overlaps.place_tiles(
        [parts[0], dataclasses.replace(parts[1], stage_um=moved)]
    )
    assert found == Placement({})
    assert not found.repeated("0", [(100, 319)]).any()
    assert found.counted_share("0") == 1


def test_without_agreement_nothing_is_covered_and_all_pairs_are_doubts(tmp_path):
    found = overlaps.place_tiles(made(tmp_path, tiles.CORNERS, areas=[0, 1, 2, 3]))
    assert not found.places
    assert {doubt[:2] for doubt in found.doubts} == {
        ("0", "1"),
        ("0", "2"),
        ("1", "3"),
        ("2", "3"),
    }
    for _, _, share, correlation in found.doubts:
        assert share == pytest.approx(0.1)
        assert correlation < overlaps.LEAST_CORRELATION


def test_a_tile_at_a_wrong_position_is_a_doubt_alone(tmp_path):
    found = overlaps.place_tiles(made(tmp_path, tiles.CORNERS, areas=[0, 0, 0, 3]))
    assert {doubt[:2] for doubt in found.doubts} == {("1", "3"), ("2", "3")}
    assert [place.part for place in found.places.values()] == [0, 0, 0, 1]
    assert found.counted_share("3") == 1
    assert found.counted_share("0") < 0.92


def test_empty_images_are_a_doubt_and_not_a_match(tmp_path):
    parts = made(tmp_path, tiles.CORNERS[:2])
    for part in parts:
        png.write_png(part.image, np.full((*part.size_yx, 3), 7, np.uint8))
    found = overlaps.place_tiles(parts)
    assert not found.places
    assert found.doubts == [("0", "1", 0.1, 0.0)]


def test_an_empty_overlap_is_placed_by_the_stage_if_others_agree(tmp_path):
    parts = made(tmp_path, tiles.CORNERS)
    for part, columns in ((2, slice(280, None)), (3, slice(None, 40))):
        image = png.read_png(parts[part].image).copy()
        image[40:, columns] = 20
        png.write_png(parts[part].image, image)
    found = overlaps.place_tiles(parts)
    assert not found.doubts
    np.testing.assert_allclose(relative(found), tiles.CORNERS, atol=1)


def test_what_one_direction_shows_is_not_taken_for_the_other(tmp_path):
    parts = made(tmp_path, tiles.CORNERS)
    # Between the upper and the lower tiles a single cell is left.
    for number, part in enumerate(parts):
        image = png.read_png(part.image).copy()
        image[slice(220, None) if number < 2 else slice(None, 100)] = 20
        if number in (0, 2):
            row = 300 if number == 0 else 12
            image[row - 6 : row + 6, 90:106, 1:] = 200
        png.write_png(part.image, image)
    found = overlaps.place_tiles(parts)
    parts_of = [place.part for place in found.places.values()]
    assert parts_of[0] == parts_of[1] != parts_of[2] == parts_of[3]
    assert [doubt[:2] for doubt in found.doubts] == [("0", "2")]
    shares = [found.counted_share(name) for name in found.places]
    np.testing.assert_allclose(shares, 0.95, atol=0.01)


def test_one_place_that_was_recorded_twice_counts_twice(tmp_path):
    parts = made(tmp_path, [(0, 0), (0, 0), (0, 288)])
    found = overlaps.place_tiles(parts)
    # The first two count, and the third counts against both.
    shares = [found.counted_share(name) for name in found.places]
    np.testing.assert_allclose(shares, 0.95, atol=0.01)


def test_other_sizes_and_swapped_axes(tmp_path):
    rng = np.random.default_rng(0)
    parts = []
    for number, x in enumerate((0, 288)):
        tile = picture(tiles.recorded(tiles.area().pixels, (0, x), rng))[:200]
        png.write_png(tmp_path / f"{number}.png", tile)
        stage = tiles.stage_um((0, x), (0, 1, 1, -1))
        parts.append(
            Tile(str(number), tmp_path / f"{number}.png", (200, 320), 0.65, stage)
        )
    found = overlaps.place_tiles(parts)
    np.testing.assert_allclose(relative(found), [(0, 0), (0, 288)], atol=1)


def test_a_point_counts_in_the_field_whose_middle_is_nearest():
    # Two fields of 100 x 100 px; the second begins at column 80.
    size = (100, 100)
    places = {"a": Place(0, (0, 0), size), "b": Place(0, (0, 80), size)}
    found = Placement(places)
    # The middle of the overlap is column 89.5 of the first, and 9.5 of the second field.
    points = [(50, 79), (50, 89), (50, 90), (50, 99)]
    assert found.repeated("a", points).tolist() == [False, False, True, True]
    points = [(50, 0), (50, 9), (50, 10), (50, 50)]
    assert found.repeated("b", points).tolist() == [True, True, False, False]
    # A tie belongs to the earlier field.
    assert not found.repeated("a", [(50, 89.5)])[0]
    assert found.repeated("b", [(50, 9.5)])[0]
    assert found.repeated("c", [(1, 1)]).tolist() == [False]
    assert found.counted_share("a") == pytest.approx(0.9, abs=0.01)
    apart = Placement(places, [("a", "b", 0.2, 0.1)])
    assert not apart.repeated("a", [(50, 99)])[0]
    others = Placement(places | {"b": Place(1, (0, 80), size)})
    assert not others.repeated("a", [(50, 99)])[0]


def test_every_point_of_a_mosaic_counts_in_exactly_one_tile():
    rng = np.random.default_rng(0)
    size = (100, 120)
    corners = [
        (90 * y + rng.uniform(-3, 3), 105 * x + rng.uniform(-3, 3))
        for y in range(3)
        for x in range(3)
    ]
    found = Placement({str(n): Place(0, top, size) for n, top in enumerate(corners)})
    points = rng.uniform(5, (270, 310), (2000, 2))
    counted, shown = np.zeros(2000, int), np.zeros(2000, bool)
    for number, top in enumerate(corners):
        inside = points - top
        is_inside = ((inside >= -0.5) & (inside < np.array(size) - 0.5)).all(axis=1)
        shown |= is_inside
        counted += is_inside & ~found.repeated(str(number), inside)
    assert shown.mean() > 0.95
    np.testing.assert_array_equal(counted, shown)


def test_tiles_of_a_simulated_camera_share_nothing(assets, tmp_path):
    """In this real CZI every tile shows a part of another picture."""
    stored = stored_tiles(assets / "microscope_files" / "czi" / MOSAIC)
    parts = []
    for scene, number in sorted({key[:2] for key in stored if key[0] == 0}):
        planes = [stored[scene, number, 0, 0, channel][0] for channel in (0, 1)]
        path = tmp_path / f"{number}.png"
        png.write_png(path, picture(np.stack(planes) // 16))
        place = stored[scene, number, 0, 0, 0][1]
        parts.append(
            Tile(str(number), path, (64, 64), 1, (place["X"][0], place["Y"][0]))
        )
    found = overlaps.place_tiles(parts)
    assert not found.places
    assert len(found.doubts) == 13
