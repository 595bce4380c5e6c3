"""Tests of cellclass_tf.analysis.raw_counts."""

import numpy as np
import pytest

from cellclass_tf.analysis import cell_table, raw_counts
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.microscopy import merge

TYPES = ("HEK", "N2a")


def field(background=200, gain=1.0):
    """Returns raw counts (2, 60, 90) of two cells, 300 and 900 above the background."""
    rng = np.random.default_rng(0)
    labels = np.zeros((60, 90), np.int32)
    labels[10:40, 10:40], labels[15:45, 50:80] = 1, 2
    above = np.array([0, 300, 900])[labels] * gain
    raw = np.stack([above / 2, above]) + background + rng.normal(0, 20, (2, 60, 90))
    cells = Cells.from_labels(labels, TYPES, ["HEK", "N2a"])
    return cells, np.clip(raw, 0, 65535).astype(np.uint16)


def merged(raw, limits):
    micrograph = Micrograph(raw, ("nuclei", "cytoplasm"), None)
    return merge.merge_channels(
        micrograph,
        nuclei=0,
        cytoplasm=1,
        limits=(limits["nuclei"], limits["cytoplasm"]),
    )


def counts_of(cells, image, limits):
    means = {
        channel: [
            image[..., i][cells.labels == k + 1].mean() for k in range(len(cells))
        ]
        for i, channel in enumerate(raw_counts.CHANNELS, start=1)
    }
    return raw_counts.counts_of(cells, image, limits, means)


@pytest.mark.parametrize(("background", "gain"), [(200, 1.0), (1000, 1.0), (200, 3.0)])
@pytest.mark.parametrize("high", [2500.0, 6000.0])
def test_counts_do_not_depend_on_contrast_or_background(background, gain, high):
    cells, raw = field(background, gain)
    limits = {"nuclei": (100.0, high), "cytoplasm": (50.0, high + 2000)}
    found = counts_of(cells, merged(raw, limits), limits)
    # Grey levels are 10 to 32 counts apart.
    assert found["mean_nuclei_counts"] == pytest.approx(
        [150 * gain, 450 * gain], abs=12
    )
    assert found["mean_cytoplasm_counts"] == pytest.approx(
        [300 * gain, 900 * gain], abs=12
    )
    assert found["integrated_nuclei_counts"][1] == pytest.approx(
        900 * found["mean_nuclei_counts"][1]
    )


def test_without_background_the_darkest_pixels_are_taken():
    labels = np.ones((50, 50), np.int32)
    image = np.full((50, 50, 3), 100, np.uint8)
    image[:2] = 10
    cells = Cells.from_labels(labels, TYPES, "HEK")
    limits = dict.fromkeys(raw_counts.CHANNELS, (0.0, 255.0))
    found = counts_of(cells, image, limits)
    assert found["mean_nuclei_counts"][0] == pytest.approx(
        image[..., 2].mean() - 10, abs=0.5
    )


def test_unknown_values_are_none():
    cells, _ = field()
    image = np.zeros((60, 90, 3), np.uint8)
    for found in (
        raw_counts.counts_of(cells, None, None, {}),
        raw_counts.counts_of(cells, image, None, {}),
    ):
        assert tuple(found) == raw_counts.columns()
        assert found["mean_nuclei_counts"] == [None, None]


def test_the_cell_table_has_raw_counts():
    cells, raw = field()
    limits = {"nuclei": (100.0, 2500.0), "cytoplasm": (100.0, 2500.0)}
    image = merged(raw, limits)
    (row, _) = cell_table.cell_table(cells, image, name="a", limits=limits)
    assert row["mean_cytoplasm_counts"] == pytest.approx(300, abs=12)
    assert row["integrated_cytoplasm_counts"] == pytest.approx(
        900 * row["mean_cytoplasm_counts"], rel=1e-4
    )
