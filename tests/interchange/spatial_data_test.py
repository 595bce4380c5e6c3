"""Tests of SpatialData, with spatialdata as reader, if it is installed."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf.analysis import cell_table, table_files
from cellclass_tf.core.cells import Cells
from cellclass_tf.errors import InputError
from cellclass_tf.interchange import spatial_data


def write(path, fields, pixel_size_um=None):
    """Writes {stem: (cells, image)} and their table; returns the path."""
    store = spatial_data.Store(path)
    tables = []
    for stem, (cells, image) in fields.items():
        store.add(stem, cells, image, pixel_size_um=pixel_size_um)
        tables.append(
            cell_table.cell_table(
                cells, image, name=stem, group="d", pixel_size_um=pixel_size_um
            )
        )
    # These cells belong to a field that was not added.
    cells, image = next(iter(fields.values()))
    tables.append(cell_table.cell_table(cells, image, name="other"))
    table = path.with_suffix(".csv")
    table_files.write_cells_csv(table, tables, cells.type_names)
    store.finish(table)
    return path


def drawn(seed):
    return np.random.default_rng(seed).integers(0, 255, (90, 120, 3), np.uint8)


def empty():
    return Cells.from_labels(np.zeros((90, 120), np.int32), ("HEK", "N2a"))


def test_images_labels_and_table_survive_a_round_trip(tmp_path, cells):
    spatialdata = pytest.importorskip("spatialdata")
    fields = {
        "mixed/a": (cells, drawn(0)),
        # Its name would be the same as that of the first field.
        "mixed_A": (cells, drawn(1)),
        "none": (empty(), drawn(2)),
    }
    read = spatialdata.read_zarr(write(tmp_path / "a.zarr", fields, pixel_size_um=0.5))
    names = ["mixed_a", "mixed_A_2", "none"]
    assert sorted(read.coordinate_systems) == sorted(names)
    for name, (own, image) in zip(names, fields.values(), strict=True):
        labels, pixels = read[f"{name}_cells"], read[f"{name}_image"]
        np.testing.assert_array_equal(labels.to_numpy(), own.labels)
        np.testing.assert_array_equal(
            pixels.to_numpy(), np.moveaxis(image[..., 1:], -1, 0)
        )
        assert pixels.coords["c"].to_numpy().tolist() == ["cytoplasm", "nuclei"]
    table = read["cells"]
    assert len(table) == 2 * len(cells)
    first = table[table.obs["region"] == "mixed_a_cells"]
    assert first.obs["cell"].tolist() == [1, 2, 3, 4, 5]
    assert first.obs["cell_type"].tolist() == list(cells.cell_types)
    assert first.obs["area_um2"].tolist() == (cells.areas_px / 4).tolist()
    np.testing.assert_array_equal(first.obsm["probabilities"], cells.probabilities)
    assert list(first.obsm["probabilities"].columns) == ["HEK", "N2a"]
    # The pixel size is in the transformation: centres in µm are those of spatialdata.
    centres = spatialdata.get_centroids(
        read["mixed_a_cells"], coordinate_system="mixed_a"
    ).compute()
    np.testing.assert_allclose(first.obsm["spatial"], centres[["x", "y"]], atol=1e-3)
    # Each row of the table is linked to its label.
    labels, linked = spatialdata.join_spatialelement_table(
        sdata=read, spatial_element_names="mixed_A_2_cells", table_name="cells"
    )
    assert linked.obs["image"].tolist() == ["mixed_A"] * len(cells)
    told = read.attrs["cellclass_tf"]["fields"]["mixed/a"]
    assert told == {"name": "mixed_a", "pixel_size_um": 0.5, "unit": "micrometer"}


def test_types_may_have_names_that_columns_cannot_have(tmp_path, cells):
    spatialdata = pytest.importorskip("spatialdata")
    cells = dataclasses.replace(cells, type_names=("HEK x", "N2a+"))
    path = write(tmp_path / "a.zarr", {"mixed/a": (cells, drawn(0))})
    table = spatialdata.read_zarr(path)["cells"]
    assert set(table.obs["cell_type"]) == {"HEK x", "N2a+", "unknown"}
    assert {"neighbours_HEK_x", "neighbours_N2a_"} <= set(table.obs)
    assert list(table.obsm["probabilities"].columns) == ["HEK x", "N2a+"]


def test_columns_get_names_that_are_allowed_and_different():
    columns = ("n_HEK+x", "n_HEK x", "n_HEK_X", "__note", "n_Äx", "?")
    assert spatial_data._column_names(columns) == {
        "n_HEK+x": "n_HEK_x_3",
        "n_HEK x": "n_HEK_x_2",
        "n_HEK_X": "n_HEK_X",
        "__note": "note",
        "n_Äx": "n_Äx",
        "?": "column",
    }


def test_without_pixel_size_units_are_pixels_and_without_cells_no_table(tmp_path):
    spatialdata = pytest.importorskip("spatialdata")
    path = write(tmp_path / "a.zarr", {"none": (empty(), drawn(0))})
    read = spatialdata.read_zarr(path)
    told = read.attrs["cellclass_tf"]["fields"]["none"]
    assert "cells" not in read
    assert told["unit"] == "pixel"
    extent = spatialdata.get_extent(read["none_image"], coordinate_system="none")
    assert extent == {"y": (0, 90), "x": (0, 120)}


def test_without_spatialdata_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "spatialdata", None)
    with pytest.raises(InputError, match=r"cellclass_tf\[spatialdata\]"):
        spatial_data.Store(tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())
