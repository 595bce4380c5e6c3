"""Tests of cellclass_tf.analysis.figure."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import cellclass_tf as cc
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.drawing import palette
from cellclass_tf.errors import InputError
from cellclass_tf.storage import png
from tests.predictions import write_predictions

SVG = "{http://www.w3.org/2000/svg}"
# HEK and, touching it, N2a, 40 x 40 px each; a HEK cell of 20 x 20 px far off.
LABELS = np.zeros((200, 300), np.int32)
LABELS[50:90, 50:90] = 1
LABELS[50:90, 90:130] = 2
LABELS[150:170, 250:270] = 3


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = Study.create(tmp_path_factory.mktemp("figure") / "study", pixel_size_um=0.5)
    image = np.zeros((*LABELS.shape, 3), np.uint8)
    image[..., 1], image[..., 2] = 100, 50
    rows = [ImageRow(f"mixed/{name}.png", "mixed") for name in ("dish1_a", "dish1_b")]
    for row in rows:
        png.write_png(study.image_path(row), image)
        cells = Cells.from_labels(LABELS, study.cell_types, ("HEK", "N2a", "HEK"))
        cells.write(study.cells_path(row))
        table = study.cells_path(row).with_suffix(".csv")
        table.write_text("cell,cell_type\n1,HEK\n2,N2a\n3,HEK\n")
    study.update(rows, "origin")
    return study


def draw(study, path, **options):
    found = cc.figure(path, study=study.root, image="dish1_a", **options)
    return found, ElementTree.parse(found.path).getroot()


def lines_of(root):
    """Returns (id, stroke, width in pt) of the path and the halo of each cell."""
    found = {}
    for group in root.iter(f"{SVG}g"):
        name = group.get("id", "")
        if re.fullmatch(r"panel\d_(cell_\d+|halo)", name):
            (path,) = group.iter(f"{SVG}path")
            style = dict(
                part.strip().split(": ") for part in path.get("style").split(";")
            )
            assert style["fill"] == "none"
            # Matplotlib leaves out a width of 1.
            found[name] = style["stroke"], float(style.get("stroke-width", 1)), path
    return found


def corners_of(path):
    return np.array(re.findall(r"-?\d+\.?\d*", path.get("d")), float).reshape(-1, 2)


def test_each_cell_is_one_path_in_its_colour_over_a_halo(study, tmp_path):
    _, root = draw(study, tmp_path / "a.svg", width_mm=85.0)
    # 85 mm are 240.94 pt.
    assert root.get("width") == "240.944882pt"
    lines = lines_of(root)
    assert list(lines) == ["panel1_halo", *(f"panel1_cell_{i}" for i in (1, 2, 3))]
    assert lines["panel1_halo"][:2] == ("#000000", 1.75)
    pink, blue = map(palette.hex_of, palette.ON_DARK[:2])
    strokes = [lines[f"panel1_cell_{i}"][:2] for i in (1, 2, 3)]
    assert strokes == [(pink, 0.75), (blue, 0.75), (pink, 0.75)]
    # The lines of cells that touch lie side by side, each inside its own cell.
    pt_per_px = 240.944882 / 300
    first, second = (
        corners_of(lines[f"panel1_cell_{i}"][2])[:, 0] / pt_per_px for i in (1, 2)
    )
    half = 0.375 / pt_per_px
    assert first.min() == pytest.approx(50 + half, abs=0.11)
    assert first.max() == pytest.approx(90 - half, abs=0.11)
    assert second.min() == pytest.approx(90 + half, abs=0.11)


def test_legend_caption_and_scale_bar_say_what_is_shown(study, tmp_path):
    found, root = draw(study, tmp_path / "a.svg", crop=(0, 0, 200, 200))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    # 200 px x 0.5 µm; a fifth is 20 µm.
    assert texts == ["20 µm"]
    legend = ElementTree.parse(found.legend)
    texts = [text.text for text in legend.iter(f"{SVG}text")]
    assert texts == ["HEK (1 cell)", "N2a (1 cell)", "cytoplasm", "nuclei"]
    assert "scale bar 20 µm" in found.caption
    assert "nuclei magenta" in found.caption
    assert "mixed/dish1_a, 200 x 200 px from y 0, x 0" in str(found)


def test_a_crop_cuts_cells_without_a_line_along_its_edge(study, tmp_path):
    _, root = draw(study, tmp_path / "a.svg", crop="60,60,100,100")
    lines = lines_of(root)
    assert "panel1_cell_3" not in lines
    for name in ("panel1_cell_1", "panel1_cell_2"):
        # They go on beyond the upper edge, where the clip path ends them.
        assert corners_of(lines[name][2])[:, 1].min() < 0
        assert lines[name][2].get("clip-path")


def test_pixels_are_repeated_to_300_dpi_and_sized_in_mm(study, tmp_path):
    found = cc.figure(
        tmp_path / "a.png", study=study.root, image="dish1_a", outlines=False
    )
    picture = Image.open(found.path)
    # 300 px on 85 mm are 90 dpi; four times that are 359.
    assert picture.size == (1200, 800)
    assert picture.info["dpi"][0] == pytest.approx(1200 / 85 * 25.4, abs=0.1)
    pixels = np.asarray(picture.convert("RGB"))
    # Cytoplasm 100 is green, nuclei 50 magenta.
    assert (pixels[:700] == (50, 100, 50)).all()


def test_grey_panels_lie_side_by_side_with_their_names(study, tmp_path):
    found, root = draw(study, tmp_path / "a.svg", channels="grey", scale_bar_um=0)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts == ["cytoplasm", "nuclei"]
    assert len(lines_of(root)) == 8
    assert len(list(root.iter(f"{SVG}image"))) == 2
    assert "scale bar" not in found.caption


def test_pdf_has_the_size_and_fonts_that_journals_want(study, tmp_path):
    path = cc.figure(tmp_path / "a.pdf", study=study.root, image="mixed/dish1_b").path
    content = path.read_bytes()
    (box,) = re.findall(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", content)
    assert [float(side) for side in box] == pytest.approx([240.945, 160.63], abs=0.01)
    assert b"/Type3" not in content


def test_only_cells_with_pixels_in_the_crop_are_counted(study, tmp_path):
    labels = np.zeros_like(LABELS)
    # The box of this cell contains the crop, but none of its pixels is there.
    labels[10, 10:200] = labels[10:150, 10] = 1
    labels[50:60, 50:60] = 2
    cells = Cells.from_labels(labels, ("HEK", "N2a"), ("HEK", "N2a"))
    run = _run(study, tmp_path, cells)
    found = cc.figure(tmp_path / "a.svg", predictions=run, crop="40,40,60,60")
    assert "outlines: N2a (1 cell)." in found.caption
    assert "panel1_cell_1" not in lines_of(ElementTree.parse(found.path).getroot())


def _run(study, folder, cells, min_probability=0.7):
    run = write_predictions(folder / "run", {"mixed/dish1_a": cells})
    (run / "run.json").write_text(
        json.dumps(
            {
                "version": 2,
                "study": str(study.root),
                "settings": {"min_probability": min_probability},
                "images": [{"stem": "mixed/dish1_a", "image": "mixed/dish1_a.png"}],
            }
        )
    )
    return run


def _unsure_cells():
    """Cells of the probabilities 0.9, 0.6 and 0.8."""
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]], np.float32)
    ids = np.array([1, 2, 1], np.int32)
    return Cells(LABELS, ("HEK", "N2a"), ids, np.ones(3, np.float32), probabilities)


def test_uncertain_calls_are_dashed(study, tmp_path):
    folder = _run(study, tmp_path, _unsure_cells())
    found = cc.figure(tmp_path / "a.svg", predictions=folder)
    lines = lines_of(ElementTree.parse(found.path).getroot())
    dashed = ["dasharray" in line[2].get("style") for line in lines.values()]
    assert dashed == [False, False, True, False]
    assert "dashed: probability below 0.7 (1 cell)" in found.caption


def test_no_call_is_dashed_if_none_was_uncertain_in_the_run(study, tmp_path):
    folder = _run(study, tmp_path, _unsure_cells(), min_probability=0)
    found = cc.figure(tmp_path / "a.svg", predictions=folder)
    assert "dash" not in found.caption


@pytest.mark.parametrize("counting_frame", [False, True])
def test_the_caption_says_if_there_is_no_interval_and_what_was_counted(
    tmp_path, counting_frame
):
    labels = LABELS.copy()
    labels[0:10, 0:10] = 4
    cells = Cells.from_labels(labels, ("HEK", "N2a"), ("HEK", "N2a", "HEK", "HEK"))
    run = write_predictions(tmp_path / "run", {"a": cells})
    estimate = cc.mixture(run, counting_frame=counting_frame)["estimates"][0]
    found = cc.figure(tmp_path / "p.svg", predictions=run, plot="proportions")
    assert estimate["interval_reason"]
    reason = f"without an interval ({estimate['interval_reason']}), "
    counted = "3 cells in the counting frame" if counting_frame else "4 cells"
    assert found.caption == (
        f"Proportion of each type {reason}{counted}, 1 units (field)."
    )


def test_proportions_are_those_of_the_report(tmp_path):
    cells = Cells.from_labels(LABELS, ("HEK", "N2a"), ("HEK", "N2a", "unknown"))
    folder = write_predictions(tmp_path / "run", {"a": cells, "b": cells})
    options = {"predictions": folder, "plot": "proportions"}
    with pytest.raises(InputError, match=r"mixture.json does not exist.*report"):
        cc.figure(tmp_path / "p.svg", **options)
    cc.mixture(folder)
    found = cc.figure(tmp_path / "p.svg", **options)
    # The two cells of unknown type are not among those of the proportions.
    assert "and 95 % interval, 4 cells, 2 units (field)" in found.caption
    root = ElementTree.parse(found.path).getroot()
    assert root.get("width") == "240.944882pt"
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"HEK", "N2a", "proportion of the cells"} < set(texts)


def test_a_changed_figure_is_set_aside(study, tmp_path):
    path = tmp_path / "a.svg"
    draw(study, path)
    path.write_text("edited")
    draw(study, path)
    (kept,) = (tmp_path / ".trash").rglob("a.svg")
    assert kept.read_text() == "edited"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"image": "mixed/dish1_c"},
            "not one of the 2 images.*similar names: mixed/dish1_b",
        ),
        ({"image": None}, "2 images with cells; choose one with --image"),
        ({"crop": "0,0,201,10"}, "inside mixed/dish1_a, which is 200 px high and 300"),
        ({"crop": "0,0,0,10"}, "inside mixed/dish1_a"),
        ({"crop": "1,2,3"}, "four whole numbers, y,x,height,width"),
        ({"crop": "0,0,200,1"}, "mm high; expected at most 1000"),
        ({"width_mm": 0.0}, "width_mm=0.0: expected 10 to 1000 mm"),
        ({"line_pt": 0.3}, "line_pt=0.3: expected 0.5"),
        ({"output": "a.gif"}, "ends in .svg, .pdf, .png; got '.gif'"),
        ({"channels": "red"}, "channels=red: expected one of magenta_green"),
        ({"predictions": "x"}, "either --study or --predictions"),
        ({"pixel_size_um": 0.0}, "pixel_size_um=0.0: expected more than 0"),
        ({"scale_bar_um": 1000.0}, "does not fit: the figure shows 150 µm"),
        ({"plot": "proportions"}, "leave out --study"),
    ],
)
def test_invalid_arguments_are_refused_and_nothing_is_written(
    study, tmp_path, options, message
):
    given = {"output": "a.svg", "study": study.root, "image": "dish1_a"} | options
    if options.get("plot"):
        given["predictions"], given["study"] = None, study.root
    output = tmp_path / given.pop("output")
    with pytest.raises(InputError, match=message):
        cc.figure(output, **given)
    assert not list(tmp_path.iterdir())


def test_a_scale_at_which_outlines_hide_the_cells_is_noted(study, tmp_path):
    found, _ = draw(study, tmp_path / "a.svg", width_mm=10.0)
    assert "Choose a part of the field with --crop" in found.notes[0]
