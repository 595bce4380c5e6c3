"""Tests of cellclass_tf.analysis.spot_check.page: in a browser, as a person uses it."""

import base64
import csv
import io
import json
import pathlib
import re
import shutil
import urllib.parse

import pytest
from PIL import Image

import cellclass_tf as cc
from cellclass_tf.analysis.spot_check.sample import Sample
from cellclass_tf.errors import InputError
from tests.browser import at_width
from tests.spot_check import checked_predictions, rows_of, write_table


def data_of(page: pathlib.Path):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_the_page_shows_windows_in_their_surroundings_and_hides_the_calls(tmp_path):
    folder = checked_predictions(tmp_path)
    found = cc.spotcheck(folder, cells=30)
    drawn = Sample.read(folder / "spotcheck" / "sample.json")
    data = data_of(found.page)
    assert len(data["windows"]) == len(drawn.windows) == found.windows
    for shown, window in zip(data["windows"], drawn.windows, strict=True):
        assert shown["own"] == sorted(window.cells)
        top, left = shown["box"][:2]
        height, width = shown["size"]
        origin = shown["origin"]
        # More than a cell diameter is shown around, except at the edge of the field.
        assert top >= 13 or origin[0] == 0
        assert left >= 13 or origin[1] == 0
        assert [top + origin[0], left + origin[1]] == list(window.box_yxyx[:2])
        picture = Image.open(
            io.BytesIO(base64.b64decode(shown["picture"].split(",")[1]))
        )
        assert picture.size == (width, height)
        # A cell is 12 x 12 px.
        for cell in window.cells:
            assert shown["outlines"][str(cell)].count("L") == 3
    assert set(data) == {"key", "types", "windows"}
    assert "HEK" not in json.dumps(data["windows"])
    assert "Content-Security-Policy" in found.page.read_text()


def test_the_number_of_labels_needed_is_printed(tmp_path):
    folder = checked_predictions(tmp_path)
    found = cc.spotcheck(folder, cells=30, width=0.8)
    told = cc.mixture(folder, width=0.8)["estimates"][0]["labels_for_width"]
    assert found.labels_for_width == told
    assert told["as_held_out"] <= told["twice_as_many"]
    assert f"about {told['as_held_out']} cells" in str(found)
    assert "No number of labels" in str(cc.spotcheck(folder, cells=30, width=0.01))
    shutil.rmtree(folder / "spotcheck")
    with pytest.raises(InputError, match="Expected a width"):
        cc.spotcheck(folder, cells=30, width=2)
    assert not (folder / "spotcheck").exists()


def test_the_proportions_of_the_last_report_stay(tmp_path):
    folder = checked_predictions(tmp_path)
    told = cc.mixture(folder, expected="HEK=1,N2a=1", counting_frame=True)
    cc.spotcheck(folder, cells=30)
    assert json.loads((folder / "mixture.json").read_text()) == told


def test_replacing_a_spot_check_needs_overwrite_and_sets_labels_aside(tmp_path):
    folder = checked_predictions(tmp_path)
    cc.spotcheck(folder, cells=30)
    drawn = Sample.read(folder / "spotcheck" / "sample.json")
    cc.import_spotcheck(folder, write_table(tmp_path / "a.csv", rows_of(drawn)))
    # Drawing the same sample again changes nothing.
    cc.spotcheck(folder, cells=30)
    assert (folder / "spotcheck" / "labels.csv").exists()
    with pytest.raises(InputError, match="--overwrite"):
        cc.spotcheck(folder, cells=31)
    cc.spotcheck(folder, cells=31, overwrite=True)
    assert not (folder / "spotcheck" / "labels.csv").exists()
    assert any("labels.csv" in name for name in cc.restore(folder))


def test_a_missing_image_is_reported(tmp_path):
    folder = checked_predictions(tmp_path)
    (tmp_path / "study" / "images" / "mixed" / "1.png").unlink()
    with pytest.raises(InputError, match="mixed/1: its merged image is missing"):
        cc.spotcheck(folder, cells=30)
    assert not (folder / "spotcheck").exists()


def label_by_hand(browser, drawn):
    """Labels each window as it was classified; adds a missed cell and presses other keys."""
    from selenium.webdriver.common.keys import Keys

    body = browser.find_element("css selector", "body")
    for number, window in enumerate(drawn.windows):
        if number == 3:
            browser.refresh()
            body = browser.find_element("css selector", "body")
            assert "3 of" in browser.find_element("id", "progress").text
        if number == 0:
            click_into_the_window(browser)
            body.send_keys("2")
            # A second click by mistake is removed.
            click_into_the_window(browser)
            body.send_keys(Keys.DELETE, Keys.ARROW_UP * 20)
        for call in window.cells.values():
            if number == 1:
                body.send_keys("t", "1", "2")
            elif number == 2:
                body.send_keys("n")
            else:
                body.send_keys("1" if call == "HEK" else "2")
        body.send_keys(Keys.ENTER)
    return body


