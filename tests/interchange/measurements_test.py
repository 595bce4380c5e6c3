"""Tests of the table of a field's cells."""

import numpy as np

from cellclass_tf.analysis import cell_table, sources
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.interchange import measurements
from cellclass_tf.microscopy import contrast
from cellclass_tf.storage import png
from tests.predictions import write_predictions


def test_cells_of_a_study_are_measured_with_place_and_contrast(tmp_path, cells):
    study = Study.create(tmp_path, cells.type_names)
    row = ImageRow(
        "mixed/a.png",
        "mixed",
        pixel_size_um=0.5,
        group="d1",
        scene_name="pos3",
        time=2,
        contrast="group",
        nuclei_limits="100-610",
        cytoplasm_limits="0-255",
    )
    study.update([row])
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    png.write_png(study.image_path(row), image)
    cells.write(study.cells_path(row), types_csv=True)
    (field,) = sources.fields_of(study.root)
    assert measurements.rows_of(field, cells) == cell_table.cell_table(
        cells,
        image,
        name="mixed/a",
        group="d1",
        scene=row.place,
        time=2,
        pixel_size_um=0.5,
        limits=contrast.limits_by_channel(row),
    )


def test_cells_of_a_run_are_those_of_its_table(tmp_path, cells, odd_cells):
    fields = {"a": cells, "b": odd_cells}
    run = write_predictions(tmp_path, fields)
    for field in sources.fields_of(run):
        rows = measurements.rows_of(field, fields[field.stem])
        assert rows == cell_table.cell_table(fields[field.stem], name=field.stem)
