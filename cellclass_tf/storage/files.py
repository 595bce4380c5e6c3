"""Files that appear whole or not at all, and images that are safe to open."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import pathlib
import platform
import re
import struct
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf import process_state

# Twice the 10,000 x 10,000 px field that the library is made for. A header that claims
# more is taken for a decompression bomb and is refused before a pixel is read.
MAX_IMAGE_PIXELS = 200_000_000

# What a half-written file's name begins with.
PART_PREFIX = ".part-"

ABANDONED_AFTER_S = 3600

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_PALETTE = 3


class InputError(ValueError):
    """Input that cannot be used: the message says what, where and what to do."""


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary sibling of `path` that replaces it when the block succeeds.

    A block that raises, or a process that is killed, leaves `path` as it was.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, since image writers choose the format by it.
    handle, name = tempfile.mkstemp(
        dir=path.parent,
        prefix=f"{PART_PREFIX}{_writer(os.getpid())}-",
        suffix="".join(path.suffixes[-2:]),
    )
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def one_line(text: str) -> str:
    """Returns a text with its line breaks and control characters spelt out.

    Names of files may hold them, and a list of failures has one line each.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def remove_leftovers(folder: pathlib.Path) -> None:
    """Removes half-written files of processes that are gone.

    Those of another machine, which may share the folder, go after an hour.
    """
    for leftover in folder.glob(f"{PART_PREFIX}*"):
        with contextlib.suppress(OSError):
            if leftover.is_file() and _is_abandoned(leftover):
                leftover.unlink()


def _writer(pid: int) -> str:
    """What tells a process in the name of its half-written files."""
    return f"{re.sub(r'[^A-Za-z0-9]', '', platform.node())[:30]}-{pid}"


def _is_abandoned(leftover: pathlib.Path) -> bool:
    host_and_pid = leftover.name.removeprefix(PART_PREFIX).split("-")[:2]
    if len(host_and_pid) == 2 and host_and_pid[1].isdecimal():
        pid = int(host_and_pid[1])
        if "-".join(host_and_pid) == _writer(pid):
            return not _is_alive(pid)
    return time.time() - leftover.stat().st_mtime > ABANDONED_AFTER_S


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes `content`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


