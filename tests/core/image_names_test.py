"""Tests of cellclass_tf.core.image_names."""

import pytest

from cellclass_tf.core.image_names import find_image
from cellclass_tf.errors import InputError

STEMS = {name: name for name in ("HEK/a", "N2a/a", "mixed/dish1_b")}


@pytest.mark.parametrize(
    "name",
    [
        *("mixed/dish1_b", "dish1_b", "dish1_b.png", "overlays/mixed/dish1_b.png"),
        "out/labels/mixed/dish1_b.tif",
    ],
)
def test_an_image_is_found_by_name_or_path(name):
    assert find_image(name, STEMS, "study") == "mixed/dish1_b"


def test_an_unknown_or_ambiguous_name_lists_similar_names():
    with pytest.raises(
        InputError, match="3 images of study; similar names: mixed/dish1_b"
    ):
        find_image("mixed/dish2_b", STEMS, "study")
    with pytest.raises(InputError, match="similar names: HEK/a, N2a/a"):
        find_image("a", STEMS, "study")
    with pytest.raises(InputError, match="no name is similar"):
        find_image("???", STEMS, "study")
