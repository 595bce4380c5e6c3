"""Tests of cellclass_tf.microscopy.formats.dv."""

import numpy as np
import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers
from cellclass_tf.microscopy.formats import dv

# Where the header has the number of planes and their order.
PLACES = {"n_sections": (8, "<i4"), "height_um": (44, "<f4"), "order": (182, "<i2")}


@pytest.fixture
def toxo(assets):
    return assets / "microscope_files" / "dv" / "toxo.dv"


def changed(path, folder, **values):
    """Returns a copy of a DV file with other numbers in its header."""
    content = bytearray(path.read_bytes())
    for name, value in values.items():
        offset, kind = PLACES[name]
        number = np.array(value, kind).tobytes()
        content[offset : offset + len(number)] = number
    (folder / path.name).write_bytes(content)
    return folder / path.name


def test_planes_are_read_in_the_order_of_the_header(toxo):
    # ZTW: Z runs fastest.
    stored = np.fromfile(toxo, "<u2", offset=1024).reshape(2, 17, 128, 128)
    for scene in dv.FORMAT.scenes(toxo):
        for z in range(17):
            for c in range(2):
                np.testing.assert_array_equal(scene.read(0, z, c), stored[c, z])


def test_channels_are_in_the_order_of_their_emission(toxo):
    field = readers.read_micrograph(toxo)
    assert field.emissions_nm == (525, 632)
    # The header says the brightest pixel of each wavelength.
    assert [int(c.max()) for c in field.pixels] == [3545, 7657]
    assert field.pixel_size_um == pytest.approx(0.13262)


def test_pixels_that_are_not_square_are_reported(toxo, tmp_path):
    field = readers.read_micrograph(changed(toxo, tmp_path, height_um=0.5))
    assert field.pixel_size_um is None
    assert field.pixel_size_problem == "0.1326 x 0.5 µm, pixels that are not square"


def test_other_orders_of_planes_are_read(toxo, tmp_path):
    stored = np.fromfile(toxo, "<u2", offset=1024).reshape(17, 2, 128, 128)
    # WZT: the channel runs fastest.
    for scene in dv.FORMAT.scenes(changed(toxo, tmp_path, order=1)):
        np.testing.assert_array_equal(scene.read(0, 3, 1), stored[3, 1])


def test_an_unknown_order_of_planes_is_refused(toxo, tmp_path):
    with pytest.raises(InputError, match="in the order 7"):
        readers.read_micrograph(changed(toxo, tmp_path, order=7))


def test_a_count_of_planes_that_does_not_divide_is_refused(toxo, tmp_path):
    with pytest.raises(
        InputError, match="33 planes do not fit to 1 time points x 2 channels"
    ):
        readers.read_micrograph(changed(toxo, tmp_path, n_sections=33))
