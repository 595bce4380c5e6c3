"""Tests of cellclass_tf.microscopy.formats.nd2."""

from types import SimpleNamespace

import nd2 as library
import numpy as np
import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers
from cellclass_tf.microscopy.formats import nd2


@pytest.fixture
def folder(assets):
    return assets / "microscope_files" / "nd2"


def test_planes_are_equal_to_those_of_the_whole_array(folder):
    whole = library.imread(folder / "cluster.nd2")
    for scene in nd2.FORMAT.scenes(folder / "cluster.nd2"):
        assert scene.size_tzc == whole.shape[:3] == (3, 10, 2)
        for index in np.ndindex(3, 10, 2):
            np.testing.assert_array_equal(scene.read(*index), whole[index])


def test_names_emission_and_pixel_size(folder):
    field = readers.read_micrograph(folder / "example-pbmc.nd2")
    assert field.channel_names == ("Mono", "DAPI", "FITC BP", "TRITC BP")
    assert field.emissions_nm == (None, 450, 512, 595)
    assert field.pixel_size_um == pytest.approx(0.646781, rel=1e-5)
    np.testing.assert_array_equal(
        field.pixels, library.imread(folder / "example-pbmc.nd2")
    )


def test_time_points_are_fields(folder):
    fields = list(readers.read_micrographs(folder / "example-timelapse.nd2"))
    assert [field.time for field in fields] == list(range(53))
    whole = library.imread(folder / "example-timelapse.nd2")
    np.testing.assert_array_equal(np.concatenate([f.pixels for f in fields]), whole)


def test_a_missing_frame_is_refused_and_a_black_one_is_read(folder, tmp_path):
    # Frames 8 and 9 of this file are black, since the focus was above the cells.
    list(readers.read_micrographs(folder / "cluster.nd2"))
    content = (folder / "cluster.nd2").read_bytes()
    before, after = content.rsplit(b"ImageDataSeq|5!", 1)
    (tmp_path / "a.nd2").write_bytes(before + b"ImageNoneSeq|5!" + after)
    with pytest.raises(
        InputError, match=r"a\.nd2: frame 5 .position 0, time 0, plane 5"
    ):
        list(readers.read_micrographs(tmp_path / "a.nd2"))


def test_positions_are_scenes_with_their_names(folder, monkeypatch):
    # No file with positions is available, so that frames of another file stand for them.
    frames = library.imread(folder / "example-timelapse.nd2")[:6].reshape(2, 3, 64, 64)
    points = [SimpleNamespace(name=name) for name in ("A1", None, "A3")]
    loop = SimpleNamespace(type="XYPosLoop", parameters=SimpleNamespace(points=points))
    loops = [{"T": t, "P": p} for t in range(2) for p in range(3)]
    sizes = {"T": 2, "P": 3, "Y": 64, "X": 64}
    monkeypatch.setattr(library.ND2File, "loop_indices", loops)
    monkeypatch.setattr(library.ND2File, "sizes", sizes)
    monkeypatch.setattr(library.ND2File, "experiment", [loop])
    fields = list(readers.read_micrographs(folder / "example-timelapse.nd2"))
    assert [(f.scene, f.scene_name, f.time) for f in fields] == [
        (scene, name, time)
        for scene, name in enumerate(("A1", "", "A3"))
        for time in range(2)
    ]
    for field in fields:
        np.testing.assert_array_equal(field.pixels[0], frames[field.time, field.scene])


def test_a_loop_of_unknown_meaning_is_refused(folder, monkeypatch):
    sizes = {"U": 3, "Y": 64, "X": 64}
    monkeypatch.setattr(library.ND2File, "sizes", sizes)
    with pytest.raises(InputError, match="'U': 3"):
        readers.read_micrograph(folder / "example-timelapse.nd2")


def test_uncalibrated_pixels_have_no_size(folder, monkeypatch):
    entry = SimpleNamespace(
        volume=SimpleNamespace(axesCalibrated=(False, False, False)),
        channel=SimpleNamespace(name="DAPI", emissionLambdaNm=450.0),
    )
    metadata = SimpleNamespace(channels=[entry])
    monkeypatch.setattr(library.ND2File, "metadata", metadata)
    field = readers.read_micrograph(folder / "example-zstack.nd2")
    assert field.pixel_size_um is None
    assert field.channel_names == ("DAPI",)


def test_pixels_that_are_not_square_are_reported(folder, monkeypatch):
    voxel = SimpleNamespace(x=0.3, y=0.6, z=1.0)
    monkeypatch.setattr(library.ND2File, "voxel_size", lambda _: voxel)
    field = readers.read_micrograph(folder / "example-zstack.nd2")
    assert field.pixel_size_um is None
    assert field.pixel_size_problem == "0.3 x 0.6 µm, pixels that are not square"


def test_the_colours_of_a_channel_share_its_name(folder, monkeypatch):
    stored = {"channelCount": 2, "componentCount": 6}
    frame = np.arange(32 * 40 * 6, dtype=np.uint16).reshape(2, 32, 40, 3)
    entries = [
        SimpleNamespace(
            volume=SimpleNamespace(axesCalibrated=(False, False, False)),
            channel=SimpleNamespace(name=name, emissionLambdaNm=None),
        )
        for name in ("DAPI", "GFP")
    ]
    changes = {
        "attributes": SimpleNamespace(**stored),
        "components_per_channel": 3,
        "sizes": {"Y": 32, "X": 40},
        "loop_indices": (),
        "metadata": SimpleNamespace(channels=entries),
        "read_frame": lambda _self, _number: frame,
    }
    for name, value in changes.items():
        monkeypatch.setattr(library.ND2File, name, value)
    field = readers.read_micrograph(folder / "example-zstack.nd2")
    assert not field.is_rgb
    expected = [f"{n} {c}" for n in ("DAPI", "GFP") for c in ("red", "green", "blue")]
    assert list(field.channel_names) == expected
    planes = np.moveaxis(frame, -1, 1).reshape(6, 32, 40)
    np.testing.assert_array_equal(field.pixels, planes)


def test_a_jpeg_2000_file_is_taken_for_nd2_only_with_that_ending(tmp_path):
    jpeg = b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(200)
    for name in ("a.jp2", "a.nd2"):
        (tmp_path / name).write_bytes(jpeg)
    with pytest.raises(InputError, match="of no known format"):
        readers.read_micrograph(tmp_path / "a.jp2")
    with pytest.raises(InputError, match="the Nikon ND2 file cannot be read"):
        readers.read_micrograph(tmp_path / "a.nd2")


def test_the_position_is_that_of_the_loop_or_of_the_first_frame(folder, monkeypatch):
    # As NIS-Elements wrote it into the frame.
    field = readers.read_micrograph(folder / "example-timelapse.nd2")
    assert field.stage_um == (9744.0, 18491.4)
    places = (SimpleNamespace(x=1.5, y=-2.0), SimpleNamespace(x=float("nan"), y=0))
    points = [SimpleNamespace(name="", stagePositionUm=place) for place in places]
    # An old file has points without a position.
    points.append(SimpleNamespace(name=""))
    loop = SimpleNamespace(type="XYPosLoop", parameters=SimpleNamespace(points=points))
    monkeypatch.setattr(library.ND2File, "loop_indices", [{"P": p} for p in range(3)])
    monkeypatch.setattr(library.ND2File, "sizes", {"P": 3, "Y": 64, "X": 64})
    monkeypatch.setattr(library.ND2File, "experiment", [loop])
    fields = readers.read_micrographs(folder / "example-timelapse.nd2")
    assert [field.stage_um for field in fields] == [(1.5, -2.0), None, None]
