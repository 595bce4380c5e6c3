"""Tests of OME-Zarr, with zarr as reader."""

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.interchange import ome_zarr


def test_an_ome_zarr_has_image_labels_and_types(tmp_path):
    zarr = pytest.importorskip("zarr", reason="no zarr for Python 3.10")
    labels = np.zeros((700, 1300), np.int32)
    labels[10:60, 1200:1290], labels[600:690, 5:99] = 1, 2
    cells = Cells.from_labels(labels, ("HEK", "N2a"), ["N2a", "HEK"])
    image = np.random.default_rng(0).integers(0, 255, (700, 1300, 3), np.uint8)
    for _ in range(2):
        # The second replaces the first.
        ome_zarr.write_ome_zarr(
            tmp_path / "a.ome.zarr", cells, image, pixel_size_um=0.5
        )
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    assert group["labels"].attrs["labels"] == ["cells"]
    np.testing.assert_array_equal(group["0"][...], np.moveaxis(image[..., 1:], -1, 0))
    np.testing.assert_array_equal(group["labels/cells/0"][...], labels)
    # The second level has half the width, valid labels, and twice the pixel size.
    halved = labels[::2, ::2].copy()
    # Half of each pixel of this column belongs to the cell.
    halved[300:345, [2, 49]] = 2
    np.testing.assert_array_equal(group["labels/cells/1"][...], halved)
    (scales,) = group["labels/cells"].attrs["multiscales"]
    assert scales["datasets"][1]["coordinateTransformations"][0]["scale"] == [1.0, 1.0]
    told = group["labels/cells"].attrs["image-label"]["properties"]
    assert [entry["cell_type"] for entry in told] == ["N2a", "HEK"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.zarr"]


def test_image_and_labels_are_aligned_at_all_levels(tmp_path):
    zarr = pytest.importorskip("zarr", reason="no zarr for Python 3.10")
    y, x = np.mgrid[:4096, :1023]
    # The upper disc begins at an odd, the lower one at an even pixel.
    labels = np.zeros(y.shape, np.int32)
    labels[np.hypot(y - 1500.5, x - 501) < 300] = 1
    labels[np.hypot(y - 3001, x - 600.5) < 300] = 2
    image = np.zeros((*y.shape, 3), np.uint8)
    image[labels > 0] = 200
    cells = Cells.from_labels(labels, ("HEK",), "HEK")
    ome_zarr.write_ome_zarr(tmp_path / "a.ome.zarr", cells, image)
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    for level in range(4):
        light = group[str(level)][0].astype(float)
        found = group[f"labels/cells/{level}"][...]
        assert found.shape == light.shape == (4096 >> level, -(-1023 >> level))
        middle = 2200 >> level
        for number, part in ((1, slice(middle)), (2, slice(middle, None))):
            ys, xs = np.mgrid[: light.shape[0], : light.shape[1]][:, part]
            for at in (ys, xs):
                wanted = np.average(at, weights=light[part])
                assert at[found[part] == number].mean() == pytest.approx(
                    wanted, abs=0.05
                )


@pytest.mark.parametrize(
    ("four", "label"),
    [
        ([0, 0, 0, 7], 0),
        ([7, 0, 7, 7], 7),
        ([0, 7, 7, 0], 7),
        ([3, 7, 7, 3], 7),
        ([0, 7, 3, 0], 0),
        ([0, 3, 7, 3], 3),
        ([9, 0, 9, 5], 9),
        ([1, 4, 2, 3], 4),
    ],
)
def test_a_coarser_level_has_the_most_frequent_label(four, label):
    labels = np.reshape(four, (2, 2))
    assert ome_zarr._halve_labels(labels).tolist() == [[label]]


def test_an_ome_zarr_is_valid(tmp_path, cells):
    models = pytest.importorskip("ome_zarr_models.v04.image")
    label = pytest.importorskip("ome_zarr_models.v04.image_label")
    zarr = pytest.importorskip("zarr")
    image = np.zeros((90, 120, 3), np.uint8)
    ome_zarr.write_ome_zarr(tmp_path / "a.ome.zarr", cells, image)
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    checked = models.ImageAttrs.model_validate(dict(group.attrs))
    assert [channel.label for channel in checked.omero.channels] == [
        "cytoplasm",
        "nuclei",
    ]
    attributes = dict(group["labels/cells"].attrs)
    checked = label.ImageLabelAttrs.model_validate(attributes)
    assert len(checked.image_label.colors) == len(cells)
