"""Tests of drafts of COCO files."""

import json

from cellclass_tf.interchange.coco.drafts import Draft


def test_a_draft_becomes_a_file_with_running_numbers(tmp_path, cells, odd_cells):
    path = tmp_path / "cells.json"
    with Draft.open(tmp_path) as draft:
        draft.add({"id": 7}, odd_cells)
        assert not draft.has_unknown
        draft.add({"id": 9}, cells)
        assert draft.has_unknown
        draft.write(tmp_path, path, {"info": {"description": "two"}})
    told = json.loads(path.read_text())
    assert list(told) == ["info", "images", "annotations"]
    assert told["images"] == [{"id": 7}, {"id": 9}]
    ids = [(a["id"], a["image_id"], a["cell"]) for a in told["annotations"]]
    assert ids[:4] == [(1, 7, 1), (2, 7, 2), (3, 7, 3), (4, 9, 1)]
    assert len(ids) == draft.annotation_count == len(odd_cells) + len(cells)


def test_a_draft_without_images_removes_the_old_file(tmp_path, cells):
    path = tmp_path / "cells.json"
    for fields in ([cells], []):
        with Draft.open(tmp_path) as draft:
            for field in fields:
                draft.add({"id": 1}, field)
            draft.write(tmp_path, path, {})
        assert path.exists() == bool(fields)
