"""Tests of cellclass_tf.drawing.caption."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cellclass_tf.drawing import caption

RED, BLUE = (255, 0, 0), (0, 0, 255)
# Below a picture of this width text is 20 px high, a line 32 px, and the edge 10 px.
PICTURE = np.zeros((4, 880, 3), np.uint8)


def runs_of(strip, colour):
    """Returns the (start, stop) columns of a colour, in the first row that has it."""
    found = (strip == colour).all(axis=-1)
    row = found[found.any(axis=1).argmax()]
    return np.flatnonzero(np.diff(row, prepend=False, append=False)).reshape(-1, 2)


def inked(strip):
    """Returns (W,) bool: the columns that are not background in every row."""
    return (strip != caption.BACKGROUND).any(axis=(0, 2))


def test_a_name_that_is_too_long_loses_its_start():
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    pen.font = caption.font(20)
    name = "HEK/" + "".join(map(str, range(30)))
    cut = caption.fit_text(pen, name, 200)
    rest = cut.removeprefix("…")
    assert cut == "…" + rest
    assert name.endswith(rest)
    # One letter more would be too long.
    assert pen.textlength(cut) <= 200
    assert pen.textlength("…" + name[-len(rest) - 1 :]) > 200
    assert caption.fit_text(pen, name, pen.textlength(name)) == name


def test_a_long_name_does_not_cover_the_scale_bar():
    # 880 px x 0.5 µm is 440 µm; a fifth is 88, so 50 µm, which is 100 px.
    bare = caption.draw(PICTURE, "", [], pixel_size_um=0.5)
    named = caption.draw(PICTURE, "n" * 300, [], pixel_size_um=0.5)
    assert runs_of(bare[21:22], caption.INK)[-1].tolist() == [760, 860]
    start = int(inked(bare).argmax())
    np.testing.assert_array_equal(named[:, start:], bare[:, start:])
    # The name ends less than two letters before it.
    gap = start - int(np.flatnonzero(inked(named[:, :start]))[-1])
    assert 5 < gap < 40


def test_without_a_pixel_size_there_is_no_scale_bar():
    strip = caption.draw(PICTURE, "", [])
    assert strip.shape == (42, 880, 3)
    assert strip.dtype == np.uint8
    assert not inked(strip).any()


def test_entries_that_do_not_fit_continue_in_another_row():
    texts = ["a" * 24, "b" * 24, "c" * 24]
    one = caption.draw(PICTURE, "", [caption.LegendEntry(texts[0], RED)])
    many = [caption.LegendEntry(text, RED) for text in texts[:2]]
    both = caption.draw(PICTURE, "", many)
    three = caption.draw(PICTURE, "", [*many, caption.LegendEntry(texts[2], BLUE)])
    # Two of about 360 px stand side by side, and the third below the first.
    assert len(one) == len(both) == 42 + 32
    assert len(three) == 42 + 2 * 32
    assert len(runs_of(one, RED)) == 1
    assert len(runs_of(both, RED)) == 2
    assert not (three[:74] == BLUE).all(axis=-1).any()
    assert runs_of(three, BLUE)[0, 0] == runs_of(three, RED)[0, 0] == 20


@pytest.mark.parametrize(("dashed", "count"), [(False, 1), (True, 3)])
def test_the_sample_of_a_dashed_entry_has_gaps(dashed, count):
    entry = caption.LegendEntry("uncertain", RED, dashed)
    runs = runs_of(caption.draw(PICTURE, "", [entry]), RED)
    assert len(runs) == count
    # Both kinds are as long.
    assert (runs[0, 0], runs[-1, 1]) == (20, 53)


def test_a_title_is_centred():
    strip = caption.title(880, "truth")
    rows, columns = np.nonzero((strip != caption.BACKGROUND).any(axis=-1))
    assert strip.shape == (40, 880, 3)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(440, abs=2)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(20, abs=5)


def test_line_breaks_in_names_become_escape_sequences():
    strip = caption.draw(PICTURE, "a\nb", [caption.LegendEntry("HEK\r1", RED)])
    same = caption.draw(PICTURE, "a\\nb", [caption.LegendEntry("HEK\\r1", RED)])
    np.testing.assert_array_equal(strip, same)
