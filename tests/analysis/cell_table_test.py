"""Tests of cell_table."""

import numpy as np
import pytest

from cellclass_tf.analysis import cell_table
from cellclass_tf.core.cells import Cells

TYPES = ("HEK", "N2a")


def _cells():
    """Returns a 3 x 3 square, a 1 x 4 bar at the border, and one pixel of unknown type."""
    labels = np.zeros((8, 10), np.int32)
    labels[2:5, 1:4] = 1
    labels[7, 3:7] = 2
    labels[0, 9] = 3
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0, 0]], np.float32)
    ids = np.array([1, 2, 0], np.int32)
    return Cells(labels, TYPES, ids, np.array([0.5, 1, 1], np.float32), probabilities)


def _image():
    image = np.zeros((8, 10, 3), np.uint8)
    image[..., 1] = 10
    image[2:5, 1:4, 2] = 200
    image[2, 1, 2] = 110
    return image


def test_row_has_the_columns_in_order():
    rows = cell_table.cell_table(_cells(), name="mixed/a")
    assert all(tuple(row) == cell_table.columns(TYPES) for row in rows)
    assert cell_table.columns(TYPES)[:8] == (
        *("image", "cell", "cell_type", "call", "probability"),
        *("p_HEK", "p_N2a", "score"),
    )


def test_values_of_hand_drawn_cells():
    square, bar, dot = cell_table.cell_table(
        _cells(), _image(), name="mixed/a", pixel_size_um=0.5
    )
    assert (square["image"], square["cell"], square["cell_type"]) == (
        "mixed/a",
        1,
        "HEK",
    )
    assert square["probability"] == pytest.approx(0.9)
    assert square["score"] == 0.5
    # Rows 2..4 and columns 1..3 have their middle at (3, 2).
    assert (square["centroid_y_px"], square["centroid_x_px"]) == (3, 2)
    # 9 px of 0.25 µm² each; a circle of 9 px is 2 sqrt(9 / pi) = 3.38514 px wide.
    assert (square["area_px"], square["area_um2"]) == (9, 2.25)
    assert square["equivalent_diameter_px"] == 3.38514
    assert square["eccentricity"] == 0
    assert square["solidity"] == 1
    # Nine pixels are hardly a square to four directions.
    perimeter = square["perimeter_px"] / 2
    assert square["perimeter_um"] == pytest.approx(perimeter, rel=1e-5)
    assert square["feret_diameter_px"] == pytest.approx(np.hypot(3, 2), abs=1e-4)
    assert (square["major_axis_um"], square["minor_axis_um"]) == pytest.approx(
        (square["major_axis_px"] / 2, square["minor_axis_px"] / 2), rel=1e-5
    )
    # 8 pixels of 200 and one of 110: 1710 / 9.
    assert (square["mean_cytoplasm_grey"], square["mean_nuclei_grey"]) == (10, 190)
    assert square["equivalent_diameter_um"] == 1.69257
    # The bar lies along x, and is 4 px away from the square's middle at least.
    assert bar["orientation_deg"] == 0
    assert [row["neighbours"] for row in (square, bar, dot)] == [1, 1, 0]
    assert (square["neighbours_HEK"], square["neighbours_N2a"]) == (0, 1)
    assert square["nearest_px"] == pytest.approx(np.hypot(4, 2.5), abs=1e-4)
    assert square["nearest_um"] == pytest.approx(square["nearest_px"] / 2, rel=1e-5)
    assert [row["on_border"] for row in (square, bar, dot)] == [False, True, True]
    # The bar lies on the lower edge, the dot on the upper and the right one.
    assert [row["in_frame"] for row in (square, bar, dot)] == [True, False, True]


def test_shapes_of_a_disc_and_an_ellipse_are_those_of_geometry():
    y, x = np.mgrid[:120, :200]
    labels = np.int32(np.hypot(y - 60, x - 50) < 40)
    labels[((y - 60) / 20) ** 2 + ((x - 145) / 45) ** 2 < 1] = 2
    disc, ellipse = cell_table.cell_table(Cells.from_labels(labels, TYPES), name="a")
    assert disc["perimeter_px"] == pytest.approx(2 * np.pi * 40, rel=0.015)
    assert disc["circularity"] == pytest.approx(1, abs=0.03)
    assert disc["feret_diameter_px"] == pytest.approx(80, abs=1)
    axes = ellipse["major_axis_px"], ellipse["minor_axis_px"]
    assert axes == pytest.approx((90, 40), rel=0.02)
    assert ellipse["feret_diameter_px"] == pytest.approx(90, abs=0.8)
    assert ellipse["circularity"] < 0.8


