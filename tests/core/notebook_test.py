"""Tests of cellclass_tf.core.notebook, and of what notebooks show of cells and fields."""

import base64
import io
import re

import numpy as np
from PIL import Image

from cellclass_tf.core import notebook
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.micrograph import Micrograph


def pictures_in(page):
    found = re.findall(r"base64,([^\"]+)", page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(x)))) for x in found]


def test_texts_are_escaped_and_pictures_are_small():
    page = notebook.page([np.zeros((2000, 1000), np.uint8)], [("<b>", "a & b")])
    assert "&lt;b&gt;" in page
    assert "a &amp; b" in page
    (picture,) = pictures_in(page)
    assert picture.shape == (480, 240)


def test_extreme_values_do_not_reduce_the_contrast_of_the_rest():
    plane = np.tile(np.arange(100, 200, dtype=np.uint16), (100, 1))
    plane[0, 0] = 60000
    shown = notebook.stretched(plane)
    assert shown.dtype == np.uint8
    assert shown[50, 0] == 0
    assert shown[50, 99] == 255
    assert notebook.stretched(np.full((4, 4), 7)).max() == 0


def test_cells_show_their_outlines_and_counts():
    labels = np.zeros((8, 8), np.int32)
    labels[2:4, 2:4], labels[5:7, 5:7] = 1, 2
    page = Cells.from_labels(labels, ("HEK", "N2a"), ["HEK", "unknown"])._repr_html_()
    (picture,) = pictures_in(page)
    assert picture.shape == (8, 8)
    assert picture[1, 2] == 255
    assert picture[0, 0] == 0
    assert "<th>unknown</th><td>1</td><td>50.0 %</td>" in page
    assert "<th>N2a</th><td>0</td>" in page
    assert "<th>all cells</th><td>2</td>" in page
    empty = Cells.from_labels(np.zeros((4, 4), np.int32), ("HEK",))._repr_html_()
    assert "unknown" not in empty
    assert "<th>all cells</th><td>0</td>" in empty


def test_a_micrograph_shows_its_channels_and_metadata():
    pixels = np.arange(2 * 6 * 4, dtype=np.uint16).reshape(2, 6, 4)
    page = Micrograph(pixels, ("DAPI", ""), pixel_size_um=0.325)._repr_html_()
    assert [picture.shape for picture in pictures_in(page)] == [(6, 4)] * 2
    assert "DAPI, channel 1" in page
    assert "4 x 6 px, uint16" in page
    assert "0.325 µm" in page
