"""Tests of cellclass_tf.storage.tiff_log."""

import logging

import pytest

from cellclass_tf.core.label_files import read_labels
from cellclass_tf.errors import InputError
from cellclass_tf.storage import tiff_log


def test_errors_are_collected_and_not_printed(capfd):
    logger = logging.getLogger("tifffile")
    before = logger.propagate, list(logger.handlers)
    with tiff_log.errors() as found:
        logger.warning("odd tag")
        logger.error("page %d is beyond the file", 3)
    assert found == ["page 3 is beyond the file"]
    assert (logger.propagate, logger.handlers) == before
    assert capfd.readouterr() == ("", "")


def test_a_label_image_with_logged_errors_is_rejected(tmp_path, capfd):
    import numpy as np
    import tifffile

    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((20, 20), np.uint16))
    content = bytearray(path.read_bytes())
    # The first directory's link to a next one, far behind the end of the file.
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[0].offset + 2 + 12 * len(tiff.pages[0].tags)
    content[place : place + 4] = (10**6).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tif: the label TIFF cannot be read"):
        read_labels(path)
    assert capfd.readouterr() == ("", "")
