"""Olympus OIB, and OIF with its folder, which hold one small TIFF for each plane."""

from __future__ import annotations

import pathlib
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy.formats import base

# Signature of compound documents, such as OIB and old Office files.
_COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_TEXTS = (b"\xff\xfe[\0", b"[")
# Planes are called s_C001Z002T003.tif.
_PLANE_NAME = re.compile(r"_((?:[A-Z]\d+)+)\.tif$")
_KNOWN_AXES = "TZC"

_Index = tuple[int, int, int]


def _claims(path: pathlib.Path, head: bytes) -> bool:
    is_main_file = head.startswith(_TEXTS) and path.suffix.lower() == ".oif"
    return head.startswith(_COMPOUND) or is_main_file


def _scenes(path: pathlib.Path) -> Iterator[base.Scene]:
    """Yields one scene."""
    import oiffile

    _check_container(path)
    with oiffile.OifFile(path) as file:
        planes = _planes(path, file)
        times, depth, count = (1 + max(axis) for axis in zip(*planes, strict=True))
        if len(planes) < times * depth * count:
            raise InputError(
                f"{path}: only {len(planes)} planes are there of {times} time points x "
                f"{depth} depths x {count} channels. Copy it again from the microscope, "
                "with the whole folder *.oif.files."
            )
        size_yx = _size_yx(path, file)
        yield base.Scene(
            (times, depth, count),
            size_yx,
            tuple(_channel(file.mainfile, c) for c in range(count)),
            lambda t, z, c: _read(file, planes[t, z, c], size_yx),
            _pixel_size(file.mainfile),
        )


def _planes(path: pathlib.Path, file: Any) -> dict[_Index, str]:
    """Returns the names of the TIFFs by (t, z, c)."""
    planes: dict[_Index, str] = {}
    strange: dict[str, set[str]] = {}
    for name in file.glob():
        found = _PLANE_NAME.search(name)
        if not found:
            continue
        index = dict(re.findall(r"([A-Z])(\d+)", found.group(1)))
        for axis in set(index) - set(_KNOWN_AXES):
            strange.setdefault(axis, set()).add(index[axis])
        t, z, c = (int(index.get(axis, 1)) - 1 for axis in _KNOWN_AXES)
        planes[t, z, c] = name
    several = sorted(axis for axis, places in strange.items() if len(places) > 1)
    if several or not planes:
        raise InputError(
            f"{path}: expected planes by time, depth and channel; got "
            f"{'other axes: ' + ', '.join(several) if several else 'none'} (L is a "
            "lambda scan). Export the field as OME-TIFF."
        )
    return planes


def _size_yx(path: pathlib.Path, file: Any) -> tuple[int, int]:
    sizes = dict(zip(file.axes, file.shape, strict=True))
    if file.axes[-2:] != "YX":
        raise InputError(
            f"{path}: scanned along {file.axes[::-1]}, not first X and then Y, so that "
            f"its planes are not fields of view ({sizes})."
        )
    return sizes["Y"], sizes["X"]


def _read(file: Any, name: str, size_yx: tuple[int, int]) -> np.ndarray:
    import tifffile

    with file.open_file(name) as stream, tifffile.TiffFile(stream, name=name) as tiff:
        page = tiff.pages[0]
        # Checked before a pixel is read, since the header may state any size.
        if page.shape != size_yx:
            raise ValueError(f"{name} has {page.shape} px; expected {size_yx}")
        return page.asarray()


def _channel(settings: Mapping[str, Any], number: int) -> base.Channel:
    found = settings.get(f"Channel {number + 1} Parameters", {})
    dye = str(found.get("DyeName") or "")
    return base.Channel(
        base.channel_name(
            str(found.get("CH Name") or ""), "" if dye == "None" else dye
        ),
        base.wavelength_nm(found.get("EmissionWavelength")),
    )


def _pixel_size(settings: Mapping[str, Any]) -> base.PixelSize:
    # The end of the axis is recorded, too, but versions differ in whether it is the
    # middle or the edge of the last pixel.
    found = settings.get("Reference Image Parameter", {})
    x, y = (found.get(f"{side}ConvertValue") for side in ("Width", "Height"))
    units = (str(found.get(f"{side}Unit") or "") for side in ("Width", "Height"))
    return base.pixel_size(x, y, *units)


def _check_container(path: pathlib.Path) -> None:
    """Raises InputError unless the content fits the file's ending and can be read."""
    with open(path, "rb") as file:
        is_compound = file.read(8) == _COMPOUND
    if is_compound == (path.suffix.lower() == ".oif"):
        raise InputError(
            f"{path}: the ending is .oif, but the file is a compound document such as "
            "OIB. Rename it to .oib."
        )
    if not is_compound:
        if not path.with_name(path.name + ".files").is_dir():
            raise InputError(
                f"{path}: its pixels are in the folder {path.name}.files, which is not "
                "beside it. Copy the folder too."
            )
        return
    _check_chains(path)
    if "OibInfo.txt".encode("utf-16-le") not in path.read_bytes():
        raise InputError(
            f"{path}: a compound document, but no Olympus OIB. It may be an old Office "
            "file or Zeiss ZVI. Export the field as OME-TIFF."
        )


def _check_chains(path: pathlib.Path) -> None:
    """Raises InputError if a chain of sectors is circular.

    The library would follow it without end, and fill the memory. Layout: Microsoft,
    [MS-CFB] Compound File Binary File Format, 2.2 to 2.4.
    """
    content = np.memmap(path, mode="r")
    size = 1 << int.from_bytes(content[30:32].tobytes(), "little")
    table_count, mini_start, list_start, list_count = (
        struct.unpack("<I", content[at : at + 4].tobytes())[0]
        for at in (44, 60, 68, 72)
    )

    def sectors(numbers: Iterable[int]) -> np.ndarray:
        parts = [content[(n + 1) * size : (n + 2) * size] for n in numbers]
        return np.frombuffer(b"".join(part.tobytes() for part in parts), "<u4")

    tables = np.frombuffer(content[76:512].tobytes(), "<u4")
    for _ in range(min(list_count, len(content) // size)):
        part = sectors([list_start])
        tables, list_start = np.append(tables, part[:-1]), int(part[-1])
    chain = sectors(int(n) for n in tables[:table_count])
    circular = _runs_in_a_circle(chain)
    if not circular:
        numbers = _chain_from(mini_start, chain)
        circular = _runs_in_a_circle(sectors(numbers))
    if circular:
        raise InputError(
            f"{path}: the OIB is broken (its table of sectors is circular). Copy it again "
            "from the microscope."
        )


def _runs_in_a_circle(following: np.ndarray) -> bool:
    """Whether a chain in a table of successors never ends."""
    end = len(following)
    jump = np.append(np.minimum(following, end), end).astype(np.int64)
    # Each round doubles the steps; a chain cannot be longer than the table.
    for _ in range(end.bit_length()):
        jump = jump[jump]
    return bool((jump != end).any())


def _chain_from(start: int, following: np.ndarray) -> Iterator[int]:
    while start < len(following):
        yield start
        start = int(following[start])


FORMAT = base.Format(
    "Olympus OIB and OIF", "oiffile", "oif", (".oib", ".oif"), _claims, _scenes
)
