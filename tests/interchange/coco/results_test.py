"""Tests of COCO results, with pycocotools as reader."""

import numpy as np
from pycocotools.coco import COCO

from cellclass_tf.interchange.coco import results


def test_pycocotools_reads_the_same_masks(tmp_path, cells, odd_cells):
    fields = {"mixed/a": cells, "mixed/b": odd_cells}
    results.write_results(tmp_path, iter(fields.items()), cells.type_names)
    truth = COCO(str(tmp_path / results.IMAGES_FILE))
    found = truth.loadRes(str(tmp_path / results.RESULTS_FILE))
    assert [image["file_name"] for image in truth.dataset["images"]] == [
        "mixed/a.png",
        "mixed/b.png",
    ]
    for image_id, field in enumerate(fields.values(), start=1):
        records = found.loadAnns(found.getAnnIds([image_id]))
        assert len(records) == len(field)
        for number, record in enumerate(records, start=1):
            np.testing.assert_array_equal(
                found.annToMask(record), field.labels == number
            )
            wanted = field.cell_types[number - 1]
            assert truth.loadCats([record["category_id"]])[0]["name"] == wanted
