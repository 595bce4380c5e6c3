"""Tests of cellclass_tf.maskrcnn.export; training_test and one_process_test export."""

import pytest

from cellclass_tf.core.model_metadata import METADATA_FILE
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import export
from tests.metadata import model_metadata


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(InputError, match="is no exported model"):
            export._check_output(place)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_new_an_empty_and_a_models_folder_may_be_written(tmp_path):
    export._check_output(tmp_path / "new")
    export._check_output(tmp_path)
    model_metadata().write(tmp_path / METADATA_FILE)
    export._check_output(tmp_path)


@pytest.mark.parametrize("views", [0, 9])
def test_there_are_one_to_eight_views(views):
    with pytest.raises(InputError, match=f"1 to 8 views; got {views}"):
        export._check_views(views)


def test_a_run_without_checkpoints_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match="no checkpoint there"):
        export.export("cellclass_maskrcnn_small", tmp_path / "run", tmp_path / "model")
    assert not (tmp_path / "model").exists()
