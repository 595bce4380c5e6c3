"""Tests of export to and import from cellpose's window."""

import dataclasses
import os
import pathlib
import shutil
import unittest.mock

import numpy as np
import pytest

from cellclass_tf.annotation import cell_files
from cellclass_tf.annotation.review import queue
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.cellpose_gui import export_cellpose, import_cellpose
from cellclass_tf.interchange.masks import import_masks
from cellclass_tf.storage import digests, png
from tests.annotation.cellpose_networks import MAJOR, needs_4

IMAGES = ("HEK/a.png", "N2a/a.png", "N2a/new.png", "mixed/m.png")
LABELS = np.zeros((40, 60), np.int32)
LABELS[5:15, 5:15] = 1
LABELS[5:15, 15:25] = 2
LABELS[25:35, 40:60] = 3


@pytest.fixture
def study(tmp_path):
    study = Study.create(tmp_path / "study")
    rows = []
    for number, name in enumerate(IMAGES):
        row = ImageRow(name, name.split("/")[0])
        image = np.zeros((40, 60, 3), np.uint8)
        image[..., 1] = LABELS * 20 + number
        png.write_png(study.image_path(row), image)
        if row.name != "new":
            kind = ["HEK", "N2a", "HEK"] if row.cell_type == "mixed" else None
            cells = Cells.from_labels(LABELS, study.cell_types, kind)
            made = {"annotator": "watershed", "annotation": "by machine"}
            types_csv = kind is not None
            made = cell_files.write_cells(study, row, cells, made, types_csv=types_csv)
            row = dataclasses.replace(row, **made)
        rows.append(row)
    study.update(rows)
    return study


@pytest.fixture
def exported(study, tmp_path):
    outcome = export_cellpose(study, tmp_path / "gui")
    assert not outcome.failures
    return tmp_path / "gui"


def _row(study, image):
    return next(row for row in study.rows() if row.image == image)


def _edit(path, **changes):
    content = np.load(path, allow_pickle=True).item()
    np.save(path, content | changes, allow_pickle=True)


def _masks(*, without=(), add=False):
    labels = LABELS.copy()
    labels[np.isin(labels, without)] = 0
    if add:
        labels[30:38, 5:15] = 9
    return np.unique(labels, return_inverse=True)[1].reshape(LABELS.shape)


def test_functions_of_cellpose_open_exported_files(exported):
    from cellpose import io

    images, labels, names = io.load_images_labels(
        str(exported / "HEK"), mask_filter="_seg.npy"
    )[:3]
    assert [pathlib.Path(name).name for name in names] == ["a.png"]
    np.testing.assert_array_equal(labels[0], LABELS)
    assert images[0].shape == (40, 60, 3)


class _Count(int):
    """The number of cells in the window of version 4, which can be set."""

    def set(self, number):
        self.number = number

    def get(self):
        return self.number


@pytest.mark.parametrize("cellpose_version", [3, 4])
def test_the_window_of_cellpose_opens_exported_files(
    study, tmp_path, monkeypatch, cellpose_version
):
    """The loader is that of the installed version, with a stub for the window."""
    from cellpose.gui import io as gui_io

    exported = tmp_path / "gui"
    export_cellpose(study, exported, cellpose_version=cellpose_version)
    window = unittest.mock.MagicMock()
    window.NZ, window.restore = 1, None
    window.colormap = np.zeros((1000, 3), np.uint8)
    window.ncells, window.stack_filtered = 0, None
    if MAJOR == 4:
        window.ncells = _Count()
    monkeypatch.setattr(
        gui_io,
        "_initialize_images",
        lambda parent, image, load_3D: setattr(parent, "seen", image),
    )
    path = exported / "HEK" / "a_seg.npy"
    gui_io._load_seg(window, str(path))
    assert window.loaded is True
    np.testing.assert_array_equal(window.cellpix[0], LABELS)
    assert (window.ncells.get() if MAJOR == 4 else window.ncells) == 3
    # The image was found by the name in the file.
    assert window.filename.endswith("HEK/a.png")
    assert window.seen.shape == (40, 60, 3)
    chosen = [
        c.args for c in window.ChannelChoose.__getitem__().setCurrentIndex.mock_calls
    ]
    shows_channels = MAJOR == cellpose_version == 3
    assert chosen == ([(2,), (3,)] if shows_channels else [])


