"""Tests of comparing corrected cells, and of the text of labels."""

import numpy as np
import pytest

from cellclass_tf.annotation import changes

OLD = np.array(
    [
        [1, 1, 0, 2, 2, 0, 3],
        [1, 1, 0, 2, 2, 0, 3],
    ]
)


def test_every_cell_is_kept_redrawn_added_or_removed():
    new = np.array(
        [
            [3, 3, 0, 1, 1, 0, 0],
            [3, 3, 0, 1, 0, 0, 2],
        ]
    )
    # Old 2 keeps 3 of its 4 px as 1 (IoU 0.75); old 3 keeps 1 of 2 (IoU 0.5) as 2.
    found = changes.compare(OLD, new)
    assert found.kept == ((1, 3),)
    assert sorted(found.redrawn) == [(2, 1), (3, 2)]
    assert not found.added
    assert not found.removed
    assert found
    new[:, 6] = 0
    new[0, 5] = 2
    found = changes.compare(OLD, new)
    assert (found.added, found.removed) == ((2,), (3,))
    assert found.counts == {"added": 1, "redrawn": 1, "removed": 1, "kept": 1}


def test_renumbered_labels_are_not_a_change():
    assert not changes.compare(OLD, np.array([0, 3, 1, 2])[OLD])


def test_drawn_cells_are_the_new_ones_and_those_that_were_drawn_before():
    found = changes.Changes(added=(5,), redrawn=((2, 4),), removed=(9,), kept=((1, 3),))
    assert found.labels_drawn([]) == [4, 5]
    assert found.labels_drawn([1, 9], said=[6]) == [3, 4, 6]
    assert found.labels_drawn([1, 9], said=[]) == [3, 4]


def test_lists_of_labels_are_written_as_ranges():
    labels = [3, 17, 18, 19, 21]
    assert changes.text_of(labels) == "cells 3,17-19,21"
    assert changes.text_of([]) == ""
    # Earlier versions wrote the numbers alone.
    for text in ("cells 3,17-19,21", "3,17-19,21"):
        assert changes.is_list(text)
        assert changes.labels_of(text, 100) == labels


@pytest.mark.parametrize("text", ["", "all", "3;4", "-5", "1-2-3", "cells ", "02. Jan"])
def test_invalid_lists_give_no_labels(text):
    assert changes.labels_of(text, 10) == []
    assert changes.is_list(text) == (text == "")


def test_labels_beyond_the_field_are_left_out():
    assert changes.labels_of("9-999999999999", 10) == [9, 10]
