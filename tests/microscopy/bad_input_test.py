"""Tests that bad raw files are reported one by one, and do not affect others."""

import pathlib
import struct
import subprocess
import zlib

import numpy as np
import pytest
import tifffile

from cellclass_tf import errors
from cellclass_tf.core.label_files import read_labels
from cellclass_tf.core.study import Study
from cellclass_tf.microscopy import readers
from cellclass_tf.microscopy.conversion import convert
from cellclass_tf.storage import atomic, png

SIZE = (2, 64, 72)


def noise(shape=SIZE, dtype=np.uint16, seed=0):
    return np.random.default_rng(seed).integers(100, 4000, shape).astype(dtype)


def write(path, pixels, names=("DAPI", "GFP"), **options):
    axes = "CYX" if pixels.ndim == 3 else "YX"
    metadata = {"axes": axes} | ({"Channel": {"Name": list(names)}} if names else {})
    options = {"ome": True, "photometric": "minisblack"} | options
    tifffile.imwrite(path, pixels, metadata=metadata, **options)


def claimed_png(width, height, rows=b""):
    """Returns a PNG whose header claims a size, whatever pixels follow."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    ihdr, idat, iend = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in (ihdr, idat, iend))


def claimed_tiff(width, height, next_ifd=0):
    """Returns a TIFF of one directory without pixels; `next_ifd` is the offset of the next."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, 2 * width * height)]
    entries = b"".join(
        struct.pack("<HHII", tag, kind, 1, min(value, 2**32 - 1))
        for tag, kind, value in tags
    )
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", next_ifd)
    return b"II*\0" + struct.pack("<I", 8) + directory


