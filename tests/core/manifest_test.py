"""Tests of cellclass_tf.core.manifest."""

import dataclasses

import pytest

from cellclass_tf.core.manifest import (
    COLUMNS,
    ImageRow,
    costs_of_rejection,
    image_name,
    row_from_strings,
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
        ("n" * 300 + ".png", "n" * 100),
    ],
)
def test_names_of_files_become_names_of_images(file_name, name):
    assert image_name(file_name) == name


def test_only_known_endings_go_where_they_are_named():
    assert image_name("plate.1.tif", [".tif"]) == "plate.1"
    assert image_name("plate.1", [".tif"]) == "plate.1"
    assert image_name("plate.1") == "plate"


def test_a_row_comes_back_from_its_strings():
    strings = {
        name: "" if value is None else str(value)
        for name, value in dataclasses.asdict(ROW).items()
    }
    assert set(strings) == set(COLUMNS)
    assert row_from_strings(strings) == ROW
    assert (ROW.stem, ROW.name) == ("HEK/a.b", "a.b")


@pytest.mark.parametrize(
    "line", [{}, {"image": "a.png"}, {"image": "a.png", "cell_type": "A", "cells": "x"}]
)
def test_what_is_no_row_is_refused(line):
    with pytest.raises((KeyError, TypeError, ValueError)):
        row_from_strings(line)


def test_every_reason_costs_its_fields_and_cells():
    rejected = dataclasses.replace(ROW, verdict="rejected", reason="glow: 1; debris: 2")
    other = dataclasses.replace(rejected, reason="glow", cells=None, nuclei_estimate=30)
    by_hand = dataclasses.replace(rejected, reason="")
    costs = costs_of_rejection([ROW, rejected, other, by_hand])
    assert costs == {"by hand": (1, 7), "debris": (1, 7), "glow": (2, 37)}