def test_files_of_version_4_have_no_channels_and_a_diameter_that_may_be_nan(
    study, tmp_path
):
    row = _row(study, "HEK/a.png")
    study.update([dataclasses.replace(row, diameter_px=33.0)])
    export_cellpose(study, tmp_path / "gui", cellpose_version=4)
    known, unknown = (
        np.load(tmp_path / "gui" / name / "a_seg.npy", allow_pickle=True).item()
        for name in ("HEK", "N2a")
    )
    assert known["diameter"] == 33
    assert np.isnan(unknown["diameter"])
    for content in (known, unknown):
        assert not {"chan_choose", "est_diam"} & set(content)
        np.testing.assert_array_equal(content["masks"], LABELS)
    with pytest.raises(InputError, match="cellpose version 3 or 4; got 5"):
        export_cellpose(study, tmp_path / "gui", cellpose_version=5)


def test_files_saved_by_version_4_are_imported(study, tmp_path):
    """Its window writes no channels, lists of changes, and a diameter of NaN."""
    export_cellpose(study, tmp_path / "gui", cellpose_version=4)
    path = tmp_path / "gui" / "HEK" / "a_seg.npy"
    _edit(
        path,
        masks=_masks(add=True).astype(np.uint16),
        colors=np.zeros((4, 3), np.uint8),
        ismanual=np.array([False, False, False, True]),
        manual_changes=[["26/11/27 12:00:00", "added mask", [4]]],
        model_path=pathlib.PurePosixPath("/models/cpsam"),
        flow_threshold=0.4,
        cellprob_threshold=0.0,
        normalize_params={"lowhigh": None, "percentile": [1.0, 99.0]},
        restore=None,
        ratio=1.0,
        diameter=np.nan,
    )
    outcome = import_cellpose(study, tmp_path / "gui")
    assert not outcome.failures
    assert outcome.done["HEK/a.png"]["changes"]["added"] == 1
    assert _row(study, "HEK/a.png").by_hand == "cells 4"
    assert _row(study, "HEK/a.png").diameter_px is None


@needs_4
def test_files_written_by_the_window_of_version_4_are_imported(study, tmp_path):
    """The function that saves is that of version 4, with a stub for the window."""
    from cellpose.gui import io as gui_io

    export_cellpose(study, tmp_path / "gui", cellpose_version=4)
    labels = _masks(add=True).astype(np.uint16)
    window = unittest.mock.MagicMock(
        filename=str(tmp_path / "gui" / "HEK" / "a.png"),
        color="RGB",
        NZ=1,
        restore=None,
        ratio=1.0,
        outpix=labels[None],
        cellpix=labels[None],
        cellcolors=np.zeros((5, 3), np.uint8),
        flows=[np.zeros((1, 40, 60, 3), np.uint8), []],
        ismanual=np.array([False, False, False, True]),
        track_changes=[["26/11/27 12:00:00", "added mask", [4]]],
        current_model_path=0,
    )
    window.RGBDropDown.name_map = {"RGB": 0}
    settings = window.segmentation_settings
    settings.flow_threshold, settings.cellprob_threshold = 0.4, 0.0
    settings.diameter = np.nan
    window.get_normalize_params.return_value = {"lowhigh": None}
    gui_io._save_sets(window)
    outcome = import_cellpose(study, tmp_path / "gui")
    assert not outcome.failures
    assert outcome.done["HEK/a.png"]["changes"]["added"] == 1
    assert _row(study, "HEK/a.png").by_hand == "cells 4"


def test_an_image_whose_type_was_changed_keeps_its_folder(study, tmp_path):
    row = dataclasses.replace(_row(study, "HEK/a.png"), cell_type="N2a")
    study.update([row])
    gui = tmp_path / "gui"
    assert not export_cellpose(study, gui).failures
    for image, without in (("HEK/a", [1]), ("N2a/a", [1, 2])):
        _edit(gui / f"{image}_seg.npy", masks=_masks(without=without))
    assert not import_cellpose(study, gui).failures
    cells = [study.read_cells(_row(study, f"{name}/a.png")) for name in ("HEK", "N2a")]
    assert [c.cell_types for c in cells] == [("N2a",) * 2, ("N2a",)]


def test_untouched_files_change_nothing(study, exported):
    manifest = study.manifest_path.read_bytes()
    outcome = import_cellpose(study, exported)
    assert sorted(outcome.done) == ["HEK/a.png", "N2a/a.png", "mixed/m.png"]
    assert study.manifest_path.read_bytes() == manifest
    assert outcome.done["HEK/a.png"]["notes"] == ["as it was exported"]


