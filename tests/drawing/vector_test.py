"""Tests of cellclass_tf.drawing.vector."""

import io
import re
from xml.etree import ElementTree

import pytest
from matplotlib import figure
from PIL import Image

from cellclass_tf.drawing import vector


@pytest.fixture
def page():
    drawn = figure.Figure(figsize=(85 / vector.MM_PER_INCH, 1))
    drawn.text(0.5, 0.5, "HEK 50 µm")
    return drawn


def test_text_stays_text_in_svg(page):
    texts = ElementTree.fromstring(vector.svg_of(page, "a")).iter(
        "{http://www.w3.org/2000/svg}text"
    )
    assert [text.text for text in texts] == ["HEK 50 µm"]


def test_fonts_are_embedded_in_pdf_as_truetype(page):
    content = vector.pdf_of(page)
    assert b"/CIDFontType2" in content
    assert b"/Type3" not in content
    (box,) = re.findall(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", content)
    # 85 mm are 240.94 pt.
    assert float(box[0]) == pytest.approx(240.94, abs=0.01)
    assert float(box[1]) == pytest.approx(72)


def test_png_records_its_resolution(page):
    picture = Image.open(io.BytesIO(vector.png_of(page, 300)))
    assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert picture.size == (1003, 300)


def test_the_same_figure_gives_the_same_bytes(page):
    assert vector.svg_of(page, "a") == vector.svg_of(page, "a")
    assert vector.pdf_of(page) == vector.pdf_of(page)
