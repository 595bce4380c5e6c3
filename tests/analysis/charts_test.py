"""Tests of cellclass_tf.analysis.charts."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from cellclass_tf.analysis import charts
from cellclass_tf.core.model_metadata import Bin
from cellclass_tf.drawing import palette

SVG = "{http://www.w3.org/2000/svg}"
HEK = {
    "share": 0.4,
    "low": 0.3,
    "high": 0.55,
    "corrected": 0.45,
    "corrected_low": 0.25,
    "corrected_high": 0.6,
    "expected": 0.5,
}
N2A = {name: round(1 - share, 6) for name, share in HEK.items()}
NOT_KNOWN = dict.fromkeys(HEK) | {"share": 0.4}


def shares_svg(**types):
    return charts.shares_svg({"types": types})


def texts_of(svg):
    return [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def lines_of(svg, stroke):
    """Returns the (N, 2) points of every path of a colour, as fractions of the axes' box."""
    root = ElementTree.fromstring(svg)
    box = root.find(f".//{SVG}clipPath/{SVG}rect")
    x, y, width, height = (float(box.get(n)) for n in ("x", "y", "width", "height"))
    found = []
    for path in root.iter(f"{SVG}path"):
        if f"stroke: {stroke};" in path.get("style", ""):
            numbers = np.array(re.findall(r"-?[\d.]+", path.get("d")), float)
            points = numbers.reshape(-1, 2) - (x, y + height)
            found.append(points / (width, -height))
    return found


def hex_of(type_id):
    return palette.hex_of(palette.colour_on_white(type_id))


def test_chart_draws_intervals_in_the_colours_of_the_overlays():
    svg = shares_svg(HEK=HEK, N2a=N2A)
    for type_id, told in ((1, HEK), (2, N2A)):
        (corrected,) = lines_of(svg, hex_of(type_id))
        ends = [told["corrected_low"], told["corrected_high"]]
        np.testing.assert_allclose(corrected[:, 0], ends, atol=1e-4)
    counted = lines_of(svg, "#8c8c8c")
    np.testing.assert_allclose(counted[0][:, 0], [0.3, 0.55], atol=1e-4)
    np.testing.assert_allclose(counted[1][:, 0], [0.7, 0.45], atol=1e-4)
    # The first type stands above the second.
    assert counted[0][0, 1] > counted[1][0, 1]
    texts = texts_of(svg)
    assert texts.count("HEK") == 1
    assert texts.count("N2a") == 1
    assert texts.count("as counted") == 2
    assert texts.count("corrected") == 2


def test_missing_estimates_are_not_drawn():
    svg = shares_svg(HEK=NOT_KNOWN)
    assert texts_of(svg).count("as counted") == 1
    assert "corrected" not in texts_of(svg)
    assert not lines_of(svg, hex_of(1))
    assert not lines_of(svg, "#8c8c8c")
    dots = "stroke-dasharray"
    assert dots not in svg
    assert dots in shares_svg(HEK=HEK)


@pytest.mark.parametrize(("share", "side"), [(0.79, "start"), (0.81, "end")])
def test_labels_beside_an_interval_stay_inside_the_chart(share, side):
    svg = shares_svg(HEK=NOT_KNOWN | {"share": share})
    (beside,) = (
        text
        for text in ElementTree.fromstring(svg).iter(f"{SVG}text")
        if text.text == "as counted"
    )
    assert f"text-anchor: {side}" in beside.get("style")


def test_an_outlier_does_not_squeeze_the_histogram():
    values = np.linspace(100, 200, 1000)
    svg = charts.histogram_svg({"HEK": np.append(values, 1e6)}, "area (px)")
    numbers = [float(text) for text in texts_of(svg) if re.fullmatch(r"[\d.]+", text)]
    assert 190 < max(numbers) < 250
    # It is counted in the last bin.
    heights = lines_of(svg, hex_of(1))[0][1:-1, 1]
    assert heights[-1] > 1.1 * np.median(heights)


def test_histograms_show_fractions_whatever_the_number_of_cells():
    few = np.arange(30.0)
    values = {"HEK": few, "N2a": np.repeat(few, 7), "none": np.zeros(0)}
    svg = charts.histogram_svg(values, "area (px)")
    one, other = (lines_of(svg, colour)[0] for colour in (hex_of(1), hex_of(2)))
    np.testing.assert_allclose(one, other)
    # Line styles differ too; a type without cells has no legend entry.
    assert {"HEK", "N2a"} < set(texts_of(svg))
    assert "none" not in texts_of(svg)
    dashed = [line for line in svg.splitlines() if f"stroke: {hex_of(2)};" in line]
    assert dashed
    assert all("stroke-dasharray" in line for line in dashed)


def test_reliability_bins_with_more_calls_have_shorter_intervals():
    bins = [Bin(0.9, 1.0, 0.95, 0.9, 1000), Bin(0.7, 0.9, 0.8, 0.9, 10)]
    many, few = lines_of(charts.reliability_svg(bins), "#808080")
    for line, mean in ((many, 0.95), (few, 0.8)):
        np.testing.assert_allclose(line[:, 0] * 1.02, mean, atol=1e-4)
        assert line[0, 1] * 1.02 < 0.9 < line[1, 1] * 1.02
    # Wilson's interval for 9 of 10 and for 900 of 1000.
    np.testing.assert_allclose(few[:, 1] * 1.02, [0.5958, 0.9821], atol=1e-3)
    np.testing.assert_allclose(many[:, 1] * 1.02, [0.8799, 0.9171], atol=1e-3)


def test_charts_are_reproducible_byte_for_byte():
    first = shares_svg(HEK=HEK)
    assert first == shares_svg(HEK=HEK)
    assert "dc:date" not in first