def _paint(study, image):
    labels = LABELS.copy()
    labels[30:38, 0:8] = 4
    Cells.from_labels(labels, study.cell_types).write(
        study.cells_path(_row(study, image))
    )


def test_an_unchanged_file_does_not_undo_other_corrections(study, exported):
    _paint(study, "HEK/a.png")
    outcome = import_cellpose(study, exported)
    assert outcome.done["HEK/a.png"]["notes"] == ["as it was exported"]
    assert len(study.read_cells(_row(study, "HEK/a.png"))) == 4
    # An export updates the file, since nobody changed it.
    assert not export_cellpose(study, exported).failures
    assert not import_cellpose(study, exported).failures
    assert len(study.read_cells(_row(study, "HEK/a.png"))) == 4


def test_a_conflict_between_file_and_study_is_reported(study, exported):
    _paint(study, "HEK/a.png")
    _edit(exported / "HEK" / "a_seg.npy", masks=_masks(without=[1]))
    outcome = import_cellpose(study, exported)
    assert "was changed, and so were the study's" in outcome.failures["HEK/a.png"]
    assert len(study.read_cells(_row(study, "HEK/a.png"))) == 4
    import_cellpose(study, exported, overwrite_corrected=True)
    assert len(study.read_cells(_row(study, "HEK/a.png"))) == 2


def test_corrections_can_continue_after_an_import(study, exported):
    path = exported / "HEK" / "a_seg.npy"
    _edit(path, masks=_masks(without=[1]), ismanual=[False, False])
    import_cellpose(study, exported)
    _edit(path, masks=_masks(without=[1, 2]), ismanual=[False])
    outcome = import_cellpose(study, exported)
    assert not outcome.failures
    assert len(study.read_cells(_row(study, "HEK/a.png"))) == 1
    assert import_cellpose(study, exported).skipped


def test_two_files_for_one_image_fail(study, exported):
    shutil.copytree(exported / "HEK", exported / "old" / "HEK")
    outcome = import_cellpose(study, exported)
    assert "match it. Remove one of them" in outcome.failures["HEK/a.png"]


def test_an_existing_image_of_another_program_is_not_overwritten(study, tmp_path):
    strange = tmp_path / "gui" / "HEK" / "a.png"
    strange.parent.mkdir(parents=True)
    strange.write_bytes(b"mine")
    outcome = export_cellpose(study, tmp_path / "gui")
    assert "a.png already exists, and was changed" in outcome.failures["HEK/a.png"]
    assert strange.read_bytes() == b"mine"


def test_corrections_are_imported_and_counted(study, exported):
    masks = _masks(without=[2], add=True)
    # Cell 3 is now 2, and grows by a column.
    masks[25:35, 39] = 2
    _edit(exported / "N2a" / "a_seg.npy", masks=masks, ismanual=[False, False, True])
    outcome = import_cellpose(study, exported)
    changes = {"added": 1, "redrawn": 1, "removed": 1, "kept": 1}
    assert outcome.done["N2a/a.png"]["changes"] == changes
    row = _row(study, "N2a/a.png")
    assert (row.annotator, row.corrected, row.by_hand) == ("import", True, "cells 2-3")
    assert row.cells_sha256 == digests.sha256_of_file(study.cells_path(row))
    cells = study.read_cells(row)
    np.testing.assert_array_equal(cells.labels, masks)
    assert cells.cell_types == ("N2a",) * 3
    assert not _row(study, "HEK/a.png").corrected


def test_hand_drawn_cells_survive_a_round_trip(study, exported, tmp_path):
    masks = _masks(add=True)
    _edit(exported / "HEK" / "a_seg.npy", masks=masks, ismanual=[False] * 3 + [True])
    import_cellpose(study, exported)
    assert _row(study, "HEK/a.png").by_hand == "cells 4"
    export_cellpose(study, tmp_path / "again")
    content = np.load(tmp_path / "again/HEK/a_seg.npy", allow_pickle=True).item()
    assert content["ismanual"].tolist() == [False, False, False, True]
    # The second correction removes cell 1; the hand-drawn cell still counts as hand-drawn.
    masks = _masks(without=[1], add=True)
    path = tmp_path / "again/HEK/a_seg.npy"
    _edit(path, masks=masks, ismanual=[False, False, True])
    import_cellpose(study, tmp_path / "again")
    assert _row(study, "HEK/a.png").by_hand == "cells 3"


