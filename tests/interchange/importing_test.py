"""Tests of cellclass_tf.interchange.importing."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf import batch
from cellclass_tf.annotation import cell_files
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.interchange import importing
from cellclass_tf.interchange.importing import CellsToImport, ImportedCells
from cellclass_tf.storage import digests, png

TYPES = ("HEK", "N2a")
IMAGES = ("HEK/a.png", "HEK/same.png", "N2a/same.png", "mixed/m.png")
# Three cells of 4, 2 and 1 pixels.
LABELS = np.array([[0, 1, 1, 0, 0], [0, 1, 1, 0, 2], [3, 0, 0, 0, 2]], np.int32)


@pytest.fixture
def study(tmp_path):
    study = Study.create(tmp_path / "study", TYPES)
    rows = [ImageRow(image, image.split("/")[0]) for image in IMAGES]
    for row in rows:
        png.write_png(study.image_path(row), np.zeros((3, 5, 3), np.uint8))
    study.update(rows)
    return study


def row_of(study, image):
    return next(row for row in study.rows() if row.image == image)


def imported(labels=LABELS, types=None, *, sha256="5ha", **said):
    cells = Cells.from_labels(labels, TYPES, types)
    told = {"types_known": types is not None, "path": "m.coco"} | said
    return ImportedCells(cells, sha256, **told)


def import_one(study, source, image="mixed/m.png", version=(1,)):
    """Imports `source`, or raises it if it is an error."""

    def read(row, source):
        assert row.image == image
        if isinstance(source, Exception):
            raise source
        return source

    candidates = [CellsToImport(row_of(study, image), source, version)]
    return importing.import_cells(study, candidates, read)


def test_an_image_that_cannot_be_imported_fails_alone_by_name(study):
    # The label image is narrower than its image.
    narrow = imported(LABELS[:, :4], path="m.coco")
    candidates = [
        CellsToImport(row_of(study, "HEK/a.png"), imported()),
        CellsToImport(row_of(study, "HEK/same.png"), None, problem="two files"),
        CellsToImport(row_of(study, "mixed/m.png"), narrow),
        CellsToImport(None, None, name="x.tif", problem="matches no image"),
    ]
    outcome = importing.import_cells(study, candidates, lambda row, source: source)
    assert list(outcome.done) == ["HEK/a.png"]
    assert outcome.failures["HEK/same.png"] == "two files"
    assert outcome.failures["x.tif"] == "matches no image"
    failure = outcome.failures["mixed/m.png"]
    assert "m.coco: the labels have 3 x 4 px and mixed/m.png has 3 x 5" in failure
    assert [row.cells for row in study.rows()] == [3, None, None, None]


def test_a_source_is_read_again_only_if_it_or_the_image_changed(study):
    assert import_one(study, imported(), version=(1,)).done
    unread = InputError("was read")
    assert list(import_one(study, unread, version=(1,)).skipped) == ["mixed/m.png"]
    assert "was read" in import_one(study, unread, version=(2,)).failures["mixed/m.png"]
    # A correction in place is not undone.
    row = row_of(study, "mixed/m.png")
    corrected = Cells.from_labels((LABELS == 1).astype(np.int32), TYPES)
    corrected.write(study.cells_path(row))
    assert list(import_one(study, unread, version=(1,)).skipped) == ["mixed/m.png"]
    assert len(study.read_cells(row)) == 1
    png.write_png(study.image_path(row), np.ones((3, 5, 3), np.uint8))
    assert "was read" in import_one(study, unread, version=(1,)).failures["mixed/m.png"]


def with_raw_file(study, image, sha256):
    study.update([dataclasses.replace(row_of(study, image), raw_sha256=sha256)])


def test_another_contrast_does_not_bring_back_earlier_cells(study):
    with_raw_file(study, "mixed/m.png", "5ha of raw file")
    import_one(study, imported())
    row = row_of(study, "mixed/m.png")
    Cells.from_labels(np.minimum(LABELS, 1), TYPES).write(study.cells_path(row))
    png.write_png(study.image_path(row), np.ones((3, 5, 3), np.uint8))
    unread = InputError("was read")
    assert list(import_one(study, unread).skipped) == ["mixed/m.png"]
    assert len(study.read_cells(row)) == 1


def test_imports_of_earlier_versions_are_recognized(study):
    image = row_of(study, "mixed/m.png")
    made_by = digests.fingerprint(
        "import", cell_files.version_of_image(study, image), ("m", 7, 123)
    )
    import_one(study, imported(), version=("other",))
    cell_files.journal(study).append(batch.Job("mixed/m.png", None, made_by), {})
    candidate = CellsToImport(image, None, ("5ha",), earlier_version=("m", 7, 123))
    outcome = importing.import_cells(study, [candidate], lambda row, source: source)
    assert list(outcome.skipped) == ["mixed/m.png"]


def test_cells_of_another_raw_file_are_not_imported_again(study):
    with_raw_file(study, "mixed/m.png", "first")
    import_one(study, imported(), version=(1,))
    with_raw_file(study, "mixed/m.png", "second")
    for source, version in (
        # The file is the same, or the cells of this image in a file with others.
        (imported(), (2,)),
        (imported(sha256="other"), (1,)),
    ):
        failures = import_one(study, source, version=version).failures
        assert "was made of another raw file than now" in failures["mixed/m.png"]
        assert not study.has_cells(row_of(study, "mixed/m.png"))
    other = imported(np.minimum(LABELS, 1), sha256="drawn on the second")
    assert import_one(study, other, version=(3,)).done
    # The first raw file is back.
    with_raw_file(study, "mixed/m.png", "first")
    assert import_one(study, imported(), version=(1,)).done


def test_cells_of_another_raw_file_are_imported_if_a_person_says_so(study):
    with_raw_file(study, "mixed/m.png", "first")
    import_one(study, imported())
    with_raw_file(study, "mixed/m.png", "second")
    candidates = [CellsToImport(row_of(study, "mixed/m.png"), imported(), (1,))]
    for _ in range(2):
        outcome = importing.import_cells(
            study, candidates, lambda row, source: source, overwrite_corrected=True
        )
        assert not outcome.failures
    assert list(import_one(study, imported()).skipped) == ["mixed/m.png"]


def test_a_source_without_changes_is_not_a_correction(study):
    import_one(study, imported(by_hand=[2]))
    row = row_of(study, "mixed/m.png")
    outcome = import_one(study, None, version=(2,))
    assert outcome.done["mixed/m.png"]["notes"] == ["as it was exported"]
    assert row_of(study, "mixed/m.png") == row
    outcome = import_one(study, imported(by_hand=[]), version=(3,))
    assert outcome.done["mixed/m.png"]["changes"]["kept"] == 3
    assert row_of(study, "mixed/m.png") == row
    # A source without this information counts as a correction too.
    import_one(study, imported(), version=(4,))
    assert row_of(study, "mixed/m.png").annotation != row.annotation


def test_cells_count_as_hand_drawn_if_source_or_manifest_says_so(study):
    import_one(study, imported(by_hand=[2]))
    assert row_of(study, "mixed/m.png").by_hand == "cells 2"
    # The first cell grows, the second stays, and the third goes.
    labels = LABELS.copy()
    labels[2, 0], labels[0, 3] = 0, 1
    outcome = import_one(study, imported(labels), version=(2,))
    changes = {"added": 0, "redrawn": 1, "removed": 1, "kept": 1}
    assert outcome.done["mixed/m.png"]["changes"] == changes
    assert row_of(study, "mixed/m.png").by_hand == "cells 1-2"
    # A source that records who drew each cell also does so for the new cell.
    labels[2, 0] = 3
    import_one(study, imported(labels, by_hand=[]), version=(3,))
    assert row_of(study, "mixed/m.png").by_hand == "cells 1-2"


def test_earlier_cells_keep_their_types_if_a_source_has_none(study):
    import_one(study, imported(types=("HEK", "N2a", "HEK")))
    # The numbers have changed, and the cell of 4 pixels was replaced by another one.
    labels = np.array([0, 0, 1, 2], np.int32)[LABELS]
    labels[0, 0] = 3
    import_one(study, imported(labels), version=(2,))
    cells = study.read_cells(row_of(study, "mixed/m.png"))
    assert cells.cell_types == ("N2a", "HEK", "unknown")


@pytest.fixture
def typed(study):
    """Returns a study whose field has types that were imported from another file."""
    import_one(study, imported(types=("HEK", "N2a", "unknown"), path="first"))
    return study


def types_of(study):
    return study.read_cells(row_of(study, "mixed/m.png")).cell_types


def test_types_of_a_corrected_field_are_not_replaced_by_another_file(typed):
    older = imported(types=("N2a", "N2a", "HEK"))
    failures = import_one(typed, older, version=(2,)).failures
    assert (
        "would change the types of 1 of the 3 cells of mixed/m.png, which were corrected "
        "(cell 1 from HEK to N2a)" in failures["mixed/m.png"]
    )
    assert types_of(typed) == ("HEK", "N2a", "unknown")
    candidates = [CellsToImport(row_of(typed, "mixed/m.png"), older, (2,))]
    outcome = importing.import_cells(
        typed, candidates, lambda row, source: source, overwrite_corrected=True
    )
    assert outcome.done["mixed/m.png"]["notes"] == ["1 cells got another type"]
    assert types_of(typed) == ("N2a", "N2a", "HEK")
    assert list((typed.trash_path).rglob("m.csv"))


def test_a_newer_state_of_the_same_file_may_change_types(typed):
    newer = imported(types=("N2a", "unknown", "unknown"), path="first")
    outcome = import_one(typed, newer, version=(2,))
    assert outcome.done["mixed/m.png"]["notes"] == ["2 cells got another type"]
    assert types_of(typed) == ("N2a", "unknown", "unknown")


def test_an_unknown_type_does_not_replace_a_known_one(typed):
    import_one(typed, imported(types=("unknown", "N2a", "HEK")), version=(2,))
    assert types_of(typed) == ("HEK", "N2a", "HEK")


def test_types_of_a_pure_field_can_be_corrected_to_that_of_its_folder(study):
    first = imported(types=("HEK", "unknown", "HEK"), path="first")
    import_one(study, first, "HEK/a.png")
    row = row_of(study, "HEK/a.png")
    assert study.read_cells(row).cell_types == ("HEK", "unknown", "HEK")
    import_one(study, imported(types=("HEK",) * 3), "HEK/a.png", version=(2,))
    assert study.read_cells(row).cell_types == ("HEK",) * 3
    assert not study.cells_path(row).with_suffix(".csv").exists()


def test_a_damaged_label_image_can_be_replaced(study):
    row = row_of(study, "mixed/m.png")
    study.cells_path(row).parent.mkdir(parents=True)
    study.cells_path(row).write_bytes(b"no TIFF")
    outcome = import_one(study, imported())
    assert outcome.done["mixed/m.png"]["changes"]["added"] == 3
    row = row_of(study, "mixed/m.png")
    assert (row.annotator, row.annotator_sha256) == ("import", "5ha")
    assert (row.cells, row.corrected, row.by_hand) == (3, True, "cells 1-3")


def test_an_edit_saved_while_the_source_is_read_is_kept(study):
    import_one(study, imported())
    row = row_of(study, "mixed/m.png")
    edited = np.where(LABELS == 3, 0, LABELS)

    def read(row, source):
        Cells.from_labels(edited, TYPES).write(study.cells_path(row))
        return source

    candidates = [CellsToImport(row, imported(LABELS * 0), (2,))]
    outcome = importing.import_cells(study, candidates, read)
    assert not outcome.done
    assert "changed while the run was under way" in outcome.failures["mixed/m.png"]
    np.testing.assert_array_equal(study.read_cells(row).labels, edited)
