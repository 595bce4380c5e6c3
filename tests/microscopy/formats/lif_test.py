"""Tests of cellclass_tf.microscopy.formats.lif, on files made by hand."""

import struct

import numpy as np
import pytest

from cellclass_tf import messages
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers

DIMENSIONS = {"X": 1, "Y": 2, "Z": 3, "T": 4, "λ": 5, "M": 10}
# The pixels of a line reach over one step of 0.5 µm less than their number.
STEP_M = 0.5e-6


def image_xml(
    name,
    axes,
    pixels,
    luts=("Blue", "Green"),
    dyes=(),
    settings="",
    extra="",
    tags=(0, 0, 0),
):
    """Describes an image whose array has `axes`, such as 'TZCYX', outermost first."""
    steps = dict(zip(axes, pixels.strides, strict=True))
    sizes = dict(zip(axes, pixels.shape, strict=True))
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="{tags[i]}" Resolution="16" '
        f'NameOfMeasuredQuantity="" Min="0" Max="65535" Unit="" LUTName="{lut}" '
        f'IsLUTInverted="0" BytesInc="{i * steps.get("C", steps.get("S", 0))}" BitInc="0">'
        + (
            f"<ChannelProperty><Key>DyeName</Key><Value>{dyes[i]}</Value>"
            "</ChannelProperty>"
            if dyes
            else ""
        )
        + "</ChannelDescription>"
        for i, lut in enumerate(luts[: sizes.get("C", sizes.get("S", 1))])
    )
    dimensions = "".join(
        f'<DimensionDescription DimID="{DIMENSIONS[axis]}" NumberOfElements="{size}" '
        f'Origin="0" Length="{(size - 1) * STEP_M}" Unit="m" BitInc="0" BytesInc="{steps[axis]}"/>'
        for axis, size in sizes.items()
        if axis not in "CS"
    )
    return (
        f'<Element Name="{name}" UniqueID="{name}"><Data><Image><ImageDescription>'
        f"<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions>"
        f"</ImageDescription>{settings}</Image></Data>"
        f'<Memory Size="{pixels.nbytes}" MemoryBlockID="Block_{name}"/>{extra}</Element>'
    )


def write(path, *images):
    """Writes a LIF of (name, axes, pixels, options of its description)."""
    children = "".join(image_xml(name, axes, a, **kw) for name, axes, a, kw in images)
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="project" UniqueID="p">'
        f'<Children>{children}</Children><Memory Size="0" MemoryBlockID="Block_p"/>'
        "</Element></LMSDataContainerHeader>"
    )
    text = xml.encode("utf-16-le")
    content = struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(text) // 2) + text
    for name, _, pixels, _ in images:
        label = f"Block_{name}".encode("utf-16-le")
        content += struct.pack(
            "<IIBQBI", 0x70, len(label) + 14, 0x2A, pixels.nbytes, 0x2A, len(label) // 2
        )
        content += label + pixels.tobytes()
    path.write_bytes(content)
    return path


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 4000, shape, np.uint16)


# A stack of three planes of two channels.
STACK = noise(3, 2, 32, 40)


def test_a_stack_of_two_channels_is_read(tmp_path):
    path = write(tmp_path / "a.lif", ("cells", "ZCYX", STACK, {}))
    (field,) = readers.read_micrographs(path)
    np.testing.assert_array_equal(field.pixels, STACK.max(axis=0))
    assert field.scene_name == "cells"
    # Without a dye, the colours that the user chose are the names.
    assert field.channel_names == ("Blue", "Green")
    assert field.pixel_size_um == pytest.approx(0.5)


