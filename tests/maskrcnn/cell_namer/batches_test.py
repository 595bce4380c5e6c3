"""Tests of cellclass_tf.maskrcnn.cell_namer.batches."""

import numpy as np

from cellclass_tf.maskrcnn.cell_namer import batches, crops


def examples(counts=(30, 3)):
    """Makes cells whose cytoplasm is 50 for type 0 and 200 for type 1."""
    types = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    size = batches.WINDOW_PX
    pixels = np.zeros((len(types), size, size, 2), np.uint8)
    pixels[..., 0] = np.where(types == 0, 50, 200)[:, None, None]
    labels = np.zeros((len(types), size, size), np.int32)
    labels[:, 38:58, 38:58] = 7
    labels[:, :30, :30] = 3
    pixels[..., 1] = np.where(labels == 7, 100, 10)
    levels = np.full(len(types), 100, np.float32)
    centres = np.full((len(types), 2), size / 2, np.float32)
    windows = crops.Windows(pixels, levels, labels, centres)
    return batches.Examples(windows, np.full(len(types), 7, np.int32), types)


def test_types_are_drawn_equally_often_and_by_seed():
    first, again, other = (
        next(batches.draw_batches(examples(), seed)) for seed in (0, 0, 1)
    )
    seen, types = first
    assert seen.shape == (64, 64, 64, 2)
    assert seen.dtype == np.float32
    assert 20 < types.sum() < 44
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (seen != other[0]).any()


def test_cells_of_other_types_are_pasted_around_the_cell():
    rng = np.random.default_rng(0)
    given = examples()
    chosen, pasted = np.zeros(64, int), np.full(64, 31)
    pixels, levels = batches._composed(given, chosen, pasted, rng)
    assert (levels == 100).all()
    # The cell itself is unchanged, and so are two fifths of the crops.
    assert (pixels[:, 27:37, 27:37, 0] == 50).all()
    changed = (pixels[..., 0] > 60).any(axis=(1, 2))
    assert 5 < changed.sum() < 45


def test_batches_can_be_drawn_from_a_single_type():
    _, types = next(batches.draw_batches(examples((5,)), 0))
    assert not types.any()
