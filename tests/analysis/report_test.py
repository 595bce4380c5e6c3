"""Tests of the report: the content of the page, and the page in a browser."""

import re

import numpy as np
import pytest

import cellclass_tf as cc
from cellclass_tf.analysis import cell_table, charts, table_files
from cellclass_tf.analysis import report as report_page
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.run_record import RejectedImage, RunRecord
from cellclass_tf.storage import csv_json, png
from tests.analysis.evaluation_test import _blocks, _study
from tests.browser import at_width
from tests.metadata import model_metadata
from tests.predictions import write_predictions

TYPES = ("HEK", "N2a")
STRANGE = "mixed/<b>&'x' 10 %"


def test_histograms_leave_out_repeated_cells_and_say_which_fields_lack_a_size(
    tmp_path, monkeypatch
):
    rows = [
        {"cell_type": "HEK", "area_px": "4", "area_um2": "1"},
        {"cell_type": "HEK", "area_px": "8", "area_um2": "2", "repeated": "True"},
        {"cell_type": "N2a", "area_px": "12", "area_um2": "3", "repeated": "False"},
    ]
    write_predictions(tmp_path, {"mixed/a": field(0, 1)[1]})
    found = Predictions(tmp_path)
    monkeypatch.setattr(found, "cell_rows", lambda: iter(rows))
    drawn = {}
    monkeypatch.setattr(
        charts, "histogram_svg", lambda values, words: drawn.update({words: values})
    )
    report_page._histograms(found)
    assert [drawn["area (µm²)"][name].tolist() for name in TYPES] == [[1], [3]]
    rows[0]["area_um2"] = ""
    report_page._histograms(found)
    few = drawn["area (µm²), fields of known pixel size only"]
    assert [few[name].tolist() for name in TYPES] == [[], [3]]


