"""Tests of cellclass_tf.drawing.paper."""

from xml.etree import ElementTree

import numpy as np
import pytest

from cellclass_tf.drawing import palette, paper, vector
from cellclass_tf.drawing.caption import LegendEntry
from cellclass_tf.drawing.panels import panels_of

SVG = "{http://www.w3.org/2000/svg}"
RING = np.array([[2, 2], [8, 2], [8, 8], [2, 8], [2, 2]], float)
HOLE = RING / 2 + 2


def svg_of(page):
    return ElementTree.fromstring(vector.svg_of(page, "a"))


def group(root, name):
    (found,) = (g for g in root.iter(f"{SVG}g") if g.get("id") == name)
    return found


def page_of(channels="merged", **options):
    image = np.full((10, 20, 3), 100, np.uint8)
    outlines = [paper.CellOutline("cell_1", [RING, HOLE], palette.PINK)]
    return paper.field_page(
        panels_of(image, channels),
        (10, 20),
        outlines,
        **({"width_mm": 50.8, "line_pt": 0.5} | options),
    )


def test_a_cell_with_a_hole_is_one_path():
    root = svg_of(page_of())
    (path,) = group(root, "panel1_cell_1").iter(f"{SVG}path")
    assert path.get("d").count("M") == path.get("d").lower().count("z") == 2
    assert "stroke-width: 0.5" in path.get("style")
    (halo,) = group(root, "panel1_halo").iter(f"{SVG}path")
    assert "stroke-width: 1.5" in halo.get("style")


def test_the_scale_bar_has_the_length_of_its_label():
    root = svg_of(page_of(bar_px=5, bar_text="10 µm"))
    (bar,) = group(root, "scale_bar").iter(f"{SVG}path")
    numbers = bar.get("d").replace("M", "").replace("L", "").replace("z", "").split()
    x = [float(number) for number in numbers[::2]]
    # 20 px are two inches: 5 px are 36 pt.
    assert max(x) - min(x) == pytest.approx(36)
    assert [text.text for text in root.iter(f"{SVG}text")] == ["10 µm"]


def test_titles_are_above_the_pictures():
    merged, grey = page_of().get_figheight(), page_of("grey").get_figheight()
    assert merged == pytest.approx(1)
    # Two panels of 24.9 mm, half as high, below a title of 4.5 mm.
    assert grey * 25.4 == pytest.approx(24.9 / 2 + 4.5)


def test_a_legend_has_a_row_for_each_entry():
    lines = [
        LegendEntry("HEK (1 cell)", palette.PINK),
        LegendEntry("probability below 0.7 (1 cell)", palette.WHITE, dashed=True),
    ]
    page = paper.legend_page(lines, [LegendEntry("nuclei", (255, 0, 255))], 0.75)
    root = svg_of(page)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts == [*(line.text for line in lines), "nuclei"]
    (sample,) = group(root, lines[1].text).iter(f"{SVG}path")
    assert "stroke-dasharray" in sample.get("style")
