"""Tests of the uses of corrected fields, and of the pieces to train on."""

import dataclasses

import numpy as np
import pytest
import torch
from cellpose import io

from cellclass_tf.annotation.finetuning import material
from cellclass_tf.errors import InputError
from tests.annotation import cellpose_networks

CPU = torch.device("cpu")
# Version 4 has an empty one.
PLANES = 2 if cellpose_networks.MAJOR == 3 else 3


def _images(rows):
    return [row.image for row in rows]


def test_validation_is_held_out_if_there_is_no_test_split(study):
    roles, _ = material.roles_of(study, study.rows(), study.rows())
    assert _images(roles.held_out) == ["HEK/d2.png", "N2a/d2.png"]
    assert not roles.choose
    assert len(roles.train) == 4


def test_test_and_mixed_fields_are_held_out_and_validation_chooses(study):
    rows = study.rows()
    rows[0] = dataclasses.replace(rows[0], split="test")
    rows[3] = dataclasses.replace(rows[3], cell_type="mixed", split="")
    roles, rows = material.roles_of(study, rows, rows)
    assert _images(roles.held_out) == ["HEK/d0.png", "N2a/d0.png"]
    assert _images(roles.choose) == ["HEK/d2.png", "N2a/d2.png"]
    assert _images(roles.train) == ["HEK/d1.png", "N2a/d1.png"]
    assert rows[3].split == "mixed"


def test_one_group_is_refused(study):
    rows = [dataclasses.replace(r, group="one", split="") for r in study.rows()]
    with pytest.raises(
        InputError, match=r"another acquisition group.*got 6 field\(s\) of 1 group"
    ):
        material.roles_of(study, rows, rows)


def test_split_of_a_group_is_that_of_its_fields_that_are_not_corrected(study):
    every = study.rows()
    # A new corrected field of a dish whose other field is in test.
    every[0] = dataclasses.replace(every[0], split="test", group="g")
    every[1] = dataclasses.replace(every[1], split="", group="g")
    every[4] = dataclasses.replace(every[4], split="")
    roles, rows = material.roles_of(study, every[1:], every)
    assert _images(roles.held_out) == ["HEK/d1.png"]
    assert rows[0].split == "test"


def test_one_of_two_dishes_is_held_out(study):
    rows = [
        dataclasses.replace(r, split="") for r in study.rows() if "d2" not in r.image
    ]
    roles, rows = material.roles_of(study, rows, rows)
    held_out, trained = _images(roles.held_out), _images(roles.train)
    assert [image.split("/")[0] for image in held_out] == ["HEK", "N2a"]
    assert sorted(held_out + trained) == sorted(row.image for row in rows)


def test_a_dish_that_shows_a_scene_of_another_one_is_not_held_out(study):
    rows = [
        dataclasses.replace(
            r, split="", raw_sha256="5a" if r.cell_type == "HEK" else ""
        )
        for r in study.rows()
        if "d2" not in r.image
    ]
    roles, _ = material.roles_of(study, rows, rows)
    assert [image.split("/")[0] for image in _images(roles.held_out)] == ["N2a"]
    alone = [row for row in rows if row.cell_type == "HEK"]
    with pytest.raises(InputError, match="of another acquisition group"):
        material.roles_of(study, alone, alone)


def test_given_splits_are_kept_even_if_nothing_is_held_out(study):
    rows = [dataclasses.replace(row, split="train") for row in study.rows()]
    with pytest.raises(InputError, match=r"of 6 group.*in the splits train"):
        material.roles_of(study, rows, rows)


def test_large_fields_are_cut_into_pieces(study, tmp_path, monkeypatch):
    import tifffile

    monkeypatch.setattr(material, "_LARGEST_PIECE_PX", 30)
    rows = study.rows()
    roles = material.Roles((rows[0],), (rows[1],), (rows[2],))
    pieces = material.prepare(study, roles, tmp_path, 1.0, CPU)
    # 40 x 80 px: two by three, all of which hold cells.
    shapes = {tifffile.imread(piece.image).shape for piece in pieces}
    assert len(pieces) == 6
    assert shapes == {(PLANES, 20, 27), (PLANES, 20, 26)}


def test_group_in_two_splits_is_refused(study):
    rows = [dataclasses.replace(r, group="one") for r in study.rows()]
    with pytest.raises(InputError, match="would be a data leak"):
        material.roles_of(study, rows, rows)


def test_pieces_can_be_read_by_cellpose_and_lack_the_part_kept_out(study, tmp_path):
    roles, _ = material.roles_of(study, study.rows(), study.rows())
    pieces = material.prepare(study, roles, tmp_path, 1.0, CPU)
    assert [piece.weight for piece in pieces] == [0.25] * 4
    image, flows = (io.imread(str(p)) for p in (pieces[0].image, pieces[0].flows))
    # Three quarters of 80 columns; the two cells in column 66 are not there.
    assert image.shape == (PLANES, 40, 60)
    assert flows.shape == (4, 40, 60)
    assert np.unique(flows[0]).tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(flows[1] > 0.5, flows[0] > 0)
    # Stretched by the percentiles of the whole field: from 0 to 1.
    assert (image[0].min(), image[0].max()) == (0, 1)


def test_whole_fields_are_trained_on_if_others_choose_the_round(study, tmp_path):
    rows = study.rows()
    roles = material.Roles((rows[0],), (rows[1],), (rows[2],))
    (piece,) = material.prepare(study, roles, tmp_path, 1.0, CPU)
    assert io.imread(str(piece.flows)).shape == (4, 40, 80)


def test_hand_drawn_cells_have_windows_and_their_share_of_draws(study, tmp_path):
    import tifffile

    rows = study.rows()
    row = dataclasses.replace(rows[0], by_hand="2,6")
    roles = material.Roles((row, rows[1]), (), (rows[2],))
    pieces = material.prepare(study, roles, tmp_path, 3.0, CPU)
    # Cell 6 lies in the part that is kept out. Two fields share a third of the draws.
    assert [round(piece.weight, 4) for piece in pieces] == [0.1667, 0.1667, 0.6667]
    labels = tifffile.imread(pieces[2].flows)[0]
    # Around cell 2, rows 4 to 12 and columns 30 to 38, four times its width.
    assert labels.shape == (8 + 16, 32)
    assert labels[8, 16] > 0


def test_fields_without_cells_are_refused(study, tmp_path):
    import tifffile

    rows = study.rows()
    for row in rows:
        tifffile.imwrite(study.cells_path(row), np.zeros((40, 80), np.uint16))
    roles, _ = material.roles_of(study, rows, rows)
    with pytest.raises(InputError, match="hold no cells to train on"):
        material.prepare(study, roles, tmp_path, 1.0, CPU)
