"""Tests that a broken file of a study fails alone, for every command and kind of damage."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

import cellclass_tf as cc
from cellclass_tf.datasets import examples, simulation
from tests import by_hand, fake_model, file_events, predictions


@pytest.fixture(autouse=True)
def no_waiting():
    """Interrupts what would wait for a pipe for ever."""

    def end(*_):
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes a study of two fields per type and a mixed one, and results of it."""
    folder = tmp_path_factory.mktemp("made")
    root = folder / "study"
    cc.simulate(root, images_per_type=2, mixed=1, size=128, dishes=2)
    cc.convert(root / "raw", root, group=simulation.GROUP_PATTERN)
    study = cc.Study.open(root)
    for row in study.rows():
        by_hand.edit(study, row.image, verdict="accepted", reason="")
    cc.annotate(root, annotator="watershed")
    mixed = study.rows()[-1]
    labels = study.read_cells(mixed).labels
    types = ["HEK", *["N2a"] * (labels.max() - 1)]
    cells = cc.Cells.from_labels(labels, study.cell_types, types)
    cells.write(study.cells_path(mixed), types_csv=True)
    cc.annotate(root, annotator="watershed")
    fields = {row.stem: study.read_cells(row) for row in study.rows()}
    predictions.write_predictions(folder / "predictions", fields)
    cc.export_cellpose(root, folder / "cellpose")
    cc.export_coco(root, folder / "coco")
    fake_model.save_model(folder / "model")
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """Returns a copy that a test may change."""
    return shutil.copytree(made, tmp_path / "made")


KINDS = ("pipe", "link", "folder", "unreadable", "garbage")


@contextlib.contextmanager
def broken(path, kind):
    """Damages a file within the block."""
    if kind == "unreadable":
        with file_events.unreadable(path):
            yield
        return
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("nowhere")
    elif kind == "garbage":
        path.write_bytes(b"no image")
    yield


COMMANDS = {
    "annotate": lambda f: cc.annotate(
        f / "study", annotator="watershed", diameter=30, change_settings=True
    ),
    "dataset": lambda f: examples.check_study(cc.Study.open(f / "study")).outcome,
    # The true types differ from those of the corrected field.
    "import masks": lambda f: cc.import_masks(
        f / "study", f / "study" / "truth", overwrite_corrected=True
    ),
    "import coco": lambda f: cc.import_coco(f / "study", f / "coco" / "annotations"),
    "import cellpose": lambda f: cc.import_cellpose(f / "study", f / "cellpose"),
    "export coco": lambda f: cc.export_coco(f / "study", f / "coco2"),
    "export cellpose": lambda f: cc.export_cellpose(f / "study", f / "cellpose2"),
    "export imagej": lambda f: cc.export_cells(
        f / "study", f / "exported", format="imagej"
    ),
    "export coco results": lambda f: cc.export_cells(
        f / "study", f / "exported", format="coco"
    ),
    "export ome": lambda f: cc.export_cells(f / "study", f / "exported", format="ome"),
    "evaluate": lambda f: cc.evaluate(f / "predictions", f / "study"),
    "compare": lambda f: cc.compare(f / "predictions", f / "study", f / "compared"),
    "predict": lambda f: cc.predict(
        f / "model", f / "study", f / "predicted", cell_type="all"
    ),
    "convert": lambda f: cc.convert(
        f / "study" / "raw", f / "study", contrast="field", change_settings=True
    ),
}


# The files of a field that each command reads.
READS = {
    "annotate": ("image", "cells", "table"),
    "dataset": ("image", "cells", "table"),
    "import masks": ("image", "cells", "table"),
    "import coco": ("image", "cells", "table"),
    "import cellpose": ("cells", "table"),
    "export coco": ("image", "cells", "table"),
    "export cellpose": ("image", "cells", "table"),
    "export imagej": ("cells", "table"),
    "export coco results": ("cells", "table"),
    "export ome": ("cells", "table"),
    "evaluate": ("cells", "table"),
    "compare": ("cells", "table"),
    "predict": ("image",),
    "convert": ("image",),
}
CASES = [
    (command, entry, kind)
    for command in COMMANDS
    for entry in READS[command]
    # All commands use the same readers of images and label images.
    for kind in (KINDS if command in ("annotate", "predict", "evaluate") else KINDS[:2])
]


def failures_of(found):
    return found["failures"] if isinstance(found, dict) else found.failures


