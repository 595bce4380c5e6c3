"""Tests of cellclass_tf.microscopy.channel_checks."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tifffile

from cellclass_tf.core.study_settings import ChannelRules
from cellclass_tf.microscopy import channel_checks
from cellclass_tf.microscopy.conversion import convert
from cellclass_tf.microscopy.measurement import FieldMeasurement, FileMeasurement
from cellclass_tf.microscopy.quality.figures import Figures

FIGURES = Figures(-3.5, -2.0, 0.0, 50, 30.0, 0.1, 0.0, 0.1, 0.3)


def warnings_of(caplog, nuclei, names):
    """Returns the warnings for files whose nuclei channels have these names."""
    caplog.clear()
    found = {
        pathlib.Path(f"{number}.tif"): FileMeasurement(
            "a.npz", (FieldMeasurement(0, 0, "", name, "x", FIGURES),)
        )
        for number, name in enumerate(names)
    }
    rules = dataclasses.asdict(ChannelRules())
    channel_checks.warn(found, {"nuclei": nuclei, "cytoplasm": None}, rules)
    return caplog.messages


@pytest.mark.parametrize(
    ("nuclei", "names"),
    [
        (0, ("DAPI", "DAPI")),
        ("0", ("DAPI", "Hoechst 33342")),
        (0, ("Cam1", "Cam1", "0")),
        # The channel was chosen by its name.
        ("GFP", ("H2B-GFP", "GFP")),
        (405, ("CSU 405", "Laser 405")),
        (None, ("DAPI", "Hoechst")),
        (0, ("c:1/2 - a.czi", "c:1/2 - b.czi")),
        (0, ("H2B-GFP",)),
    ],
)
def test_consistent_channels_are_not_reported(caplog, nuclei, names):
    assert not warnings_of(caplog, nuclei, names)


def test_an_index_that_means_several_channels_is_reported(caplog):
    (told,) = warnings_of(caplog, 0, ("Cam1", "Cam2", "Cam1"))
    assert told.startswith(
        "--nuclei=0 is the channel 'Cam1' in 2 files (0.tif, 2.tif), 'Cam2' in 1 files "
        "(1.tif). If the order of the channels"
    )
    (told,) = warnings_of(caplog, 1, ("Actin",))
    assert (
        "is the channel 'Actin' in 1 files (0.tif). By its name, 'Actin' is not" in told
    )


def test_files_with_another_order_of_channels_are_reported(tmp_path, caplog):
    folder = tmp_path / "raw" / "HEK" / "dish1"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for file, names in (("a", ("DAPI", "GFP")), ("b", ("GFP", "DAPI"))):
        metadata = {"axes": "CYX", "Channel": {"Name": list(names)}}
        pixels = rng.integers(100, 1000, (2, 32, 40), np.uint16)
        path = folder / f"{file}.ome.tif"
        tifffile.imwrite(path, pixels, ome=True, metadata=metadata)
    convert(tmp_path / "raw", tmp_path / "s", nuclei=0, cytoplasm=1)
    told = [message for message in caplog.messages if message.startswith("--")]
    assert len(told) == 2
    assert (
        "--nuclei=0 is the channel 'DAPI' in 1 files (a.ome.tif), 'GFP' in" in told[0]
    )
    assert "By its name, 'GFP' is not nuclei." in told[0]
    assert "By its name, 'DAPI' is not cytoplasm." in told[1]
