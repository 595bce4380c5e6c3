"""Tests of cellclass_tf.maskrcnn.cell_namer.finished."""

import pytest

import cellclass_tf as cc
from cellclass_tf.maskrcnn.cell_namer import finished


def test_a_broken_record_is_named_in_the_message(tmp_path):
    (tmp_path / finished.FOLDER).mkdir()
    (tmp_path / finished.FOLDER / finished.RECORD_FILE).write_text("{}")
    with pytest.raises(cc.InputError, match=r"namer.json.*Train again"):
        finished.load(tmp_path)
