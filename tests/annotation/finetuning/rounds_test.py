"""Tests of cellclass_tf.annotation.finetuning.rounds."""

import pytest

from cellclass_tf.annotation.finetuning.rounds import Rounds, sha256s_of_run
from cellclass_tf.errors import InputError
from cellclass_tf.storage import digests

SETTINGS = {"epochs": 60}


@pytest.fixture
def output(tmp_path):
    return tmp_path / "tuned"


def test_rounds_of_the_same_settings_are_continued(output):
    Rounds.open(output, SETTINGS).add(0.5)
    assert Rounds.open(output, SETTINGS).scores == [0.5]
    other = Rounds.open(output, {"epochs": 20})
    assert other.scores == []
    # The rounds of the other settings are gone.
    assert Rounds.open(output, SETTINGS).scores == []


def test_a_damaged_record_counts_as_no_rounds(output):
    opened = Rounds.open(output, SETTINGS)
    opened.add(0.5)
    (opened.folder / "rounds.json").write_text('{"fingerprint": ')
    assert Rounds.open(output, SETTINGS).scores == []


def test_a_folder_of_other_files_is_refused(output):
    folder = output.with_name("tuned.rounds")
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="already exists, and holds other files"):
        Rounds.open(output, SETTINGS)


def test_training_stops_after_three_rounds_without_improvement(output):
    opened = Rounds.open(output, SETTINGS)
    for score in (0.5, 0.6, 0.6, 0.59):
        opened.add(score)
    assert not opened.are_hopeless
    opened.add(0.6)
    assert opened.are_hopeless


def test_weights_of_rounds_and_the_replaced_file_are_known(output):
    assert sha256s_of_run(output) == {""}
    output.write_bytes(b"before")
    opened = Rounds.open(output, SETTINGS)
    opened.begin(output)
    opened.weights(1).write_bytes(b"tuned")
    files = (output, opened.weights(1))
    assert sha256s_of_run(output) == {digests.sha256_of_file(path) for path in files}
