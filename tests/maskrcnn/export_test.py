"""Tests of cellclass_tf.maskrcnn.export; training_test and one_process_test export."""

import pytest

from cellclass_tf.core.model_metadata import METADATA_FILE
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import export
from tests.metadata import model_metadata


def test_a_folder_with_other_content_is_not_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(InputError, match="is not an exported model"):
            export._check_output(place)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_new_folder_an_empty_one_and_a_models_folder_are_accepted(tmp_path):
    export._check_output(tmp_path / "new")
    export._check_output(tmp_path)
    model_metadata().write(tmp_path / METADATA_FILE)
    export._check_output(tmp_path)


@pytest.mark.parametrize("views", [0, 9])
def test_numbers_of_views_other_than_one_to_eight_are_refused(views):
    with pytest.raises(InputError, match=f"1 to 8 views; got {views}"):
        export._check_views(views)


def test_a_run_without_checkpoints_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match="no checkpoint found"):
        export.export("cellclass_maskrcnn_small", tmp_path / "run", tmp_path / "model")
    assert not (tmp_path / "model").exists()