def write_csv(
    path: str | os.PathLike, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Writes `rows` under `columns`, whole or not at all; None becomes an empty cell."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def read_csv(path: str | os.PathLike) -> list[dict[str, str]]:
    """Reads a CSV file with a header into one dictionary of strings a row.

    Raises:
      InputError: if it is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected UTF-8 ({error}). Save it as 'CSV UTF-8'."
        ) from error


def sha256_of_file(path: str | os.PathLike) -> str:
    """Returns the hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a raw file, or of all that it consists of.

    OME-Zarr is a folder, see `sha256_of_tree`; an OIF file keeps its pixels in the
    folder PATH.files, whose SHA-256 is hashed together with its own.
    """
    if os.path.isdir(path):
        return sha256_of_tree(path)
    beside = f"{os.fspath(path)}.files"
    if not os.path.isdir(beside):
        return sha256_of_file(path)
    both = sha256_of_file(path) + sha256_of_tree(beside)
    return hashlib.sha256(both.encode()).hexdigest()


def sha256_of_tree(folder: str | os.PathLike) -> str:
    """Returns one SHA-256 over the names and bytes of all files below `folder`."""
    folder = pathlib.Path(folder)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(sha256_of_file(path).encode())
    return digest.hexdigest()


def fingerprint(*parts: Any) -> str:
    """Returns a short hash of JSON-like values; a path counts with its size and time."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, pathlib.Path):
            # A file that is missing is for the one who opens it to complain of.
            status = part.stat() if part.exists() else None
            part = [str(part), status and (status.st_size, status.st_mtime_ns)]
        digest.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\0")
    return digest.hexdigest()[:16]


def recorded_path(path: str | os.PathLike) -> str:
    """Returns a path as it is recorded: absolute, or the address of a bucket."""
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(text)


def places_of(
    recorded: str, folder: str | os.PathLike, folder_then: str = ""
) -> list[pathlib.Path]:
    """Returns the places where a recorded path may be now, the likeliest first.

    Args:
      recorded: as the record holds it, see `recorded_path`; '' if it holds none. A
        relative one, of an older version, does not say from which folder.
      folder: of the record.
      folder_then: where that folder was when the record was written, '' if unknown:
        what was moved together with it is found again.
    """
    path, folder = pathlib.Path(recorded), pathlib.Path(os.path.abspath(folder))
    if not recorded:
        return []
    if path.is_absolute() and folder_then:
        between = os.path.relpath(path, folder_then)
        moved = pathlib.Path(os.path.normpath(folder / between))
        return list(dict.fromkeys([path, moved]))
    if path.is_absolute() or ".." in path.parts:
        return [path]
    return [*(parent / path for parent in (folder, *folder.parents)), path]


def inside(name: str, source: str | os.PathLike) -> pathlib.PurePosixPath:
    """Returns a relative path that a file names, if it stays in the folder it is of.

    Raises:
      InputError: if it is absolute or leads out; `source` is the file that names it.
    """
    path = pathlib.PurePosixPath(name)
    if not path.name or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise InputError(f"{source} names {name!r}, a path out of its folder.")
    return path


def check_image_size(height: int, width: int, path: str | os.PathLike) -> None:
    """Raises InputError if an image's header claims more pixels than a field has."""
    if height * width > MAX_IMAGE_PIXELS:
        raise InputError(
            f"{path}: the header claims {height} x {width} px, more than the "
            f"{MAX_IMAGE_PIXELS:,} px that are opened. Split the field into tiles."
        )


@contextlib.contextmanager
def opened_image(
    path: str | os.PathLike, formats: Sequence[str] | None = None
) -> Iterator[Any]:
    """Yields an image that Pillow has opened, of up to `MAX_IMAGE_PIXELS`.

    Raises:
      PIL.Image.DecompressionBombError: if the header claims far more pixels.
    """
    from PIL import Image

    # Pillow compares with its limit when it opens a file, not when it reads the pixels.
    with process_state.pillow_pixel_limit(MAX_IMAGE_PIXELS):
        image = Image.open(path, formats=formats)
    with image:
        yield image


def read_png(path: str | os.PathLike) -> np.ndarray:
    """Reads a PNG as it is stored.

    Returns:
      (H, W) or (H, W, 3), uint8 or uint16. An alpha channel is dropped.

    Raises:
      InputError: if the file is no PNG, is broken, or is too large.
    """
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist. Make it again, or remove its row.")
    with open(path, "rb") as file:
        head = file.read(26)
    if head[:8] != _PNG_SIGNATURE or len(head) < 26:
        raise InputError(
            f"{path}: expected a PNG, but the first bytes are {head[:8]!r}."
        )
    width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
    check_image_size(height, width, path)
    if depth == 16 and colour not in (0, 4):
        return _decode_deep_png(path)
    return _decode_png(path, colour)


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes (H, W) uint8 or uint16, or (H, W, 3) uint8, whole or not at all."""
    write_bytes(path, encoded_png(image))


def encoded_png(image: np.ndarray, *, runs: bool = False) -> bytes:
    """Returns an image as the bytes of a PNG.

    Args:
      image: (H, W) uint8 or uint16, or (H, W, 3) uint8.
      runs: whether neighbours are often the same, as in label images. They are rare in
        micrographs: without the search for them a field is written in two thirds of
        the time, and comes out smaller.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(
        buffer,
        format="PNG",
        compress_level=1,
        compress_type=zlib.Z_RLE if runs else zlib.Z_HUFFMAN_ONLY,
    )
    return buffer.getvalue()


def _decode_png(path: str | os.PathLike, colour: int) -> np.ndarray:
    from PIL import Image

    try:
        with opened_image(path) as image:
            if colour == _PNG_PALETTE:
                return np.asarray(image.convert("RGB"))
            pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path}: the PNG cannot be decoded ({error}). Copy it again from its source."
        ) from error
    if pixels.dtype == np.int32:
        pixels = pixels.astype(np.uint16)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels = pixels[..., :-1]
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def _decode_deep_png(path: str | os.PathLike) -> np.ndarray:
    """16 bit a colour, which Pillow would quietly cut to 8."""
    import cv2

    with open(path, "rb") as file:
        content = np.frombuffer(file.read(), np.uint8)
    try:
        pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.ndim != 3:
        raise InputError(
            f"{path}: the PNG cannot be decoded. Copy it again from its source."
        )
    # From blue, green, red and perhaps alpha.
    return np.ascontiguousarray(pixels[..., 2::-1])
