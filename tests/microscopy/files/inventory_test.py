"""Tests of cellclass_tf.microscopy.files.inventory."""

import os

import pytest

from cellclass_tf.core.study import Study
from cellclass_tf.microscopy.files import inventory

SUFFIXES = (".tif", ".png", ".oif", ".zarr")


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(found, source):
    return [path.relative_to(source).as_posix() for path in found.images]


def test_every_file_is_read_or_reported(tmp_path):
    touch(
        *(tmp_path / name for name in ("HEK/a.tif", "HEK/b.TIF", "HEK/.c.tif")),
        *(
            tmp_path / name
            for name in ("HEK/w1_a_w1_thumb12.tif", "HEK/n.txt", "x.csv")
        ),
        tmp_path / "HEK" / "p.oif.files" / "plane.tif",
        tmp_path / "N2a" / "cells.zarr" / "0" / "0.tif",
    )
    Study.create(tmp_path / "study")
    touch(tmp_path / "study" / "images" / "HEK" / "a.png")
    found = inventory.take(tmp_path, SUFFIXES)
    assert names(found, tmp_path) == ["HEK/a.tif", "HEK/b.TIF", "N2a/cells.zarr"]
    assert not found.failures
    assert found.notes == (
        "read: 2 .tif, 1 .zarr",
        "left out: 1 hidden (.c.tif)",
        "left out: 2 of other kinds (n.txt, x.csv)",
        "left out: 1 studies (study)",
        "left out: 1 thumbnails (w1_a_w1_thumb12.tif)",
    )


def test_images_that_are_not_read_are_failures_with_one_line_each(tmp_path):
    touch(tmp_path / "HEK" / "a.tif")
    touch(
        *(tmp_path / "HEK" / f"{i}.jpg" for i in range(5)), tmp_path / "N2a" / "v.vsi"
    )
    found = inventory.take(tmp_path, SUFFIXES)
    jpeg, vsi, folder = found.failures.values()
    assert "5 files ending in .jpg are not read (0.jpg, 1.jpg, 2.jpg, …). JPEG" in jpeg
    assert "1 files ending in .vsi" in vsi
    assert "OME-TIFF" in vsi
    assert "N2a: none of its files is read, so there is no image of N2a" in folder


def test_linked_folders_and_files_are_followed_once(tmp_path):
    source, server = tmp_path / "raw", tmp_path / "server"
    touch(source / "HEK" / "a.tif", server / "b.tif", tmp_path / "c.tif")
    (source / "N2a").symlink_to(server)
    (server / "loop").symlink_to(source)
    (source / "HEK" / "c.tif").symlink_to(tmp_path / "c.tif")
    found = inventory.take(source, SUFFIXES)
    assert names(found, source) == ["HEK/a.tif", "HEK/c.tif", "N2a/b.tif"]
    assert any("that a link leads to again (loop)" in note for note in found.notes)


def test_folders_pipes_and_broken_links_are_failures(tmp_path):
    touch(tmp_path / "a.tif")
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "link.tif").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.tif")
    found = inventory.take(tmp_path, SUFFIXES)
    assert names(found, tmp_path) == ["a.tif"]
    told = [
        found.failures[str(tmp_path / f"{n}.tif")] for n in ("folder", "link", "pipe")
    ]
    for part, reason in zip(
        ("a folder whose name", "nowhere", "a pipe"), told, strict=True
    ):
        assert part in reason


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_a_single_image_is_listed_without_checks(tmp_path, name):
    path = tmp_path / name
    path.mkdir() if name.endswith("zarr") else path.touch()
    assert inventory.take(path, SUFFIXES) == inventory.Inventory((path,), {}, ())
