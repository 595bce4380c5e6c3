"""Tests of the lists and pictures of doubtful cells, and of the queue."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf.annotation.review import queue
from cellclass_tf.annotation.review.doubts import Doubt
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.drawing import palette
from cellclass_tf.storage import csv_json, png

LABELS = np.zeros((300, 900), np.int32)
LABELS[50:150, 50:150] = 1
LABELS[50:150, 300:400] = 2
LABELS[50:150, 600:700] = 3
IMAGE = np.zeros((300, 900, 3), np.uint8)
DOUBTS = [
    Doubt(2, ("two nuclei", "odd size"), 0.9, 99.5, 349.5, 10_000),
    Doubt(3, ("cut by border",), None, 99.5, 649.5, 10_000),
]


@pytest.fixture
def study(tmp_path):
    return Study.create(tmp_path / "study")


def _cells():
    return Cells.from_labels(LABELS, ("HEK",))


def _has(picture, colour, columns):
    return (picture[:300, columns] == colour).all(axis=-1).any()


def test_field_has_a_list_and_a_picture(study):
    row = ImageRow("HEK/a.b.png", "HEK", cells=3)
    queue.write_field(study, row, IMAGE, _cells(), DOUBTS)
    lines = csv_json.read_csv(study.root / "review/HEK/a.b.csv")
    assert [line["cell"] for line in lines] == ["2", "3"]
    assert lines[0]["reasons"] == "two nuclei; odd size"
    assert (lines[0]["centroid_x_px"], lines[1]["probability"]) == ("349.5", "")
    assert png.read_png(study.root / "review/HEK/a.b.png").shape[1] == 900
    study.update([row])
    queue.write_queue(study)
    assert len(list((study.root / "review/HEK").iterdir())) == 2
    study.update([dataclasses.replace(row, corrected=True)])
    queue.write_queue(study)
    # They show cells that no longer exist.
    assert not list((study.root / "review/HEK").iterdir())


@pytest.mark.parametrize("corrected", [False, True])
def test_a_list_that_a_person_wrote_into_is_kept(study, corrected):
    row = ImageRow("HEK/a.png", "HEK", cells=3)
    queue.write_field(study, row, IMAGE, _cells(), DOUBTS)
    # What the program wrote is replaced without a copy.
    queue.write_field(study, row, IMAGE, _cells(), DOUBTS[:1])
    assert not study.trash_path.exists()
    table = study.review_path(row)
    notes = table.read_text() + "9,odd size,,,,wrong: two cells\n"
    table.write_text(notes)
    if corrected:
        study.update([dataclasses.replace(row, corrected=True)])
        queue.write_queue(study)
        assert not table.exists()
    else:
        queue.write_field(study, row, IMAGE, _cells(), DOUBTS)
        assert len(csv_json.read_csv(table)) == 2
    (kept,) = study.trash_path.rglob("a.csv")
    assert kept.read_text() == notes


def test_doubtful_cells_stand_out_with_their_numbers():
    picture = queue.draw(IMAGE, _cells(), DOUBTS, name="HEK/a.png")
    grey, pink, blue = (130, 130, 130), palette.PINK, palette.SKY_BLUE
    assert _has(picture, grey, slice(0, 200))
    assert _has(picture, pink, slice(250, 450))
    assert _has(picture, blue, slice(550, 750))
    # The number of cell 2, above it; cell 3 is only cut, and has none.
    assert (picture[35:50, 330:370] == 255).all(axis=-1).any()
    assert not (picture[35:50, 630:670] == 255).all(axis=-1).any()


def _row(name, doubts, **columns):
    return ImageRow(f"HEK/{name}.png", "HEK", cells=50, doubts=doubts, **columns)


def test_fields_are_queued_by_errors_a_minute(study):
    study.update(
        [
            # 0.3 errors expected; 20 + 3 + 6 = 29 s.
            _row("one", "two nuclei 1"),
            # 3 errors; 20 + 30 + 60 = 110 s.
            _row("many", "two nuclei 10"),
            # 0.5 errors; 20 + 30 + 10 = 60 s.
            _row("borders", "cut by border 10"),
            _row("corrected", "two nuclei 10", corrected=True),
            _row("rejected", "two nuclei 10", verdict="rejected"),
            _row("sound", ""),
        ]
    )
    queue.write_queue(study)
    lines = csv_json.read_csv(study.review_queue_path)
    names = [line["image"] for line in lines]
    assert names == ["HEK/many.png", "HEK/one.png", "HEK/borders.png"]
    assert [line["errors_per_minute"] for line in lines] == ["1.64", "0.62", "0.5"]
    assert (lines[0]["rank"], lines[0]["expected_errors"]) == ("1", "3.0")
    assert (lines[0]["minutes"], lines[0]["two_nuclei"]) == ("1.8", "10")


def test_corrected_field_leaves_the_queue(study):
    row = _row("a", "no nucleus 2")
    study.update([row])
    queue.write_queue(study)
    assert len(csv_json.read_csv(study.review_queue_path)) == 1
    study.update([dataclasses.replace(row, corrected=True)])
    queue.write_queue(study)
    assert csv_json.read_csv(study.review_queue_path) == []


def test_fields_to_correct_are_named_with_the_time_it_takes(tmp_path):
    study = Study.create(tmp_path / "study", ("HEK", "N2a"))
    assert queue.worth_correcting(study) == ""
    study.review_queue_path.parent.mkdir()
    study.review_queue_path.write_text("image,minutes\n")
    assert queue.worth_correcting(study) == ""
    study.review_queue_path.write_text("image,minutes\na,2.5\nb,1.5\nc,9\n")
    told = queue.worth_correcting(study, most=2)
    assert told.startswith(
        "3 images have doubtful cells. Correcting the first 2 takes about 4"
    )
    assert "--first=2" in told
    assert ": a, b." in told