def test_types_of_a_mixed_field_survive_a_correction(study, exported):
    _edit(exported / "mixed" / "m_seg.npy", masks=_masks(without=[1], add=True))
    import_cellpose(study, exported)
    # Left are 2 (N2a), 3 (HEK) and a new one.
    cells = study.read_cells(_row(study, "mixed/m.png"))
    assert cells.cell_types == ("N2a", "HEK", "unknown")


def test_a_second_import_reads_no_file_again(study, exported):
    _edit(exported / "HEK" / "a_seg.npy", masks=_masks(without=[1]))
    import_cellpose(study, exported)
    assert "HEK/a.png" in import_cellpose(study, exported).skipped


def test_a_copy_of_an_imported_file_does_not_undo_corrections(study, exported):
    shutil.rmtree(exported / ".journal")
    path = exported / "HEK" / "a_seg.npy"
    _edit(path, masks=_masks(without=[1]))
    import_cellpose(study, exported)
    _paint(study, "HEK/a.png")
    os.utime(path, (1, 1))
    assert "HEK/a.png" in import_cellpose(study, exported).skipped
    assert len(study.read_cells(_row(study, "HEK/a.png"))) == 4


def test_corrections_in_the_folder_are_never_overwritten(study, exported):
    path = exported / "HEK" / "a_seg.npy"
    _edit(path, masks=_masks(without=[1]))
    before = path.read_bytes()
    outcome = export_cellpose(study, exported)
    assert (
        "was changed since it was exported. Import it" in outcome.failures["HEK/a.png"]
    )
    assert path.read_bytes() == before
    import_cellpose(study, exported)
    assert not export_cellpose(study, exported).failures


def test_an_image_without_cells_has_no_seg_file(exported):
    assert (exported / "N2a" / "new.png").exists()
    assert not (exported / "N2a" / "new_seg.npy").exists()


def test_cells_drawn_in_an_empty_image_are_imported(study, exported):
    path = exported / "N2a" / "new_seg.npy"
    shutil.copy(exported / "N2a" / "a_seg.npy", path)
    _edit(path, ismanual=[True, True, False])
    outcome = import_cellpose(study, exported)
    assert outcome.done["N2a/new.png"]["changes"]["added"] == 3
    # The third one was found by a network in cellpose's window.
    assert _row(study, "N2a/new.png").by_hand == "cells 1-2"


def test_stray_pixels_are_removed_with_a_note(study, exported):
    masks = _masks()
    masks[0, 0] = 1
    _edit(exported / "HEK" / "a_seg.npy", masks=masks, ismanual=[True, False, False])
    outcome = import_cellpose(study, exported)
    notes = outcome.done["HEK/a.png"]["notes"]
    assert notes == ["1 stray px apart from their cell were removed"]
    assert study.read_cells(_row(study, "HEK/a.png")).labels[0, 0] == 0


class _Touch:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self._path,)


def _two_pieces():
    masks = _masks()
    masks[0:4, 40:50] = 1
    return masks


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": LABELS[:-1]}, "have 39 x 60 px and HEK/a.png has 40 x 60"),
        (
            {"masks": np.where(LABELS == 3, 7, LABELS)},
            "number 3 is missing, but there is 7",
        ),
        (
            {"masks": _two_pieces()},
            "number 1 is in 2 pieces",
        ),
        ({"masks": LABELS / 2}, "expected a dictionary with 'masks', a label image"),
        ({"masks": np.stack([LABELS, LABELS])}, r"masks of one plane"),
        ({"masks": None}, "expected a dictionary with 'masks'"),
    ],
)
def test_invalid_files_fail_alone_with_their_names(study, exported, changes, message):
    _edit(exported / "HEK" / "a_seg.npy", **changes)
    _edit(exported / "N2a" / "a_seg.npy", masks=_masks(without=[1]))
    before = study.cells_path(_row(study, "HEK/a.png")).read_bytes()
    outcome = import_cellpose(study, exported)
    assert list(outcome.failures) == ["HEK/a.png"]
    assert message in outcome.failures["HEK/a.png"]
    assert "a_seg.npy" in outcome.failures["HEK/a.png"]
    assert _row(study, "N2a/a.png").corrected
    assert study.cells_path(_row(study, "HEK/a.png")).read_bytes() == before


