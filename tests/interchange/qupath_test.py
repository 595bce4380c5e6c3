"""Tests of GeoJSON, with Shapely as reader."""

import json
import uuid

import numpy as np
import shapely
from shapely import geometry

from cellclass_tf.analysis import cell_table
from cellclass_tf.interchange import qupath


def written(path, cells):
    rows = cell_table.cell_table(cells, name="a", pixel_size_um=0.5)
    qupath.write_geojson(path, cells, rows, name="a")
    return json.loads(path.read_text())["features"]


def filled(shape, shape_yx):
    y, x = np.mgrid[: shape_yx[0], : shape_yx[1]] + 0.5
    return shapely.contains_xy(shape, x, y)


def test_every_feature_equals_its_cell_to_the_pixel(tmp_path, cells, odd_cells):
    for field in (cells, odd_cells):
        features = written(tmp_path / "a.geojson", field)
        for number, feature in enumerate(features, start=1):
            shape = geometry.shape(feature["geometry"])
            assert shape.is_valid
            np.testing.assert_array_equal(
                filled(shape, field.labels.shape), field.labels == number
            )
    # The piece inside a hole of the other one is a polygon of its own.
    assert features[2]["geometry"]["type"] == "MultiPolygon"


def test_features_have_classes_ids_and_measurements(tmp_path, cells):
    features = written(tmp_path / "a.geojson", cells)
    told = [feature["properties"] for feature in features]
    assert [p["classification"]["name"] for p in told][:3] == ["HEK", "N2a", "unknown"]
    assert all(p["objectType"] == "detection" for p in told)
    areas = [p["measurements"]["area_um2"] for p in told]
    np.testing.assert_allclose(areas, cells.areas_px * 0.25, rtol=1e-5)
    # Unknown values are left out, since JSON has no NaN.
    assert "mean_nuclei_grey" not in told[0]["measurements"]
    ids = [uuid.UUID(feature["id"]) for feature in features]
    assert len(set(ids)) == len(ids)
    assert [f["id"] for f in written(tmp_path / "b.geojson", cells)] == list(
        map(str, ids)
    )
