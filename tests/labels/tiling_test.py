"""Tests of cellclass_tf.labels.tiling."""

import numpy as np
import pytest

from cellclass_tf.labels import tiling


@pytest.mark.parametrize("shape", [(50, 50), (100, 100), (101, 333), (1000, 257)])
def test_tiles_cover_a_field_and_their_cores_divide_it(shape):
    tiles = tiling.tiles_of(shape, 100, 20)
    owners = np.zeros(shape, int)
    for tile in tiles:
        top, left = tile.corner_yx
        core = np.clip(tile.core_yxyx, 0, [*shape, *shape]).astype(int)
        assert (np.array(tile.corner_yx) + 100 >= np.minimum(core[2:], shape)).all()
        # A cell of up to 40 px whose middle is in the core is whole in the tile.
        assert core[0] == 0 or core[0] - top >= 20
        assert core[1] == 0 or core[1] - left >= 20
        owners[core[0] : core[2], core[1] : core[3]] += 1
    assert (owners == 1).all()


def test_a_tile_owns_its_core_without_its_far_edges():
    tile = tiling.Tile((0, 0), (-np.inf, 10, 20, 30))
    points = np.array([(0, 10), (19.5, 29), (20, 15), (5, 30), (-1, 9)])
    assert tile.owns(points).tolist() == [True, True, False, False, False]