def test_malicious_and_truncated_files_fail_alone_and_run_no_code(
    study, exported, tmp_path
):
    trap = tmp_path / "trap"
    _edit(exported / "HEK" / "a_seg.npy", extra=_Touch(trap))
    torn = exported / "N2a" / "a_seg.npy"
    torn.write_bytes(torn.read_bytes()[:-500])
    outcome = import_cellpose(study, exported)
    assert "No code from it was run" in outcome.failures["HEK/a.png"]
    assert "a_seg.npy: expected a .npy file" in outcome.failures["N2a/a.png"]
    assert list(outcome.done) == ["mixed/m.png"]
    assert not trap.exists()


def test_files_without_an_image_fail_alone_and_empty_folders_fail(
    study, exported, tmp_path
):
    shutil.copy(exported / "HEK/a_seg.npy", exported / "HEK/stranger_seg.npy")
    outcome = import_cellpose(study, exported)
    assert list(outcome.failures) == ["HEK/stranger_seg.npy"]
    with pytest.raises(InputError, match=r"expected a folder with files NAME_seg\.npy"):
        import_cellpose(study, tmp_path / "nothing")


def test_old_files_with_background_minus_one_are_read(study, exported):
    _edit(exported / "HEK" / "a_seg.npy", masks=_masks(without=[1]).astype(int) - 1)
    import_cellpose(study, exported)
    assert len(study.read_cells(_row(study, "HEK/a.png"))) == 2


def test_masks_and_cellpose_files_give_the_same_cells(study, exported, tmp_path):
    """After an import in one format, an import in the other format changes nothing."""
    png.write_png(tmp_path / "masks/HEK/a.png", _masks(without=[1]).astype(np.uint16))
    import_masks(study, tmp_path / "masks")
    export_cellpose(study, tmp_path / "after")
    shutil.rmtree(tmp_path / "after" / ".journal")
    outcome = import_cellpose(study, tmp_path / "after")
    assert outcome.done["HEK/a.png"]["changes"]["kept"] == 2


def test_only_the_first_fields_of_the_queue_are_exported(study, tmp_path):
    with pytest.raises(InputError, match=r"queue\.csv: expected fields to correct"):
        export_cellpose(study, tmp_path / "gui", first=1)
    rows = [
        dataclasses.replace(_row(study, "HEK/a.png"), doubts="two nuclei 1"),
        dataclasses.replace(_row(study, "N2a/a.png"), doubts="two nuclei 9"),
    ]
    study.update(rows)
    queue.write_queue(study)
    assert list(export_cellpose(study, tmp_path / "gui", first=1).done) == ["N2a/a.png"]


def test_rejected_images_are_not_exported(study, tmp_path):
    study.update([dataclasses.replace(r, verdict="rejected") for r in study.rows()])
    with pytest.raises(InputError, match="expected accepted images"):
        export_cellpose(study, tmp_path / "gui")


def test_outlines_lie_within_their_cells_even_if_cells_touch(exported):
    path = exported / "HEK" / "a_seg.npy"
    outlines = np.load(path, allow_pickle=True).item()["outlines"]
    assert (outlines[10, 14], outlines[10, 15]) == (1, 2)
    assert outlines[10, 10] == outlines[0, 0] == 0
    # The same holds at the border of the image.
    assert outlines[30, 59] == 3
    np.testing.assert_array_equal(outlines[outlines > 0], LABELS[outlines > 0])


def test_nested_lists_are_not_accepted_as_flags(study, exported):
    shared = []
    for _ in range(60):
        shared = [shared, shared]
    path = exported / "HEK" / "a_seg.npy"
    _edit(path, masks=_masks(without=[1]), ismanual=shared)
    outcome = import_cellpose(study, exported)
    assert not outcome.failures
    _edit(path, masks=shared)
    (problem,) = import_cellpose(study, exported).failures.values()
    assert "expected a dictionary with 'masks', a label image" in problem


def test_every_file_is_accounted_for_and_linked_folders_are_read(
    study, exported, tmp_path
):
    (exported / "N2a").rename(tmp_path / "server")
    (exported / "N2a").symlink_to(tmp_path / "server")
    png.write_png(exported / "HEK" / "unsaved.png", np.zeros((8, 8), np.uint8))
    (exported / "notes.txt").touch()
    _edit(exported / "N2a" / "a_seg.npy", masks=_masks(without=[1]))
    outcome = import_cellpose(study, exported)
    assert not outcome.failures
    assert len(study.read_cells(_row(study, "N2a/a.png"))) == 2
    read, bare, rest = outcome.notes
    assert read.startswith("read: ")
    assert "*_seg.npy (" in read
    assert bare == "left out: 2 images without *_seg.npy (unsaved.png, new.png)"
    assert rest == "left out: 1 of other kinds (notes.txt)"
