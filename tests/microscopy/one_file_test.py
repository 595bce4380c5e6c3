"""Tests of cellclass_tf.microscopy.one_file."""

import dataclasses

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import contrast, one_file
from cellclass_tf.microscopy.files import raw_files
from cellclass_tf.microscopy.measurement import FileMeasurement
from cellclass_tf.splits import near_duplicates
from cellclass_tf.storage import digests, png

OPTIONS = one_file.Options(None, None, "max", "group")
STAINS = ("DAPI", "GFP")


@pytest.fixture
def study(tmp_path):
    return Study.create(tmp_path / "study", pixel_size_um=0.65)


def pixels_of(scenes=1, times=1):
    rng = np.random.default_rng(0)
    return rng.integers(100, 1000, (scenes, times, 2, 32, 40), np.uint16)


def write_raw(path, pixels, names=(STAINS,)):
    """Writes (S, T, C, Y, X) pixels; the scenes name their channels in turn."""
    path.parent.mkdir(exist_ok=True)
    with tifffile.TiffWriter(path, ome=True) as file:
        for scene, channels in zip(pixels, names, strict=True):
            metadata = {"axes": "TCYX", "Channel": {"Name": list(channels)}}
            file.write(scene, metadata=metadata, photometric="minisblack")
    return raw_of(path)


def raw_of(path):
    (raw,), _, _ = raw_files.find(path, "HEK", None)
    return raw


def measure(study, raw, options=OPTIONS):
    """Measures a raw file; also returns its histograms, by their places."""
    job = one_file.MeasuringTask(study, raw, options, study.root / "a.npz")
    found = FileMeasurement.parse(one_file.measure(job), "measure.jsonl")
    assert found.histograms == "a.npz"
    with np.load(study.root / "a.npz") as arrays:
        return found.fields, dict(arrays)


def convert(study, raw, limits, options=OPTIONS, own=()):
    fields, _ = measure(study, raw, options)
    groups = (raw.group,) * len(fields)
    job = one_file.ConvertingTask(
        study, raw, options, "HEK/a", groups, "dish 1", limits, fields, frozenset(own)
    )
    return one_file.convert(job)


def test_fields_of_the_same_stains_share_a_histogram(study, tmp_path):
    pixels = pixels_of(scenes=2, times=3)
    names = (STAINS, ("Hoechst", "GFP"))
    fields, histograms = measure(study, write_raw(tmp_path / "a.tif", pixels, names))
    assert [(f.scene, f.time, f.nuclei_channel, f.histogram) for f in fields] == [
        *((0, time, "DAPI", 0) for time in range(3)),
        *((1, time, "Hoechst", 1) for time in range(3)),
    ]
    assert set(histograms) == {"0", "1"}
    for scene, counts in zip(pixels, histograms.values(), strict=True):
        for channel in range(2):
            expected = np.bincount(scene[:, channel].ravel(), minlength=1000)
            np.testing.assert_array_equal(counts[channel], expected)


def test_a_field_has_the_limits_of_its_group_or_of_itself(study, tmp_path):
    pixels = pixels_of()
    raw = write_raw(tmp_path / "a.tif", pixels)
    key = contrast.Key("dish 1", *STAINS, "")
    (row,) = convert(study, raw, {key: ((200, 800), (0, 2000))})
    assert (row["contrast"], row["contrast_group"]) == ("group", "dish 1")
    assert (row["nuclei_limits"], row["cytoplasm_limits"]) == ("200-800", "0-2000")
    assert row["nuclei_clipped"] == round((pixels[0, 0, 0] > 800).mean(), 6)
    assert row["cytoplasm_clipped"] == 0
    image = png.read_png(study.root / "images" / "HEK" / "a.png")
    expected = np.rint(np.clip((pixels[0, 0, 0] - 200.0) * 255 / 600, 0, 255))
    np.testing.assert_array_equal(image[..., 2], expected)
    other = key._replace(group="dish 2")
    (row,) = convert(study, raw, {other: ((200, 800), (0, 2000))})
    assert row["contrast"] == "field"
    # Nearly all pixels, which range from 100 to 999, are between the limits.
    low, high = (float(x) for x in row["nuclei_limits"].split("-"))
    assert low < 130
    assert 990 < high < 1000


