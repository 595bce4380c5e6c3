"""Tests of cellclass_tf.labels.shapes, compared with scikit-image."""

import numpy as np
import pytest
from scipy.spatial import distance
from skimage import draw, measure

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import runs, shapes

TYPES = ("HEK", "N2a")
OF_SKIMAGE = {
    "centroid_y": "centroid-0",
    "centroid_x": "centroid-1",
    "axis_major": "axis_major_length",
    "axis_minor": "axis_minor_length",
    "eccentricity": "eccentricity",
    "orientation": "orientation",
    "perimeter": "perimeter_crofton",
    "solidity": "solidity",
}


def field(seed, size=(160, 210), count=40):
    """Returns touching and overlapping ellipses, lines and single pixels, some at the border."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(size, np.int32)
    for number in range(1, count + 1):
        radii = rng.uniform(1, 16, 2)
        rows, columns = draw.ellipse(
            *rng.uniform((0, 0), size), *radii, size, rotation=rng.uniform(0, np.pi)
        )
        labels[rows, columns] = number
    labels[3, 5:40] = count + 1
    labels[20:60, 7] = count + 2
    labels[70, 70] = count + 3
    labels[[80, 81, 82], [90, 91, 92]] = count + 4
    # A cell in two parts.
    labels[100:104, 10:15], labels[100:104, 20:24] = count + 5, count + 5
    return Cells.from_labels(labels, TYPES, "HEK")


@pytest.mark.parametrize("seed", range(6))
def test_all_measurements_equal_those_of_scikit_image(seed, monkeypatch):
    # The field is processed in several stripes.
    monkeypatch.setattr(runs, "_PIXELS_AT_ONCE", 2500 if seed % 2 else 1 << 20)
    cells = field(seed)
    found = shapes.shapes_of(cells)
    names = ("centroid", *{name.split("-")[0] for name in OF_SKIMAGE.values()})
    true = measure.regionprops_table(cells.labels, properties=tuple(set(names)))
    for name, of in OF_SKIMAGE.items():
        got = getattr(found, name)
        if name == "orientation":
            # Opposite directions are the same axis, and a round cell has no axis.
            known = true["eccentricity"] > 1e-6
            turned = np.abs(got - true[of])[known] % np.pi
            assert np.minimum(turned, np.pi - turned).max() < 1e-6
        elif name in ("axis_minor", "eccentricity"):
            # For a line, scikit-image returns a rounding error.
            np.testing.assert_allclose(got, true[of], atol=2e-6, err_msg=name)
        else:
            np.testing.assert_allclose(got, true[of], rtol=1e-9, err_msg=name)


def test_feret_diameters_equal_the_largest_distance_between_points():
    cells = field(9, count=15)
    found = shapes.shapes_of(cells).feret_diameter
    for index in range(len(cells)):
        y, x = np.nonzero(cells.labels == index + 1)
        steps = np.array([(-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5)])
        points = (np.stack([y, x], axis=1)[:, None] + steps).reshape(-1, 2)
        assert found[index] == pytest.approx(distance.pdist(points).max())


def test_a_single_pixel_and_a_square_have_known_shapes():
    labels = np.zeros((9, 9), np.int32)
    labels[0, 8], labels[3:7, 1:5] = 1, 2
    found = shapes.shapes_of(Cells.from_labels(labels, TYPES, "HEK"))
    assert found.solidity.tolist() == [1, 1]
    assert found.eccentricity.tolist() == [0, 0]
    assert found.feret_diameter == pytest.approx([1, np.hypot(4, 3)])
    assert (found.centroid_y[0], found.centroid_x[1]) == (0, 2.5)


def test_feret_diameters_of_simple_cells_follow_from_geometry():
    labels = np.zeros((30, 60), np.int32)
    labels[3, 5:55] = 1
    labels[10:12, 5:7] = 2
    labels[20, 20] = 3
    # The longest line between two points of an L lies outside of it.
    labels[14:28, 40] = labels[27, 40:58] = 4
    found = shapes.shapes_of(Cells.from_labels(labels, ("HEK",))).feret_diameter
    assert found[0] == 50
    assert found[2] == 1
    assert found[1] == pytest.approx(np.hypot(2, 1))
    assert found[3] == pytest.approx(np.hypot(13.5, 17.5), abs=0.3)