def field(seed, count):
    """Returns an image and the given numbers of cells of both types."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((100, 120), np.int32)
    for number in range(count):
        top, left = 5 + 20 * (number // 5), 5 + 22 * (number % 5)
        labels[top : top + 15, left : left + rng.integers(9, 18)] = number + 1
    sure = rng.uniform(0.6, 1, count)
    ids = rng.integers(1, 3, count).astype(np.int32)
    probabilities = np.where(
        np.arange(1, 3) == ids[:, None], sure[:, None], 1 - sure[:, None]
    )
    image = np.zeros((100, 120, 3), np.uint8)
    image[..., 1], image[..., 2] = 20 + 100 * (labels > 0), 5
    image[7:12:1, 8:12, 2] = 200
    cells = Cells(
        labels, TYPES, ids, np.ones(count, np.float32), probabilities.astype(np.float32)
    )
    return image, cells


def predictions(folder, names, *, counts=None, calibrated=True):
    """Writes some fields as `predict` does."""
    tables, rows = [], []
    for i, name in enumerate(names):
        image, cells = field(i, counts[i] if counts else 4 + i)
        png.write_png(
            folder / "overlays" / f"{name}.png", cc.draw_overlay(image, cells)
        )
        cells.write(folder / "labels" / f"{name}.tif")
        tables.append(cell_table.cell_table(cells, image, name=name, pixel_size_um=0.5))
        rows.append(cell_table.count_row(cells, name=name, group=f"dish {i % 2}"))
    table_files.write_cells_csv(folder / "cells.csv", tables, TYPES)
    table_files.write_counts_csv(folder / "counts.csv", rows, TYPES)
    confusions = [[[40, 2], [3, 35]]] * 4 if calibrated else None
    record = RunRecord(
        model="model",
        model_metadata=model_metadata(confusions),
        rejected=(RejectedImage("mixed/blurred.png", "blurred: slope -9"),),
    )
    record.write(folder / "run.json")
    return folder


def test_the_page_is_complete_and_needs_no_network(tmp_path):
    folder = predictions(tmp_path, [f"mixed/{i}" for i in range(5)] + [STRANGE])
    page = cc.report(folder, expected="HEK=1,N2a=1").read_text(encoding="utf-8")
    share = cc.mixture(folder)["estimates"][0]["types"]["HEK"]["corrected"]
    assert f"{100 * share:.1f} %" in page
    for words in ("missed", "blurred: slope -9", "dish 1", "called N2a", "area (µm²)"):
        assert words in page
    # Names are text, never mark-up.
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("data:image/jpeg") == 6


def test_cells_that_count_in_another_tile_are_reported(tmp_path):
    folder = predictions(tmp_path, ["mixed/a", "mixed/b"])
    words = "cells are not counted, because they are also in another tile"
    assert words not in cc.report(folder).read_text(encoding="utf-8")
    rows = csv_json.read_csv(folder / "counts.csv")
    for row, count in zip(rows, (3, 4), strict=True):
        row["repeated"] = count
    table_files.write_counts_csv(folder / "counts.csv", rows, TYPES)
    record = RunRecord(overlap_doubt="According to their files <a> and b overlap.")
    record.write(folder / "run.json")
    page = cc.report(folder).read_text(encoding="utf-8")
    assert f"7 {words}" in page
    assert "According to their files &lt;a&gt; and b overlap." in page


def test_the_number_of_pictures_is_limited(tmp_path):
    folder = predictions(tmp_path, [f"mixed/{i}" for i in range(9)], counts=[3] * 9)
    page = cc.report(folder, gallery=4).read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 4
    assert "4 of 9 fields are shown" in page


def test_fields_of_the_only_dish_with_cells_are_valid_for_this_dish_only(tmp_path):
    names = [f"mixed/{i}" for i in range(4)]
    # Even fields are of one dish, odd ones of the other.
    for number, counts in enumerate(([6, 0, 7, 0], [6, 5, 7, 8])):
        folder = predictions(tmp_path / str(number), names, counts=counts)
        page = cc.report(folder).read_text(encoding="utf-8")
        assert ("valid for this dish only" in page) == (number == 0)


@pytest.mark.parametrize("counts", [[0], [0, 0], [20], [1, 0]])
def test_with_few_or_no_cells_the_page_gives_the_reasons(tmp_path, counts):
    names = [f"mixed/{i}" for i in range(len(counts))]
    folder = predictions(tmp_path, names, counts=counts, calibrated=False)
    page = cc.report(folder).read_text(encoding="utf-8")
    assert "No interval:" in page
    told = re.sub(r"base64,[^\"]*", "", page.partition("<script>")[0])
    assert not re.search(r"\bnan\b", told, re.IGNORECASE)
    assert "Not corrected:" in page or "no cell has a type" in page


def test_predictions_without_run_json_have_a_report(tmp_path):
    folder = predictions(tmp_path, ["mixed/a"])
    (folder / "run.json").unlink()
    (folder / "overlays" / "mixed" / "a.png").write_text("no picture")
    page = cc.report(folder).read_text(encoding="utf-8")
    assert page.count("not recorded") >= 4


def test_tables_can_be_sorted_and_pictures_enlarged_in_a_browser(browser, tmp_path):
    folder = predictions(tmp_path, [f"mixed/{i}" for i in range(17)])
    browser.get(cc.report(folder).as_uri())
    for width in (1280, 390):
        at_width(browser, width)
        # Wide tables scroll in themselves, not the page.
        page = "return document.documentElement.scrollWidth"
        assert browser.execute_script(page) <= width
    at_width(browser, 1280)

    def first_column(number):
        cells = browser.find_elements("css selector", f"#counts td:nth-child({number})")
        return [cell.text for cell in cells]

    heads = browser.find_elements("css selector", "#counts th button")
    heads[2].click()
    assert first_column(3) == sorted(first_column(3), key=int)
    heads[2].click()
    assert first_column(3)[0] == "20"
    # 'mixed/10' comes after 'mixed/9'.
    heads[0].click()
    assert first_column(1) == [f"mixed/{i}" for i in range(17)]

    browser.find_element("css selector", "input[type=search]").send_keys("16")
    assert [name for name in first_column(1) if name] == ["mixed/16"]

    from selenium.webdriver.common.keys import Keys

    picture = browser.find_element("css selector", "[data-picture]")
    picture.send_keys(Keys.ENTER)
    view = browser.find_element("css selector", "dialog .view")
    large = view.find_element("tag name", "img")
    settled = "return arguments[0].decode().then(() => 1)"
    browser.execute_script(settled, large)
    before = large.size["width"]
    view.send_keys("+")
    assert large.size["width"] == pytest.approx(1.3 * before, rel=0.02)
    words = browser.find_element("css selector", "dialog span").text
    view.send_keys("n")
    assert browser.find_element("css selector", "dialog span").text != words
    view.send_keys(Keys.ESCAPE)
    assert not browser.find_elements("css selector", "dialog[open]")
    assert browser.get_log("browser") == []


def test_scores_of_a_truth_that_was_corrected_are_out_of_date(tmp_path, caplog):
    fields = {f"mixed/{name}": _blocks(["HEK", "N2a", "HEK"]) for name in "ab"}
    study = _study(tmp_path / "study", fields)
    folder = write_predictions(tmp_path / "study" / "found", fields)
    cc.evaluate(folder, study)
    assert "out of date" not in cc.report(folder).read_text(encoding="utf-8")
    # The types of one field are corrected, and the study is moved.
    _blocks(["HEK", "N2a", "N2a"]).write(
        tmp_path / "study/cells/mixed/b.tif", types_csv=True
    )
    (tmp_path / "study").rename(tmp_path / "moved")
    page = cc.report(tmp_path / "moved" / "found").read_text(encoding="utf-8")
    assert "out of date.</b> The true cells of mixed/b.png have changed" in page
    assert "The true cells of mixed/b.png" in caplog.text
