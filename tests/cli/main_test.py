"""Tests of cellclass_tf.cli."""

import numpy as np
import pytest

from cellclass_tf.cli import main
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.storage import digests, png


def test_help_names_every_command_and_its_flags(capsys):
    assert main.run(["--help"]) == main.DONE
    shown = capsys.readouterr().out
    assert all(name in shown for name in main.COMMANDS)
    assert main.run(["convert", "--help"]) == main.DONE
    assert "--cell_type" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["segment"], "unknown command 'segment'; known are demo"),
        (["dataset"], "--study is missing"),
        (["dataset", "--stdy=x"], "stdy"),
        (["dataset", "x"], "expected only --flag=value, got 'x'"),
        (["simulate", "--study=x", "--mixed=many"], "many"),
        # The former name of the flag still works.
        (["simulate", "--study=x", "--tied=colour"], "'colour' is not a known quality"),
        (["import", "--study=x", "--source=y", "--format=jpeg"], "jpeg"),
        (["export", "--output=x"], "either --study or --predictions"),
        (["export", "--predictions=x", "--output=x"], "for correcting a study"),
        (["report", "--predictions=x"], "holds no predictions"),
        (["compare", "--a=x", "--b=y", "--output=z"], "holds no predictions"),
    ],
)
def test_invalid_commands_print_the_usage(capsys, arguments, message):
    assert main.run(arguments) == main.USAGE
    assert message in capsys.readouterr().err


def test_some_failures_are_listed_and_make_status_1(tmp_path, capsys):
    raw = tmp_path / "raw" / "HEK"
    raw.mkdir(parents=True)
    (raw / "a.tif").write_text("no picture")
    arguments = [f"--input={tmp_path / 'raw'}", f"--study={tmp_path / 's'}"]
    assert main.run(["convert", *arguments]) == main.SOME_FAILED
    shown = capsys.readouterr().out
    assert "1 failed" in shown
    assert "a.tif: of no known format" in shown


def test_an_empty_folder_or_study_gives_one_clear_message(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    arguments = [f"--input={tmp_path / 'empty'}", f"--study={tmp_path / 's'}"]
    assert main.run(["convert", *arguments]) == main.USAGE
    assert capsys.readouterr().err.count("\n") == 1
    Study.create(tmp_path / "s")
    assert main.run(["dataset", f"--study={tmp_path / 's'}"]) == main.USAGE
    assert "no annotated images" in capsys.readouterr().err


def test_the_exit_status_of_trace_says_whether_the_chain_is_intact(tmp_path, capsys):
    study, raw = Study.create(tmp_path / "s"), tmp_path / "a.tif"
    raw.write_bytes(b"micrograph")
    row = ImageRow(
        image="HEK/a.png",
        cell_type="HEK",
        raw_file=str(raw),
        raw_sha256=digests.sha256_of_file(raw),
    )
    png.write_png(study.image_path(row), np.zeros((4, 4, 3), np.uint8))
    study.update([row])
    image = str(study.image_path(row))
    assert main.run(["trace", image]) == main.DONE
    assert "= same          raw file" in capsys.readouterr().out
    raw.write_bytes(b"another")
    assert main.run(["trace", "a", f"--study={tmp_path / 's'}"]) == main.SOME_FAILED
    assert "X changed       raw file" in capsys.readouterr().out
    assert main.run(["trace", image.replace("a.png", "b.png")]) == main.USAGE
    assert "similar names: HEK/a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trace"], "IMAGE is missing.\n\ncellclass trace IMAGE: "),
        (["trace", "a", "--study=s", "b"], "expected one IMAGE, got 'b'"),
        (["trace", "a", "--cell=first"], "first"),
    ],
)
def test_trace_takes_one_image_and_flags_before_or_after_it(capsys, arguments, message):
    assert main.run(arguments) == main.USAGE
    assert message in capsys.readouterr().err
