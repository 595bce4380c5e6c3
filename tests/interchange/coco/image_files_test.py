"""Tests of finding and reading the images of COCO files."""

import numpy as np
import pytest
from PIL import Image

from cellclass_tf.errors import InputError
from cellclass_tf.interchange.coco import image_files
from cellclass_tf.storage import png


@pytest.mark.parametrize(
    ("json_name", "image"),
    [
        ("cells.json", "a/b.png"),
        ("cells.json", "images/a/b.png"),
        ("annotations/cells.json", "images/a/b.png"),
        ("annotations/cells_train.json", "cells_train/a/b.png"),
        ("annotations/instances_val2017.json", "val2017/a/b.png"),
        ("train/_annotations.coco.json", "a/b.png"),
    ],
)
def test_image_is_found_around_its_file(tmp_path, json_name, image):
    path = tmp_path / image
    path.parent.mkdir(parents=True)
    path.touch()
    (tmp_path / json_name).parent.mkdir(exist_ok=True)
    assert image_files.find("a/b.png", tmp_path / json_name) == path


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../secret.png",
        "a/../../b.png",
        "a\\b.png",
        "C:/b.png",
        "a\0b",
        ".",
    ],
)
def test_a_name_that_leads_out_is_rejected(tmp_path, name):
    folder = tmp_path / "source"
    folder.mkdir()
    (tmp_path / "secret.png").touch()
    with pytest.raises(InputError, match=r"expected a path below"):
        image_files.find(name, folder / "cells.json")


def test_a_link_that_leads_out_is_rejected_and_one_inside_is_followed(tmp_path):
    folder = tmp_path / "deep" / "source"
    folder.mkdir(parents=True)
    (tmp_path / "secret.png").touch()
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "real.png").touch()
    (folder / "in.png").symlink_to(folder / "real.png")
    assert image_files.find("in.png", folder / "c.json") == folder / "in.png"
    with pytest.raises(InputError, match="a link that leads out of"):
        image_files.find("out.png", folder / "c.json")


def test_the_error_for_a_missing_image_lists_the_searched_folders(tmp_path):
    with pytest.raises(InputError, match=r"image b.png: no such file in .*imag"):
        image_files.find("b.png", tmp_path / "cells.json")


def _saved(path, pixels, mode=None, **options):
    Image.fromarray(pixels, mode).save(path, **options)
    return path


def test_a_merged_image_is_not_changed(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    pixels[..., 0] = 0
    for name in ("a.png", "a.tif"):
        path = _saved(tmp_path / name, pixels)
        np.testing.assert_array_equal(image_files.read_merged(path, (4, 5)), pixels)


def test_grey_becomes_green(tmp_path):
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    merged = image_files.read_merged(_saved(tmp_path / "a.png", grey), (4, 5))
    np.testing.assert_array_equal(merged[..., 1], grey)
    assert not merged[..., [0, 2]].any()


def test_luminance_of_colour_becomes_green(tmp_path):
    pixels = np.full((4, 5, 3), (100, 0, 0), np.uint8)
    merged = image_files.read_merged(_saved(tmp_path / "a.png", pixels), (4, 5))
    # 0.299 of red.
    assert (merged == (0, 30, 0)).all()
    path = _saved(tmp_path / "a.jpg", np.full((8, 8, 3), 50, np.uint8), quality=95)
    assert (image_files.read_merged(path, (8, 8)) == (0, 50, 0)).all()


def test_alpha_and_palette_are_resolved(tmp_path):
    pixels = np.zeros((4, 5, 4), np.uint8)
    pixels[..., 1], pixels[..., 3] = 70, 10
    merged = image_files.read_merged(_saved(tmp_path / "a.png", pixels), (4, 5))
    assert (merged == (0, 70, 0)).all()
    path = tmp_path / "p.png"
    Image.fromarray(pixels[..., :3]).convert("P").save(path)
    assert image_files.read_merged(path, (4, 5)).shape == (4, 5, 3)


def _orientation():
    exif = Image.Exif()
    exif[0x0112] = 3
    return exif


def test_an_invalid_image_is_rejected_with_the_reason(tmp_path, monkeypatch):
    grey = np.zeros((4, 5), np.uint8)
    good = _saved(tmp_path / "a.png", grey)
    with pytest.raises(InputError, match="has 4 x 5 px, but its COCO file says 5 x 4"):
        image_files.read_merged(good, (5, 4))
    deep = _saved(tmp_path / "deep.png", grey.astype(np.uint16))
    with pytest.raises(InputError, match="8 bits per channel, got mode I;16"):
        image_files.read_merged(deep, (4, 5))
    turned = _saved(tmp_path / "turned.jpg", grey, exif=_orientation())
    with pytest.raises(InputError, match="stored rotated"):
        image_files.read_merged(turned, (4, 5))
    stack = tmp_path / "stack.tif"
    Image.fromarray(grey).save(
        stack, save_all=True, append_images=[Image.fromarray(grey)]
    )
    with pytest.raises(InputError, match="one plane, got 2"):
        image_files.read_merged(stack, (4, 5))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError, match="expected PNG, JPEG, TIFF"):
        image_files.read_merged(tmp_path / "text.png", (4, 5))
    noise = np.random.default_rng(0).integers(0, 256, (50, 50), dtype=np.uint8)
    cut = _saved(tmp_path / "cut.png", noise)
    cut.write_bytes(cut.read_bytes()[:500])
    with pytest.raises(InputError, match="cannot be decoded"):
        image_files.read_merged(cut, (50, 50))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_not_decoded(tmp_path, monkeypatch):
    path = _saved(tmp_path / "a.png", np.zeros((30, 50), np.uint8))
    for limit in (1000, 100):
        monkeypatch.setattr(png, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InputError, match=r"claims 30 x 50 px|cannot be decoded"):
            image_files.read_merged(path, (30, 50))