@pytest.mark.parametrize(("command", "entry", "kind"), CASES)
def test_a_broken_file_fails_alone(folder, command, entry, kind):
    study = cc.Study.open(folder / "study")
    # The mixed field has a table of types.
    row = study.rows()[-1 if entry == "table" else 0]
    path = study.image_path(row) if entry == "image" else study.cells_path(row)
    with broken(path.with_suffix(".csv") if entry == "table" else path, kind):
        found = COMMANDS[command](folder)
    ((name, reason),) = failures_of(found).items()
    assert row.stem in name
    assert row.name in reason
    assert "\n" not in reason
    if hasattr(found, "done"):
        assert len({**found.done, **found.skipped}) >= 3
    elif command == "evaluate":
        assert found["images"] == 4
    else:
        assert found.fields == 4
        assert not found.passed


@pytest.mark.parametrize(
    "command", sorted({*COMMANDS} - {"import masks", "import coco", "import cellpose"})
)
def test_a_row_that_leads_out_of_the_study_fails_alone(folder, command):
    study = cc.Study.open(folder / "study")
    by_hand.edit(study, study.rows()[0].image, image="..")
    found = COMMANDS[command](folder)
    if command in ("evaluate", "compare", "convert"):
        # These commands do not use the row; `convert` writes it again.
        assert not failures_of(found)
    else:
        reasons = [why for why in failures_of(found).values() if "'..'" in why]
        (reason,) = reasons
        assert "images.csv contains '..', a path that leads out of its folder" in reason
        assert len(found.done) >= 3


def test_pipes_broken_links_and_invalid_names_of_raw_files_fail_alone(folder, tmp_path):
    raw = tmp_path / "raw" / "HEK"
    shutil.copytree(folder / "study" / "raw" / "HEK", raw)
    (first, *_) = sorted(raw.iterdir())
    shutil.copyfile(first, os.fsencode(raw) + b"/\xff.ome.tif")
    shutil.copyfile(first, raw / "\udcff\u00e4.ome.tif")
    for kind in KINDS[:2]:
        with broken(raw / f"{kind}.tif", kind):
            pass
    found = cc.convert(raw.parent, tmp_path / "study")
    assert len(found.done) == 2
    assert len(found.failures) == 4
    told = " ".join(found.failures.values())
    assert "\\udcff.ome.tif: the name is not in UTF-8" in told
    assert "found a pipe" in told
    assert "found a broken link to nowhere" in told
    assert len(cc.Study.open(tmp_path / "study").rows()) == 2


def test_names_that_the_locale_cannot_encode_fail_alone(folder, tmp_path):
    raw = tmp_path / "raw" / "HEK"
    shutil.copytree(folder / "study" / "raw" / "HEK", raw)
    first = min(raw.iterdir())
    first.rename(first.with_name("Zürich.ome.tif"))
    # The command would start itself anew in UTF-8; a notebook cannot.
    script = (
        "import cellclass_tf as cc; found = cc.convert('raw', 'study'); "
        "print(len(found.done), *found.failures.values())"
    )
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    told = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | locale,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert told.startswith("1 ")
    assert "rich.ome.tif: the name is not in UTF-8" in told
    assert "export LC_ALL=C.UTF-8" in told


def test_a_study_whose_path_cannot_be_recorded_is_refused(folder):
    study = (folder / "study").rename(os.fsdecode(os.fsencode(folder) + b"/\xff"))
    with pytest.raises(cc.InputError, match="udcff: the name is not in UTF-8"):
        cc.annotate(study, annotator="watershed")


@pytest.mark.parametrize("command", ["annotate", "import masks", "dataset"])
def test_a_linked_folder_does_not_lead_out_of_a_study(folder, tmp_path, command):
    elsewhere = shutil.move(folder / "study" / "cells" / "HEK", tmp_path / "elsewhere")
    before = {
        path.name: path.read_bytes() for path in pathlib.Path(elsewhere).iterdir()
    }
    (folder / "study" / "cells" / "HEK").symlink_to(elsewhere)
    found = COMMANDS[command](folder)
    assert len(found.failures) == 2
    assert len(found.done) == 3 - (command == "annotate")
    assert all("by a symbolic link" in reason for reason in found.failures.values())
    assert before == {p.name: p.read_bytes() for p in pathlib.Path(elsewhere).iterdir()}


def test_a_study_may_be_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder / "study")
    assert cc.annotate(
        tmp_path / "link", annotator="watershed", diameter=30, change_settings=True
    ).done