def test_a_row_describes_its_field_completely(study, tmp_path):
    raw = write_raw(tmp_path / "a.tif", pixels_of(times=2))
    fields, _ = measure(study, raw)
    rows = convert(study, raw, {})
    assert [row["image"] for row in rows] == ["HEK/a.png", "HEK/a_t1.png"]
    for row, field in zip(rows, fields, strict=True):
        path = study.root / "images" / row["image"]
        assert row["image_sha256"] == digests.sha256_of_file(path)
        assert row["scene_hash"] == near_duplicates.scene_hash(png.read_png(path))
        assert row["raw_file"] == str(tmp_path / "a.tif")
        assert row["raw_sha256"] == digests.sha256_of_file(tmp_path / "a.tif")
        assert row["raw_reader"].startswith("tifffile ")
        assert (row["channels_by"], row["group"]) == ("name", raw.group)
        # The study's pixel size is not copied, so that a correction of it holds at once.
        assert row["pixel_size_um"] is None
        assert dataclasses.asdict(field.figures).items() <= row.items()


def test_a_merged_image_has_no_histogram_and_keeps_its_pixels(study, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (32, 40, 3), np.uint8)
    image[..., 0] = 0
    png.write_png(tmp_path / "a.png", image)
    (field,), histograms = measure(study, raw_of(tmp_path / "a.png"))
    assert field.histogram is None
    assert not histograms
    assert (field.nuclei_channel, field.cytoplasm_channel) == ("blue", "green")
    (row,) = convert(study, raw_of(tmp_path / "a.png"), {})
    assert (row["contrast"], row["nuclei_limits"]) == ("kept", "0-255")
    written = png.read_png(study.root / "images" / "HEK" / "a.png")
    np.testing.assert_array_equal(written, image)


def test_ambiguous_channels_are_drawn_once_for_each_folder(study, tmp_path):
    pictures = []
    for place in ("x/a.tif", "x/b.tif", "y/a.tif"):
        raw = write_raw(tmp_path / place, pixels_of(), [("Cam1", "Cam2")])
        with pytest.raises(InputError, match="A picture of them: ") as caught:
            measure(study, raw)
        pictures.append(str(caught.value).rpartition(": ")[2])
    assert pictures[0] == pictures[1] != pictures[2]
    drawn = {str(path) for path in (study.root / "channels").iterdir()}
    assert drawn == set(pictures)
    assert png.read_png(pictures[0]).ndim == 3


def test_transmitted_light_does_not_choose_the_plane_of_a_stack(study, tmp_path):
    stack = np.full((3, 3, 32, 40), 100, np.uint16)
    stack[1, :2, ::2] += 50
    stack[2, 2, ::2] += 5000
    names = ["DAPI", "GFP", "DIC"]
    metadata = {"axes": "ZCYX", "Channel": {"Name": names}}
    tifffile.imwrite(tmp_path / "a.tif", stack, ome=True, metadata=metadata)
    options = dataclasses.replace(OPTIONS, projection="best")
    (row,) = convert(study, raw_of(tmp_path / "a.tif"), {}, options)
    assert row["z"] == "best:1"
    # The user chooses the channels.
    options = dataclasses.replace(options, nuclei="DAPI", cytoplasm="DIC")
    (row,) = convert(study, raw_of(tmp_path / "a.tif"), {}, options)
    assert row["z"] == "best:2"


def test_a_channel_without_a_name_is_named_by_its_index(study, tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels_of()[0, 0],
        ome=True,
        metadata={"axes": "CYX", "Channel": {"Name": ["", ""]}},
        photometric="minisblack",
    )
    options = dataclasses.replace(OPTIONS, nuclei=1)
    (field,), _ = measure(study, raw_of(tmp_path / "a.tif"), options)
    assert (field.nuclei_channel, field.cytoplasm_channel) == ("1", "0")


def test_the_same_pixels_keep_their_file_when_the_encoder_has_changed(study, tmp_path):
    raw = write_raw(tmp_path / "a.tif", pixels_of())
    (row,) = convert(study, raw, {})
    path = study.root / "images" / row["image"]
    pixels = png.read_png(path)
    # Another program compresses the same pixels to other bytes.
    Image.fromarray(pixels).save(path, compress_level=9)
    other = digests.sha256_of_file(path)
    assert other != row["image_sha256"]
    known = {other}
    (again,) = convert(study, raw, {}, own=known)
    assert again["image_sha256"] == other == digests.sha256_of_file(path)
    # Other pixels replace it, and so does a readable file a damaged one.
    for content in (png.encode_png(255 - pixels), path.read_bytes()[:60]):
        path.write_bytes(content)
        known.add(digests.sha256_of_file(path))
        (again,) = convert(study, raw, {}, own=known)
        np.testing.assert_array_equal(png.read_png(path), pixels)
        assert again["image_sha256"] == row["image_sha256"]
