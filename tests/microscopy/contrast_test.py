"""Tests of cellclass_tf.microscopy.contrast."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf.core.study import ImageRow
from cellclass_tf.microscopy import contrast


def key(group, nuclei="DAPI"):
    return contrast.Key(group, nuclei, "GFP", "")


def counts_of(*values):
    """Returns a histogram in which both channels have these values."""
    return np.stack([np.bincount(values, minlength=1 << 16)] * 2)


def test_limits_of_a_group_come_from_all_its_histograms_and_no_others(tmp_path):
    dark, bright = counts_of(*[10] * 100), counts_of(*[900] * 100)
    contrast.write_histograms(tmp_path / "a.npz", [dark, bright])
    contrast.write_histograms(tmp_path / "b.npz", [bright])
    found = contrast.measure_limits(
        [
            (key("dish1"), tmp_path / "a.npz", 0),
            (key("dish1"), tmp_path / "b.npz", 0),
            (key("dish1", "Hoechst"), tmp_path / "a.npz", 1),
        ]
    )
    assert found[key("dish1")] == ((10, 900), (10, 900))
    # All pixels are 900, so that white is one above black.
    assert found[key("dish1", "Hoechst")] == ((900, 901), (900, 901))


def test_histograms_are_stored_without_values_above_the_brightest(tmp_path):
    contrast.write_histograms(tmp_path / "a.npz", [counts_of(3, 4095)])
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["0"].shape == (2, 4096)


def test_colour_images_have_no_limits_in_raw_counts():
    row = ImageRow("a.png", "mixed", contrast="field", nuclei_limits="3-900")
    assert contrast.limits_of(row) is None
    row = dataclasses.replace(row, cytoplasm_limits="5.5-60")
    assert contrast.limits_of(row) == ((3, 900), (5.5, 60))
    assert contrast.limits_of(dataclasses.replace(row, contrast="kept")) is None


def test_limits_of_groups_are_read_from_the_manifest():
    shared = ImageRow(
        "HEK/a.png",
        "HEK",
        z="best:3",
        nuclei_channel="DAPI",
        cytoplasm_channel="GFP",
        contrast_group="dish1",
        contrast="group",
        nuclei_limits=contrast.limits_text((12.0, 4095.0)),
        cytoplasm_limits=contrast.limits_text((0.0, 65535.0)),
    )
    own = ImageRow("HEK/b.png", "HEK", contrast_group="dish2", contrast="field")
    sixteen = contrast.Key("dish1", "DAPI", "GFP", "best", 16)
    eight = sixteen._replace(bits=8)
    known = {sixteen: ((12, 4095), (0, 65535))}
    assert contrast.known_limits([shared, own]) == known
    # Limits up to 255 are those of 8 bits, unless they are all that there are.
    limits = ((3, 200), (5, 256))
    dark = dataclasses.replace(
        shared,
        nuclei_limits=contrast.limits_text(limits[0]),
        cytoplasm_limits=contrast.limits_text(limits[1]),
    )
    assert contrast.known_limits([dark]) == {sixteen: limits, eight: limits}
    for rows in ([shared, dark], [dark, shared]):
        assert contrast.known_limits(rows) == {**known, eight: limits}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("c:1/2 - HEK_01.czi", "c:1"),
        ("c:2/3 - EmbryoTorax2D-HR #1", "c:2"),
        ("c:1/2 z:3/9 t:1/1 - a - b.czi", "c:1"),
        ("w1 z:1/5 - a.nd2", "w1"),
        ("w1 c:1/1 - a.nd2", "w1 c:1"),
        ("DAPI - 1", "DAPI - 1"),
        ("c:1/2", "c:1/2"),
        ("", ""),
    ],
)
def test_the_title_of_a_file_is_no_part_of_its_channel(name, expected):
    assert contrast.without_title(name) == expected


def test_limits_that_depended_on_titles_are_measured_again():
    rows = [
        ImageRow(
            f"HEK/{number}.png",
            "HEK",
            nuclei_channel=f"c:1/2 - {number}.czi",
            cytoplasm_channel=f"c:2/2 - {number}.czi",
            contrast_group="dish1",
            contrast="group",
            nuclei_limits=f"0-{limit}",
            cytoplasm_limits=f"0-{limit}",
        )
        for number, limit in enumerate((900, 500, 500))
    ]
    assert not contrast.known_limits(rows)
    key = contrast.Key("dish1", "c:1", "c:2", "", 16)
    assert contrast.known_limits(rows[1:]) == {key: ((0, 500), (0, 500))}
