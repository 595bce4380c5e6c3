"""Tests of cellclass_tf.microscopy.quality.contact_sheet."""

import numpy as np
import pytest

from cellclass_tf.microscopy.quality import contact_sheet

WIDTH = 1964


def sheet_field(name="a", verdict="accepted", reason=""):
    merged = np.random.default_rng(0).integers(0, 99, (300, 400, 3), np.uint8)
    return contact_sheet.SheetField(
        name, contact_sheet.thumbnail(merged), verdict, reason, "figures"
    )


@pytest.mark.parametrize("shape", [(16, 16), (300, 400), (1104, 1104), (60, 5000)])
def test_thumbnails_have_one_size(shape):
    picture = contact_sheet.thumbnail(np.zeros((*shape, 3), np.uint8))
    assert picture.shape == (236, 476, 3)
    assert picture.dtype == np.uint8


def test_the_detail_is_at_full_size_where_the_structure_is():
    merged = np.zeros((1000, 1000, 3), np.uint8)
    # Stripes of one pixel, which vanish where a field is reduced.
    merged[700:800, 600:700:2, 1] = 200
    detail = contact_sheet.thumbnail(merged)[:, -236:, 1].astype(int)
    assert np.abs(np.diff(detail, axis=1)).max() > 200


def test_nuclei_are_visible():
    merged = np.zeros((300, 300, 3), np.uint8)
    merged[..., 2] = 128
    red, green, blue = contact_sheet.thumbnail(merged)[5, 100]
    assert blue > green > red > 20


def test_rejected_fields_are_framed():
    def frame_of(verdict):
        picture = contact_sheet.draw("t", [sheet_field(verdict=verdict)], 1)
        return np.count_nonzero((picture == (240, 130, 40)).all(axis=2))

    assert frame_of("rejected") > 5000 > frame_of("accepted") == 0


def test_fields_are_drawn_in_rows_of_four():
    one = contact_sheet.draw("t", [sheet_field()], 1)
    four = contact_sheet.draw("t", [sheet_field()] * 4, 4)
    five = contact_sheet.draw("t", [sheet_field()] * 5, 1200)
    assert one.shape == four.shape
    assert one.shape[1] == WIDTH
    assert five.shape[0] > four.shape[0]


def test_the_names_of_all_reasons_fit():
    from PIL import Image, ImageDraw

    from cellclass_tf.drawing import caption

    pen = ImageDraw.Draw(Image.new("RGB", (9, 9)))
    pen.font = caption.font(16)
    one = "out of focus: sharpness -0.65 (limit 0.00)"
    assert contact_sheet._fit_reason(pen, one) == one
    several = f"{one}; no cytoplasm: share of nuclei without 90.0% (limit 50.0%)"
    found = contact_sheet._fit_reason(pen, several)
    assert found == "out of focus; no cytoplasm"