def test_pixels_that_are_not_square_are_reported(tmp_path):
    path = write(tmp_path / "a.lif", ("cells", "ZCYX", STACK, {}))
    # 32 lines of 1 µm, in the same number of characters.
    old, new = (f'Length="{31 * step}"' for step in (STEP_M, 2 * STEP_M))
    new = new.ljust(len(old))
    content = path.read_bytes()
    assert content.count(old.encode("utf-16-le")) == 1
    content = content.replace(old.encode("utf-16-le"), new.encode("utf-16-le"))
    path.write_bytes(content)
    (field,) = readers.read_micrographs(path)
    assert field.pixel_size_um is None
    assert field.pixel_size_problem == "0.5 x 1 µm, pixels that are not square"


@pytest.mark.parametrize("tags", [(0, 0, 0), (1, 2, 3)])
def test_samples_are_colours_only_if_the_file_says_so(tmp_path, tags):
    pixels = noise(32, 40, 3)
    options = {"luts": ("Cyan", "Gray", "Magenta"), "tags": tags}
    path = write(tmp_path / "a.lif", ("cells", "YXS", pixels, options))
    (field,) = readers.read_micrographs(path)
    np.testing.assert_array_equal(field.pixels, np.moveaxis(pixels, -1, 0))
    assert field.is_rgb == any(tags)
    names = ("red", "green", "blue") if any(tags) else options["luts"]
    assert field.channel_names == names


def test_times_and_channels_are_read_in_either_order(tmp_path):
    pixels = noise(2, 3, 32, 40)
    path = write(tmp_path / "a.lif", ("cells", "CTYX", pixels, {}))
    fields = list(readers.read_micrographs(path))
    assert [field.time for field in fields] == [0, 1, 2]
    for field in fields:
        np.testing.assert_array_equal(field.pixels, pixels[:, field.time])


def test_each_image_is_a_scene_and_each_tile_too(tmp_path):
    one, mosaic = noise(2, 32, 40), noise(4, 2, 32, 40, seed=1)
    path = write(
        tmp_path / "a.lif", ("one", "CYX", one, {}), ("many", "MCYX", mosaic, {})
    )
    fields = list(readers.read_micrographs(path))
    assert [field.scene_name for field in fields] == ["one"] + [
        f"many tile {i}" for i in range(4)
    ]
    np.testing.assert_array_equal([f.pixels for f in fields], [one, *mosaic])


def test_dyes_of_the_channels_themselves(tmp_path):
    options = {"dyes": ("Leica/DAPI", "Alexa 488")}
    path = write(tmp_path / "a.lif", ("a", "CYX", STACK[0], options))
    assert readers.read_micrograph(path).channel_names == ("DAPI", "Alexa 488")


# As a confocal writes it: of three detectors the second is off.
CONFOCAL = (
    '<Attachment Name="HardwareSetting"><ATLConfocalSettingDefinition><Spectro>'
    '<MultiBand Channel="1" LeftWorld="410" RightWorld="480" DyeName="Leica/DAPI"/>'
    '<MultiBand Channel="2" LeftWorld="490" RightWorld="500" DyeName="FITC"/>'
    '<MultiBand Channel="3" LeftWorld="500" RightWorld="700" DyeName="GFP"/></Spectro>'
    '<DetectorList><Detector Channel="1" IsActive="1"/><Detector Channel="2" '
    'IsActive="0"/><Detector Channel="3" IsActive="1"/></DetectorList>'
    "</ATLConfocalSettingDefinition></Attachment>"
)
CAMERA = (
    '<Attachment Name="HardwareSetting"><ATLCameraSettingDefinition>'
    '<WideFieldChannelInfo UserDefName="DAPI" EmissionWavelength="460"/>'
    '<WideFieldChannelInfo FluoCubeName="GFP" EmissionWavelength="525"/>'
    "</ATLCameraSettingDefinition></Attachment>"
)


@pytest.mark.parametrize(
    ("settings", "emissions"),
    # The middle of 410 to 480 nm; 500 to 700 nm is too wide to say which stain.
    [(CONFOCAL, (445, None)), (CAMERA, (460, 525))],
)
def test_dyes_and_emission_of_the_settings(tmp_path, settings, emissions):
    options = {"settings": settings}
    path = write(tmp_path / "a.lif", ("a", "CYX", STACK[0], options))
    field = readers.read_micrograph(path)
    assert field.channel_names == ("DAPI", "GFP")
    assert field.emissions_nm == emissions


