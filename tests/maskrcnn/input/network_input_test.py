"""Tests of cellclass_tf.maskrcnn.input.network_input."""

import numpy as np

from cellclass_tf.maskrcnn import config
from cellclass_tf.maskrcnn.input import network_input


def test_grey_values_are_normalised_channel_by_channel():
    image = np.full((2, 2, 3), (0, 255, 51), np.uint8)
    found = network_input.normalise(image).numpy()
    # Means and deviations of ImageNet, with which the backbone may have been trained.
    expected = (np.array([0, 1, 0.2]) - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-5)


def test_grayscale_shows_the_cytoplasm_alone():
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 1] = 100
    with_nuclei = image.copy()
    with_nuclei[..., 2] = 200
    one, other = (
        network_input.normalise(i, grayscale=True).numpy() for i in (image, with_nuclei)
    )
    np.testing.assert_array_equal(one, other)
    assert one[0, 0, 0] != network_input.normalise(image).numpy()[0, 0, 0]


def test_anchors_lie_on_every_level_of_the_input():
    model = config.cellclass_maskrcnn_small().task.model
    anchors = network_input.build_anchors(model, 128)
    levels = range(model.min_level, model.max_level + 1)
    assert sorted(map(int, anchors)) == list(levels)
    for level in levels:
        assert anchors[str(level)].shape[0] == 128 // 2**level
    assert network_input.image_info(128).shape == (4, 2)
