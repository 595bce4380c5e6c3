"""Tests of cellclass_tf.microscopy.contrast_checks."""

import numpy as np
import pytest
import tifffile

from cellclass_tf.core.study import Study
from cellclass_tf.datasets.culture import field, looks
from cellclass_tf.microscopy.conversion import convert
from cellclass_tf.storage import png

NAMES = ("DAPI", "GFP")


@pytest.fixture(scope="module")
def cells():
    """Returns a field with cells, (2, 256, 256) uint16."""
    rng = np.random.default_rng(0)
    dish = looks.Dish.random(rng)
    return field.simulate_field({"HEK": 1}, size_px=256, rng=rng, dish=dish).pixels


def write_raw(path, pixels, names=NAMES):
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"axes": "CYX", "Channel": {"Name": list(names)}}
    tifffile.imwrite(path, pixels, ome=True, metadata=metadata)


def eight_bit(pixels):
    return (pixels // (pixels.max() // 256 + 1)).astype(np.uint8)


def warnings_of(folder, caplog, words):
    caplog.clear()
    assert not convert(folder / "raw", folder / "s").failures
    return [message for message in caplog.messages if words in message]


def rows_of(folder):
    return {row.name: row for row in Study.open(folder / "s").rows()}


def test_files_of_8_and_16_bits_have_contrasts_of_their_own(tmp_path, cells, caplog):
    dish = tmp_path / "raw" / "HEK" / "dish1"
    write_raw(dish / "a.ome.tif", cells)
    alone = warnings_of(tmp_path, caplog, "contrasts")
    assert not alone
    before = rows_of(tmp_path)["a"]
    write_raw(dish / "b.ome.tif", eight_bit(cells))
    (told,) = warnings_of(tmp_path, caplog, "contrasts")
    assert "The images of HEK/dish1 have 2 contrasts" in told
    assert "16 bit (a.ome.tif); 8 bit (b.ome.tif)." in told
    rows = rows_of(tmp_path)
    assert rows["a"] == before
    image = png.read_png(tmp_path / "s" / "images" / rows["b"].image)
    assert (image.max(axis=(0, 1)) == (0, 255, 255)).all()
    # The same holds if both kinds are there at the first conversion.
    assert not convert(tmp_path / "raw", tmp_path / "t").failures
    both = {row.name: row for row in Study.open(tmp_path / "t").rows()}
    assert both["a"].nuclei_limits == before.nuclei_limits
    assert both["b"].nuclei_limits == rows["b"].nuclei_limits
    # A later file of either kind gets the limits of its kind.
    write_raw(dish / "c.ome.tif", cells[:, ::-1] + np.uint16(9))
    write_raw(dish / "d.ome.tif", eight_bit(cells)[:, ::-1] // np.uint8(2))
    warnings_of(tmp_path, caplog, "")
    rows = rows_of(tmp_path)
    assert rows["c"].nuclei_limits == rows["a"].nuclei_limits
    assert rows["d"].nuclei_limits == rows["b"].nuclei_limits


def test_files_that_come_out_black_or_white_are_reported(tmp_path, cells, caplog):
    dish = tmp_path / "raw" / "HEK" / "dish1"
    for name in "ab":
        write_raw(dish / f"{name}.ome.tif", cells)
    write_raw(dish / "none.ome.tif", np.full_like(cells, cells.min()))
    assert not warnings_of(tmp_path, caplog, "share contrast limits")
    before = rows_of(tmp_path)
    scaled = cells.astype(float)
    write_raw(dish / "dark.ome.tif", (scaled / 16).astype(np.uint16) + cells.min())
    top = scaled.max()
    write_raw(dish / "white.ome.tif", (top + scaled).astype(np.uint16))
    dark, white = warnings_of(tmp_path, caplog, "share contrast limits")
    assert "are much darker" in dark
    assert "contrast limits: 1 (dark.ome.tif). A channel is" in dark
    assert "below 15% of the range" in dark
    assert "are much brighter" in white
    assert "contrast limits: 1 (white.ome.tif). More than 5%" in white
    rows = rows_of(tmp_path)
    assert all(rows[name] == row for name, row in before.items())
    assert rows["white"].verdict == "rejected"
    assert "too bright: white share of pixels 100.0% (limit 50.0%)" in (
        rows["white"].reason
    )
    # A contrast for each field fits all of them.
    convert(tmp_path / "raw", tmp_path / "t", contrast="field")
    found = {row.name: row.verdict for row in Study.open(tmp_path / "t").rows()}
    assert found["white"] == found["a"] == "accepted"