def test_settings_for_another_number_of_channels_are_ignored(tmp_path):
    options = {"settings": CAMERA, "luts": ("Blue", "Green", "Red")}
    path = write(tmp_path / "a.lif", ("a", "CYX", noise(3, 32, 40), options))
    field = readers.read_micrograph(path)
    assert field.channel_names == ("Blue", "Green", "Red")
    assert field.emissions_nm == (None, None, None)


def test_a_bad_image_does_not_hide_the_good_one(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(messages.logger, "warning", lambda *args: warnings.append(args))
    path = write(
        tmp_path / "a.lif",
        ("sideways", "CZX", noise(2, 32, 40), {}),
        ("scan", "λYX", noise(5, 32, 40), {}),
        ("good", "CYX", STACK[0], {}),
    )
    (field,) = readers.read_micrographs(path)
    np.testing.assert_array_equal(field.pixels, STACK[0])
    ((text, *values),) = warnings
    message = text % tuple(values)
    assert "a.lif: 2 of 3 images" in message
    assert "'sideways': its planes are ZX" in message
    assert "'scan': a lambda scan (λ 5, Y 32, X 40)" in message


def test_a_file_of_bad_images_is_refused_with_each_reason(tmp_path):
    path = write(
        tmp_path / "a.lif",
        ("sideways", "CZX", noise(2, 32, 40), {}),
        ("line", "TX", noise(32, 40), {}),
    )
    with pytest.raises(InputError, match=r"'sideways': .* ZX.*'line': .* are TX"):
        readers.read_micrograph(path)


def test_an_image_that_claims_more_than_its_block_is_refused(tmp_path):
    path = write(
        tmp_path / "a.lif", ("a", "CYX", STACK[0], {}), ("b", "CYX", STACK[1], {})
    )
    claim = 'DimID="2" NumberOfElements="32"'.encode("utf-16-le")
    more = 'DimID="2" NumberOfElements="64"'.encode("utf-16-le")
    path.write_bytes(path.read_bytes().replace(claim, more))
    with pytest.raises(InputError, match="5120 of its 10240 bytes"):
        readers.read_micrograph(path)


@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_truncated_file_is_refused_as_a_whole(tmp_path, tenth):
    path = write(
        tmp_path / "a.lif", ("a", "CYX", STACK[0], {}), ("b", "ZCYX", STACK, {})
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size * tenth // 10])
    with pytest.raises(InputError, match=r"a\.lif"):
        list(readers.read_micrographs(path))


def test_real_series_in_x_and_z_are_refused_by_name(assets):
    path = assets / "microscope_files" / "lif" / "testdata_2channel_xz.lif"
    with pytest.raises(InputError, match="'xzt': its planes are ZX, not Y and X"):
        readers.read_micrograph(path)


def tile_scan(*places):
    tiles = "".join(f'<Tile FieldX="0" PosX="{x}" PosY="{y}"/>' for x, y in places)
    return f'<Attachment Name="TileScanInfo">{tiles}</Attachment>'


def test_tiles_have_the_positions_of_the_tile_scan(tmp_path):
    one, mosaic = noise(2, 32, 40), noise(2, 2, 32, 40, seed=1)
    places = tile_scan((0.031, -0.002), (0.0315, "nowhere"))
    path = write(
        tmp_path / "a.lif",
        ("one", "CYX", one, {}),
        ("many", "MCYX", mosaic, {"settings": places}),
        ("fewer", "MCYX", mosaic, {"settings": tile_scan((1e-3, 1e-3))}),
    )
    found = [field.stage_um for field in readers.read_micrographs(path)]
    assert found == [None, pytest.approx((31_000, -2_000)), None, None, None]