def open_unlabelled(browser, page):
    """Opens a page without the labels of other tests, which the browser may have saved."""
    at_width(browser, 1280)
    browser.get(page.as_uri())
    browser.execute_script("localStorage.clear()")
    browser.refresh()


def saved(browser):
    """Saves the table; returns its address and file name, or None if it is not saved."""
    browser.execute_script(
        "window.saved = null; HTMLAnchorElement.prototype.click = function () "
        "{ window.saved = [this.href, this.download]; }"
    )
    browser.find_element("id", "save").click()
    return browser.execute_script("return window.saved")


def click_into_the_window(browser):
    """Clicks the middle of the blue window, as for a cell without an outline."""
    from selenium.webdriver.common.action_chains import ActionChains

    svg = browser.find_element("css selector", ".view svg")
    box = svg.find_element("css selector", "rect").rect
    offset = [
        box[at] + 0.5 * box[size] - svg.rect[at] - svg.rect[size] / 2
        for at, size in (("x", "width"), ("y", "height"))
    ]
    mouse = ActionChains(browser)
    mouse.move_to_element_with_offset(svg, *map(round, offset)).click().perform()


def test_a_click_by_mistake_does_not_discard_the_windows_after_it(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    folder = checked_predictions(tmp_path)
    page = cc.spotcheck(folder, cells=30).page
    drawn = Sample.read(folder / "spotcheck" / "sample.json")
    open_unlabelled(browser, page)
    browser.find_element("id", "labeller").send_keys("Ana")
    browser.find_element("css selector", "h1").click()
    body = browser.find_element("css selector", "body")
    for window in drawn.windows:
        body.send_keys("1" * len(window.cells), Keys.ENTER)
    body.send_keys(Keys.ARROW_LEFT * (len(drawn.windows) - 2))
    where, told = (browser.find_element("id", name) for name in ("where", "told"))
    assert where.text.startswith("window 2, done")
    click_into_the_window(browser)
    assert where.text == "window 2"
    body.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    # The table is not saved from another window either, and this one is shown.
    body.send_keys(Keys.ARROW_LEFT)
    assert saved(browser) is None
    assert "Window 2 is not done" in told.text
    assert where.text == "window 2"
    body.send_keys(Keys.ARROW_DOWN * 20, Keys.DELETE)
    assert where.text == "window 2, done"
    # So it is with a label that is removed and given again.
    body.send_keys(Keys.ARROW_UP * 20, Keys.DELETE)
    assert where.text == "window 2"
    body.send_keys("2")
    assert where.text == "window 2, done"
    text = urllib.parse.unquote(saved(browser)[0].partition(",")[2])
    table = tmp_path / "a.csv"
    table.write_text(text, encoding="utf-8", newline="")
    assert cc.import_spotcheck(folder, table).windows == {"Ana": len(drawn.windows)}
    assert browser.get_log("browser") == []


def test_labelling_with_keys_and_clicks_continues_after_a_reload(browser, tmp_path):
    folder = checked_predictions(tmp_path)
    page = cc.spotcheck(folder, cells=30).page
    drawn = Sample.read(folder / "spotcheck" / "sample.json")
    open_unlabelled(browser, page)
    # A window with unlabelled cells cannot be skipped.
    browser.find_element("id", "next").click()
    assert (
        not drawn.windows[0].cells
        or "no label" in browser.find_element("id", "told").text
    )
    browser.find_element("css selector", "h1").click()
    body = label_by_hand(browser, drawn)
    assert "All windows are labelled" in browser.find_element("id", "told").text
    body.send_keys("o")
    assert browser.find_elements("css selector", "#panels.plain")
    assert saved(browser) is None
    assert "Enter your name" in browser.find_element("id", "told").text
    browser.switch_to.active_element.send_keys("Ana")
    href, name = saved(browser)
    assert name == "spotcheck_Ana.csv"
    text = urllib.parse.unquote(href.partition(",")[2])
    table = tmp_path / name
    table.write_text(text, encoding="utf-8", newline="")
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    (missed,) = [row for row in rows if row["kind"] == "missed"]
    top, left, bottom, right = drawn.windows[0].box_yxyx
    assert top < float(missed["y_px"]) < bottom
    assert left < float(missed["x_px"]) < right
    assert missed["label"] == "N2a"
    assert cc.import_spotcheck(folder, table).windows == {"Ana": len(drawn.windows)}
    of = {(row["window"], row["cell"]): row for row in rows if row["kind"] == "cell"}
    for number, window in enumerate(drawn.windows[:5]):
        for cell, call in window.cells.items():
            row = of[str(number + 1), str(cell)]
            wanted = {1: ("HEK", "N2a"), 2: ("not a cell", "")}.get(number, (call, ""))
            assert (row["label"], row["second_label"]) == wanted
    assert browser.get_log("browser") == []


def test_the_page_fits_a_narrow_screen(browser, tmp_path):
    page = cc.spotcheck(checked_predictions(tmp_path), cells=30).page
    browser.get(page.as_uri())
    at_width(browser, 390)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    at_width(browser, 1280)
