"""Tests of cellclass_tf.core.manifest."""

import dataclasses

import pytest

from cellclass_tf.core.manifest import (
    ACCEPTED,
    COLUMNS,
    PARTS,
    REJECTED,
    ImageRow,
    columns_of,
    costs_of_rejection,
    image_name,
    row_from_strings,
    uneven_rejection,
)

ROW = ImageRow("HEK/a.b.png", "HEK", cells=7, pixel_size_um=0.325, corrected=True)


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("a.tif", "a"),
        ("a.ome.TIFF", "a"),
        ("dish 1 (µ).czi", "dish_1_µ_"),
        ("well.A01.nd2", "well.A01"),
        ("..x.png", "x"),
        ("%%%.png", "_"),
        ("n" * 300 + ".png", "n" * 91 + "_230b0774"),
    ],
)
def test_image_names_are_made_of_file_names(file_name, name):
    assert image_name(file_name) == name


def test_only_the_given_endings_are_removed():
    assert image_name("plate.1.tif", [".tif"]) == "plate.1"
    assert image_name("plate.1", [".tif"]) == "plate.1"
    assert image_name("plate.1") == "plate"
    # Windows reserves these names.
    assert image_name("con.tif") == "_con"
    assert image_name("NUL.ome.tif", [".tif"]) == "_NUL"


@pytest.mark.parametrize("text", ["Mixed", "MIXED", "mixed "])
def test_mixed_is_recognized_in_upper_and_lower_case(text):
    row = row_from_strings({"image": "mixed/a.png", "cell_type": text})
    assert row.cell_type == "mixed"


def test_a_row_survives_a_round_trip_through_strings():
    strings = {
        name: "" if value is None else str(value)
        for name, value in dataclasses.asdict(ROW).items()
    }
    assert set(strings) == set(COLUMNS)
    assert row_from_strings(strings) == ROW
    assert (ROW.stem, ROW.name) == ("HEK/a.b", "a.b")


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        *(("corrected", t, True) for t in ("WAHR", "VRAI", "ja", "1.0", "X", "True")),
        *(("corrected", t, False) for t in ("FALSCH", "FAUX", "nein", "0,0", "", "No")),
        ("verdict", "Rejected", "rejected"),
        ("verdict", " ACCEPTED ", "accepted"),
        ("split", "Validation", "validation"),
        ("cells", "8.0", 8),
        ("cells", "8,0", 8),
        ("scene", "", 0),
        ("pixel_size_um", "0,325", 0.325),
        ("by_hand", "3,17-20", "3,17-20"),
        ("nuclei_limits", "90-1e+04", "90-1e+04"),
    ],
)
def test_values_that_a_spreadsheet_rewrote_are_understood(column, text, value):
    line = {"image": "HEK/a.png", "cell_type": "HEK", column: text}
    assert getattr(row_from_strings(line), column) == value


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        ("corrected", "maybe", "true or false"),
        ("verdict", "good", "accepted, rejected, or nothing"),
        ("split", "training", "train, validation, test, mixed"),
        ("cells", "8.5", "a whole number"),
        ("cells", "many", "a number"),
        ("pixel_size_um", "0.325 µm", "a number"),
        *(("pixel_size_um", t, "the width of a pixel") for t in ("325", "0", "nan")),
        ("nuclei_limits", "Sep 90", "two numbers such as 90-4000"),
    ],
)
def test_invalid_values_are_errors_and_never_become_defaults(column, text, expected):
    line = {"image": "HEK/a.png", "cell_type": "HEK", column: text}
    with pytest.raises(ValueError, match=rf"column {column}: expected {expected}") as e:
        row_from_strings(line)
    assert repr(text) in str(e.value)


@pytest.mark.parametrize("line", [{}, {"image": "a.png"}])
def test_a_row_needs_an_image_and_a_type(line):
    with pytest.raises(ValueError, match="image and cell_type"):
        row_from_strings(line)


def test_every_column_has_one_part_and_columns_to_edit_come_first():
    owned = [name for part in PARTS for name in columns_of(part)]
    assert sorted(owned) == sorted(COLUMNS)
    assert COLUMNS[:7] == (
        "image",
        "cell_type",
        "group",
        "verdict",
        "reason",
        "corrected",
        "split",
    )


def test_the_cost_of_each_reason_is_counted_in_fields_and_cells():
    rejected = dataclasses.replace(ROW, verdict="rejected", reason="glow: 1; debris: 2")
    other = dataclasses.replace(rejected, reason="glow", cells=None, nuclei_estimate=30)
    by_hand = dataclasses.replace(rejected, reason="")
    costs = costs_of_rejection([ROW, rejected, other, by_hand])
    assert costs == {"by hand": (1, 7), "debris": (1, 7), "glow": (2, 37)}


def _judged(**counts):
    """Returns rows by type, with the given numbers of accepted and rejected images."""
    return [
        ImageRow(f"{name}/{i}.png", name, verdict=REJECTED if i < bad else ACCEPTED)
        for name, (bad, total) in counts.items()
        for i in range(total)
    ]


def test_unequal_rejection_of_types_is_reported():
    told = uneven_rejection(_judged(HEK=(16, 21), N2a=(3, 20)))
    assert "16 of 21 HEK, 3 of 20 N2a; p = 0.00013" in told
    # With three types, it is enough that one differs.
    assert "p = " in uneven_rejection(_judged(A=(15, 20), B=(3, 20), C=(2, 20)))


@pytest.mark.parametrize(
    "counts",
    [
        {"HEK": (3, 20), "N2a": (6, 20)},
        {"HEK": (2, 2), "N2a": (0, 3)},
        {"HEK": (0, 20), "N2a": (0, 20)},
        {"HEK": (20, 20), "N2a": (20, 20)},
        {"HEK": (5, 20)},
        {},
    ],
)
def test_differences_within_chance_are_not_reported(counts):
    assert uneven_rejection(_judged(**counts)) == ""


def test_images_that_were_not_judged_do_not_count():
    rows = _judged(HEK=(16, 21), N2a=(3, 20))
    rows = [dataclasses.replace(row, verdict="") for row in rows]
    assert uneven_rejection(rows) == ""


def test_the_position_of_the_stage_needs_both_coordinates():
    line = {"image": "HEK/a.png", "cell_type": "HEK", "stage_x_um": "-1.5"}
    # Tables of earlier versions lack the columns.
    assert row_from_strings(line).stage_um is None
    line["stage_y_um"] = "0"
    assert row_from_strings(line).stage_um == (-1.5, 0)
