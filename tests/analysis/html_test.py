"""Tests of cellclass_tf.analysis.html."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cellclass_tf.analysis import html


def pixels_of(source):
    kind, _, content = source.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_pictures_are_reduced_and_never_enlarged():
    image = np.zeros((50, 200, 3), np.uint8)
    assert pixels_of(html.jpeg_source(image, 100)).shape == (25, 100, 3)
    assert pixels_of(html.jpeg_source(image, 1000)).shape == (50, 200, 3)


def test_sharp_colours_keep_the_channels_apart():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, ::2, 2], image[:, 1::2, 1] = 255, 255
    blurred, sharp = (
        pixels_of(html.jpeg_source(image, 99, sharp_colours=sharp)).astype(int)
        for sharp in (False, True)
    )
    errors = [np.abs(found - image)[..., 2].mean() for found in (blurred, sharp)]
    assert errors[1] < 10 < errors[0]


def test_a_missing_template_value_is_an_error():
    import jinja2

    with pytest.raises(jinja2.UndefinedError):
        html.render("spotcheck.html.jinja", title="a")