BAD = {
    "empty.tif": (b"", "the file is empty"),
    "text.tif": (b"dear diary", "of no known format; tried .*first bytes are b'dear"),
    "huge_header.tif": (claimed_tiff(30_000, 30_000), "30000 x 30000 px|truncated"),
    "huge_header.png": (claimed_png(30_000, 30_000), "30000 x 30000 px"),
    "bomb.png": (
        claimed_png(100_000, 100_000, zlib.compress(bytes(10_000_000))),
        "100000 x 100000 px",
    ),
    # Its second directory is the first one.
    "loop.tif": (claimed_tiff(64, 64, next_ifd=8), "truncated|broken"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_with_wrong_content_fail_alone(tmp_path, name):
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    assert_only_this_fails(tmp_path, name, message)


PIXELS = {
    "one channel": (noise(SIZE[1:]), {"names": ("DAPI",)}, "expected two channels"),
    "three": (noise((3, 64, 72)), {"names": ()}, "which channel is which.*2: .no name"),
    "five": (noise((5, 64, 72)), {"names": ()}, "which channel is which.*4: .no name"),
    "float with NaN": (
        np.where(noise() < 200, np.nan, noise()).astype(np.float32),
        {},
        "NaN or infinite",
    ),
    "infinite": (
        np.where(noise() < 200, np.inf, noise()).astype(np.float32),
        {},
        "NaN or infinite",
    ),
    "1 x 1": (noise((2, 1, 1)), {}, "at least 16 x 16 px; got 1 x 1"),
}


@pytest.mark.parametrize("name", PIXELS)
def test_fields_that_cannot_be_merged_fail_alone(tmp_path, name):
    pixels, options, message = PIXELS[name]
    write(tmp_path / f"{name}.tif", pixels, **options)
    assert_only_this_fails(tmp_path, f"{name}.tif", message)


def test_a_decompression_bomb_is_not_opened(tmp_path):
    # 20,000 x 20,000 zeros take 400 kB on disk and 800 MB in memory.
    zeros = np.zeros((2048, 20_000), np.uint16)
    with tifffile.TiffWriter(tmp_path / "bomb.tif") as tiff:
        tiles = (
            zeros[:, i : i + 2000] for _ in range(10) for i in range(0, 20_000, 2000)
        )
        tiles = (np.zeros((2000, 2000), np.uint16) for _ in tiles)
        tiff.write(
            tiles,
            shape=(20_000, 20_000),
            dtype=np.uint16,
            tile=(2000, 2000),
            compression="zlib",
            photometric="minisblack",
        )
    assert_only_this_fails(tmp_path, "bomb.tif", "20000 x 20000 px")


def assert_only_this_fails(folder, name, message):
    write(folder / "good.ome.tif", noise())
    outcome = convert(folder, folder / "study", cell_type="HEK")
    ((path, reason),) = outcome.failures.items()
    assert path.endswith(name)
    assert str(folder / name) in reason
    assert "\n" not in reason
    with pytest.raises(errors.InputError, match=message):
        raise errors.InputError(reason)
    assert [row.image for row in Study.open(folder / "study").rows()] == [
        "HEK/good.png"
    ]


@pytest.mark.parametrize("tenth", range(10))
def test_a_truncated_file_is_refused(tmp_path, tenth):
    write(tmp_path / "cut.tif", noise(), compression="zlib")
    whole = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) * tenth // 10])
    assert_only_this_fails(tmp_path, "cut.tif", "empty|truncated|cannot be read|format")


def test_a_file_with_a_wrong_ending_is_read_by_its_content(tmp_path):
    write(tmp_path / "a.ome.tif", noise())
    (tmp_path / "a.ome.tif").rename(tmp_path / "a.png")
    outcome = convert(tmp_path / "a.png", tmp_path / "study", cell_type="HEK")
    assert not outcome.failures


def test_a_folder_named_like_a_file_is_reported(tmp_path):
    (tmp_path / "folder.tif").mkdir()
    assert_only_this_fails(tmp_path, "folder.tif", "a folder whose name ends")


def test_a_constant_field_is_converted_and_rejected_as_empty(tmp_path):
    write(tmp_path / "flat.ome.tif", np.full(SIZE, 100, np.uint16))
    assert not convert(tmp_path, tmp_path / "study", cell_type="HEK").failures
    (row,) = Study.open(tmp_path / "study").rows()
    assert row.verdict == "rejected"
    assert "empty" in row.reasons


ODD_NAMES = (
    "day 1.ome.tif",
    "größe_細胞.ome.tif",
    "a..b.ome.tif",
    "a\nb.ome.tif",
    "~.tif",
)


def test_odd_names_stay_within_the_study(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, name in enumerate(ODD_NAMES):
        write(raw / name, noise(seed=number))
    outcome = convert(raw, tmp_path / "study", cell_type="HEK")
    assert not outcome.failures
    study = Study.open(tmp_path / "study")
    assert len(study.rows()) == len(ODD_NAMES)
    images = sorted((tmp_path / "study" / "images").rglob("*.png"))
    assert images == sorted(study.image_path(row) for row in study.rows())
    assert not any(path.name.startswith(".") or "\n" in path.name for path in images)
    assert {row.raw_file for row in study.rows()} == {str(raw / n) for n in ODD_NAMES}


def test_the_error_for_a_file_with_an_odd_name_is_one_line(tmp_path):
    (tmp_path / "a\nb.tif").write_bytes(b"dear diary")
    write(tmp_path / "good.ome.tif", noise())
    outcome = convert(tmp_path, tmp_path / "study", cell_type="HEK", processes=2)
    (reason,) = outcome.failures.values()
    assert "\n" not in reason
    assert "no known format" in reason


def test_files_with_the_same_stem_become_different_images(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, name in enumerate(("a.tif", "a.tiff", "a.ome.tif")):
        write(raw / name, noise(seed=number))
    assert not convert(raw, tmp_path / "study", cell_type="HEK").failures
    rows = Study.open(tmp_path / "study").rows()
    assert len({row.image for row in rows}) == len({row.raw_file for row in rows}) == 3


def test_a_second_time_point_does_not_replace_another_files_image(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    two = np.stack([noise(), noise(seed=1)])
    metadata = {"axes": "TCYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(raw / "a.ome.tif", two, ome=True, metadata=metadata)
    write(raw / "a_t1.ome.tif", noise(seed=2))
    assert not convert(raw, tmp_path / "study", cell_type="HEK").failures
    study = Study.open(tmp_path / "study")
    rows = study.rows()
    assert len(rows) == 3
    assert len({study.read_image(row).tobytes() for row in rows}) == 3


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of 300 kB, which needs the right to mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_leaves_no_partial_files_and_the_run_can_continue(
    tmp_path, small_disk
):
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(12):
        write(raw / f"{number}.ome.tif", noise((2, 128, 128), seed=number))
    study = small_disk / "study"
    reasons = attempt(raw, study)
    assert reasons
    assert all("No space left" in reason for reason in reasons)
    whole_images(study)
    subprocess.run(["mount", "-o", "remount,size=9m", small_disk], check=True)
    assert not attempt(raw, study)
    assert len(Study.open(study).rows()) == len(whole_images(study)) == 12


def test_the_error_names_a_read_only_folder(tmp_path, small_disk):
    write(tmp_path / "a.ome.tif", noise())
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    (reason,) = attempt(tmp_path / "a.ome.tif", small_disk / "study")
    assert "Read-only file system" in reason
    assert str(small_disk) in reason


def attempt(raw, study: pathlib.Path) -> list[str]:
    """Returns why files could not be converted, or why none of them could."""
    try:
        return list(convert(raw, study, cell_type="HEK").failures.values())
    except OSError as error:
        return [str(error)]


def whole_images(study: pathlib.Path) -> list[pathlib.Path]:
    assert not list(study.rglob(f"{atomic.PART_PREFIX}*"))
    images = sorted((study / "images").rglob("*.png"))
    for path in images:
        png.read_png(path)
    return images


def test_samples_and_channels_count_in_the_size_limit(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    pixels = np.zeros((20, 20, 32), np.uint8)
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
    with monkeypatch.context() as patch:
        patch.setattr(readers, "_MOST_VALUES", 12_000)
        with pytest.raises(errors.InputError, match="claims 32 channels of 20 x 20 px"):
            next(readers.read_micrographs(path))
    monkeypatch.setattr(png, "MAX_IMAGE_PIXELS", 12_000)
    with pytest.raises(errors.InputError, match="claims 20 x 640 px"):
        read_labels(path)