def test_rows_have_the_dish_scene_and_time_of_their_field():
    place = {"group": "d1", "scene": "abc/0", "time": 3}
    for row in cell_table.cell_table(_cells(), name="a", **place):
        assert {key: row[key] for key in place} == place


def test_nuclei_are_counted_and_added_up():
    y, x = np.mgrid[:80, :160]
    labels = np.int32(np.hypot(y - 40, x - 40) < 30)
    labels[np.hypot(y - 40, x - 115) < 30] = 2
    image = np.zeros((80, 160, 3), np.uint8)
    image[..., 2] = 10 + np.random.default_rng(0).integers(0, 4, (80, 160))
    for middle in (28, 54, 115):
        image[np.hypot(y - 40, x - middle) < 9, 2] = 200
    cells = Cells.from_labels(labels, TYPES, "HEK")
    two, one = cell_table.cell_table(cells, image, name="a", pixel_size_um=0.5)
    assert (two["nuclei"], one["nuclei"]) == (2, 1)
    assert two["nuclei_area_px"] == pytest.approx(2 * np.pi * 81, rel=0.06)
    assert one["nuclei_area_px"] == one["nucleus_area_px"]
    assert two["nuclei_area_um2"] == pytest.approx(two["nuclei_area_px"] / 4, rel=1e-5)
    dark = cell_table.cell_table(cells, np.zeros_like(image), name="a")[0]
    assert dark["nuclei"] is None
    assert dark["nuclei_area_px"] == 0


def test_a_cell_that_rises_to_the_right_has_a_positive_angle():
    labels = np.flipud(np.eye(9, dtype=np.int32))
    (row,) = cell_table.cell_table(Cells.from_labels(labels, TYPES), name="a")
    assert row["orientation_deg"] == pytest.approx(45, abs=1e-3)


def test_unknown_values_are_none():
    row = cell_table.cell_table(_cells(), name="a")[2]
    assert row["cell_type"] == "unknown"
    assert row["probability"] is None
    assert row["area_um2"] is None
    assert row["mean_cytoplasm_grey"] is None
    assert row["mean_nuclei_grey"] is None
    assert row["nucleus_area_px"] is None
    assert row["equivalent_diameter_um"] is None


def test_a_call_below_the_chosen_probability_is_uncertain():
    # N2a's probability is 0.6, and that of the unknown cell is none.
    for limit, calls in ((0.5, ["HEK", "N2a", "unknown"]), (0.7, ["HEK", "uncertain"])):
        rows = cell_table.cell_table(_cells(), name="a", min_probability=limit)
        assert [row["call"] for row in rows][: len(calls)] == calls
        assert [row["cell_type"] for row in rows] == ["HEK", "N2a", "unknown"]
    assert (
        cell_table.count_row(_cells(), name="a", min_probability=0.5)["uncertain"] == 0
    )


def test_field_without_cells_has_no_rows():
    cells = Cells.from_labels(np.zeros((4, 5), np.int32), TYPES)
    assert cell_table.cell_table(cells, np.zeros((4, 5, 3), np.uint8), name="a") == []
    row = cell_table.count_row(cells, name="a")
    assert row["cells"] == 0
    assert row["share_HEK"] is None


def test_image_of_another_size_is_refused():
    with pytest.raises(
        ValueError, match=r"HEK/a: expected .*\(8, 10, 3\).*\(4, 5, 3\)"
    ):
        cell_table.cell_table(_cells(), np.zeros((4, 5, 3), np.uint8), name="HEK/a")


def test_counts_and_shares():
    row = cell_table.count_row(_cells(), name="mixed/a")
    assert tuple(row) == cell_table.count_columns(TYPES)
    # One cell each; N2a's 0.6 is below 0.7; shares leave the unknown cell out.
    assert list(row.values()) == ["mixed/a", "", "", 0, 80, 3, 1, 1, 1, 1, 0, 0.5, 0.5]


def test_cells_that_count_in_another_tile_are_taken_out_of_a_row():
    row = cell_table.count_row(_cells(), name="mixed/a", group="dish 1")
    table = cell_table.cell_table(_cells(), name="mixed/a")
    assert [cell["call"] for cell in table] == ["HEK", "uncertain", "unknown"]
    less = cell_table.without_repeated(row, table[1:], TYPES, 0.25)
    assert tuple(less) == tuple(row)
    # Of 80 px a quarter counts, and only the cell of HEK.
    assert list(less.values())[4:] == [20, 1, 1, 0, 0, 0, 2, 1.0, 0.0]
    assert less["group"] == "dish 1"
    none = cell_table.without_repeated(row, table, TYPES, 0.0)
    assert list(none.values())[4:] == [0, 0, 0, 0, 0, 0, 3, None, None]
