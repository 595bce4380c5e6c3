"""Tests that damaged vendor files are refused without side effects."""

import subprocess
import sys

import pytest

# The files are read in a separate process, since the libraries' C code may crash.
READ_DAMAGED = """
import pathlib, random, sys
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers

source, folder = map(pathlib.Path, sys.argv[1:])
whole = source.read_bytes()


def outcome(content):
    path = folder / source.name
    path.write_bytes(content)
    try:
        return str(len(list(readers.read_micrographs(path))))
    except InputError as error:
        assert str(path) in str(error) and "\\n" not in str(error), error
        return "refused"


for tenth in range(10):
    print("cut", outcome(whole[: len(whole) * tenth // 10]))
for seed in range(10):
    rng = random.Random(seed)
    flipped = bytearray(whole)
    # Bytes are flipped in the whole file, and at both ends, where most formats have tables.
    for end in (len(whole), 4096, -4096):
        at = rng.randrange(abs(end))
        flipped[at if end > 0 else -1 - at] ^= rng.randrange(1, 256)
    print("flipped", outcome(flipped))
"""


@pytest.mark.parametrize(
    "name",
    [
        "czi/CellDivision_T3_Z5_CH2_X240_Y170.czi",
        "czi/CellDivision_T3_Z5_CH2_X240_Y170_comp1.czi",
        "czi/S3_1Pos_2Mosaic_T2_Z3_CH2_sm.czi",
        "dv/toxo.dv",
        "lif/testdata_2channel_xz.lif",
        "nd2/cluster.nd2",
        "oib/test.oib",
        "stk/test.stk",
        "tif/cellprofiler_largeimg.ome.tiff",
        "tif/sample_EmbryoTorax_multichannel.tif",
    ],
)
def test_the_error_for_a_damaged_file_names_it(assets, tmp_path, name):
    done = subprocess.run(
        [
            *(sys.executable, "-c", READ_DAMAGED),
            *(str(assets / "microscope_files" / name), str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes = [line.split() for line in done.stdout.splitlines()]
    assert len(outcomes) == 20
    # A flipped byte may be a pixel; a truncated file is always refused.
    assert {result for kind, result in outcomes if kind == "cut"} == {"refused"}
