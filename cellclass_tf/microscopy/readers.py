"""Reads fields of view from files of all supported formats."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import os
import pathlib
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np

from cellclass_tf.core.micrograph import FILE_SEPARATOR, Micrograph
from cellclass_tf.errors import InputError
from cellclass_tf.messages import logger
from cellclass_tf.microscopy.formats import (
    base,
    czi,
    dv,
    jpeg,
    lif,
    nd2,
    oif,
    omezarr,
    png,
    tiff,
)
from cellclass_tf.storage import digests
from cellclass_tf.storage.paths import check_is_file
from cellclass_tf.storage.png import MAX_IMAGE_PIXELS, check_image_size

Projection = Literal["max", "best", "none"]
PROJECTIONS = get_args(Projection)
# In the order in which they are tried; no two claim the same file.
FORMATS: tuple[base.Format, ...] = (
    png.FORMAT,
    jpeg.FORMAT,
    tiff.FORMAT,
    czi.FORMAT,
    lif.FORMAT,
    nd2.FORMAT,
    oif.FORMAT,
    omezarr.FORMAT,
    # The last, since its signature is only two bytes, in the middle of the header.
    dv.FORMAT,
)
LOSSY_SUFFIXES = jpeg.FORMAT.suffixes
ALL_SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)
# Endings of the files that are looked for unless the user allows lossy formats.
SUFFIXES = tuple(suffix for suffix in ALL_SUFFIXES if suffix not in LOSSY_SUFFIXES)

# The signature of every format lies within the first bytes.
_HEAD_BYTES = 128
# A smaller image cannot hold a cell.
_SMALLEST_PX = 16
# All channels of a field are in memory together.
_MOST_VALUES = 4 * MAX_IMAGE_PIXELS


def read_micrographs(
    path: str | os.PathLike,
    *,
    projection: str = "max",
    hashed: bool = True,
    allow_lossy: bool = False,
    judged: Callable[[Micrograph], Sequence[int]] | None = None,
) -> Iterator[Micrograph]:
    """Yields every field of view of a file: one for each scene and time point.

    At most two planes of each channel are in memory at a time. Colour pictures in a file
    that also holds fields, such as an overview of the slide, are left out; see
    `colour_scenes`. So are images that show another one at a smaller size, with a warning.

    Args:
      path: a file of any of FORMATS; its content decides which.
      projection: how a Z stack becomes one plane: 'max' takes the brightest value at
        every pixel, 'best' the sharpest plane (largest variance of the Laplacian,
        Pech-Pacheco et al. 2000, summed over channels, see `judged`), 'none' refuses
        stacks.
      hashed: whether to compute the file's SHA-256, which reads the file once more.
      allow_lossy: whether to accept lossy compression such as JPEG.
      judged: takes a field, with its first plane, and returns the indices of the channels
        whose sharpness counts for 'best'; None for all of them. A channel that is not used
        later, such as transmitted light, may be sharp elsewhere.

    Raises:
      InputError: if the file is broken, of no known format, needs a library that is not
        installed, or has axes of unknown meaning.
    """
    if projection not in PROJECTIONS:
        raise InputError(
            f"Unknown projection {projection!r}; known are {', '.join(PROJECTIONS)}."
        )
    path = pathlib.Path(path)
    known = format_of(path)
    with _clear_errors(path, known):
        library = f"{known.library} {_version(known.library)}"
        origin = _origin(known.files(path), library, hashed)
        number = -1
        left_out: dict[int, str] | None = None
        copies: dict[int, int] = {}
        for number, scene in enumerate(known.scenes(path)):
            if scene.copy_of is not None:
                copies[number] = scene.copy_of
                continue
            if scene.is_rgb:
                if left_out is None:
                    left_out = _colour_scenes(path, known)
                if number in left_out:
                    continue
            if scene.loss and not allow_lossy:
                raise InputError(
                    f"{path}: the pixels are compressed as {scene.loss}, which can "
                    "change them: edges have shadows, and faint structures are lost. "
                    "Use the original file; if there is none, add --allow_lossy."
                )
            yield from _fields(path, scene, number, projection, origin, judged)
        if number < 0:
            raise InputError(
                f"{path}: the {known.name} file holds no image. It may be truncated: "
                "copy it again from the microscope."
            )
        if copies:
            small, large = next(iter(copies.items()))
            logger.warning(
                "%s: %d of %d images are left out: they show others at a smaller size, "
                "as the levels of a pyramid do (image %d shows image %d).",
                path,
                len(copies),
                number + 1,
                small,
                large,
            )


def files_of(path: str | os.PathLike) -> tuple[pathlib.Path, ...]:
    """Returns the files that hold parts of the images that begin in a file, itself first.

    Raises:
      PartOfAnother: if the file only holds a part of an image that begins in another file.
      InputError: as `read_micrographs`.
    """
    path = pathlib.Path(path)
    known = format_of(path)
    with _clear_errors(path, known):
        return known.files(path)


def colour_scenes(path: str | os.PathLike) -> tuple[str, ...]:
    """Lists the scenes of a file that `read_micrographs` leaves out, as '1 (label)'.

    A file may hold a colour picture of the slide, or of its label, besides its fields.

    Raises:
      InputError: as `read_micrographs`.
    """
    path = pathlib.Path(path)
    known = format_of(path)
    with _clear_errors(path, known):
        found = _colour_scenes(path, known)
    return tuple(f"{n} ({name})" if name else str(n) for n, name in found.items())


def _colour_scenes(path: pathlib.Path, known: base.Format) -> dict[int, str]:
    """Returns the colour pictures, as names by scene number; none if all scenes are."""
    if known.holds_one:
        return {}
    scenes = [(scene.is_rgb, scene.name) for scene in known.scenes(path)]
    if all(is_rgb for is_rgb, _ in scenes):
        return {}
    return {n: name for n, (is_rgb, name) in enumerate(scenes) if is_rgb}


def _origin(
    paths: Sequence[pathlib.Path], library: str, hashed: bool
) -> dict[str, str]:
    """Returns the attributes of `Micrograph` that say where a field comes from."""
    hashes = (digests.sha256_of_path(path) for path in paths) if hashed else ()
    return {
        "file": FILE_SEPARATOR.join(map(str, paths)),
        "sha256": FILE_SEPARATOR.join(hashes),
        "reader": library,
    }


@contextlib.contextmanager
def _clear_errors(path: pathlib.Path, known: base.Format) -> Iterator[None]:
    """Turns the errors of the block's library into an InputError with advice."""
    try:
        yield
    except InputError:
        raise
    except (ImportError, importlib.metadata.PackageNotFoundError) as error:
        raise InputError(
            f"{path}: reading a {known.name} file needs {known.library}, which is not "
            f"installed. Run: pip install 'cellclass_tf[{known.extra}]'"
        ) from error
    # Libraries raise errors of many kinds for broken files.
    except Exception as error:
        raise InputError(
            f"{path}: the {known.name} file cannot be read ({type(error).__name__}: "
            f"{_one_line(error)}). It may be truncated: copy it again from the "
            "microscope."
        ) from error


def read_micrograph(
    path: str | os.PathLike, *, projection: str = "max", scene: int = 0, time: int = 0
) -> Micrograph:
    """Reads one field of view; see `read_micrographs`.

    Raises:
      InputError: as `read_micrographs`, and if the file has no such scene or time.
    """
    found = []
    for micrograph in read_micrographs(path, projection=projection):
        if (micrograph.scene, micrograph.time) == (scene, time):
            return micrograph
        found.append((micrograph.scene, micrograph.time))
    raise InputError(
        f"{path}: no scene {scene}, time {time}; it holds (scene, time) {found}."
    )


def format_of(path: pathlib.Path) -> base.Format:
    """Finds the format of a file by its content.

    Raises:
      InputError: if there is no such file or no format claims it; the message lists the
        formats.
    """
    head = _first_bytes(path)
    for known in FORMATS:
        if known.claims(path, head):
            return known
    names = ", ".join(known.name for known in FORMATS)
    raise InputError(
        f"{path}: of no known format; tried {names}. "
        + (f"The first bytes are {head[:12]!r}. " if head else "")
        + "Export the field as OME-TIFF from the microscope's software."
    )


@functools.cache
def _version(library: str) -> str:
    return importlib.metadata.version(library)


def _first_bytes(path: pathlib.Path) -> bytes:
    """Returns the first bytes of a file; b"" for a folder, since OME-Zarr is one."""
    if path.is_dir():
        return b""
    check_is_file(path)
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}).") from error
    if not head:
        raise InputError(
            f"{path}: the file is empty (0 bytes). Copy it again from the microscope."
        )
    return head


def _one_line(error: Exception) -> str:
    """Shortens an error message, since some libraries write whole lists into it."""
    return textwrap.shorten(str(error), 200)


def _fields(
    path: pathlib.Path,
    scene: base.Scene,
    number: int,
    projection: str,
    origin: dict[str, str],
    judged: Callable[[Micrograph], Sequence[int]] | None,
) -> Iterator[Micrograph]:
    """Yields the fields of a scene, one for each time point."""
    check_image_size(*scene.size_yx, path)
    times, depth, count = scene.size_tzc
    if count * scene.size_yx[0] * scene.size_yx[1] > _MOST_VALUES:
        raise InputError(
            f"{path}: the header claims {count} channels of {scene.size_yx[0]} x "
            f"{scene.size_yx[1]} px, more than the {_MOST_VALUES:,} values that can be "
            "read at once. Split the field into tiles, or leave out channels."
        )
    if min(scene.size_yx) < _SMALLEST_PX or min(scene.size_tzc) < 1:
        raise InputError(
            f"{path}: expected a field of at least {_SMALLEST_PX} x {_SMALLEST_PX} px; "
            f"got {scene.size_yx[0]} x {scene.size_yx[1]}, {times} time points, {depth} "
            f"planes, {count} channels."
        )
    if depth > 1 and projection == "none":
        raise InputError(
            f"{path}: a stack of {depth} planes. Choose --projection=max (brightest "
            "plane at every pixel) or --projection=best (sharpest plane)."
        )
    for time in range(times):
        first = Micrograph(
            _planes(scene, time, 0),
            tuple(channel.name for channel in scene.channels),
            tuple(channel.emission_nm for channel in scene.channels),
            pixel_size_um=scene.pixel_size.um,
            pixel_size_problem=scene.pixel_size.problem,
            **origin,
            scene=number,
            scene_name=scene.name,
            time=time,
            is_rgb=scene.is_rgb,
            well=scene.well,
            stage_um=scene.stage_um,
        )
        if depth == 1:
            yield first
        elif projection == "max":
            yield _brightest(first, scene)
        else:
            yield _sharpest(first, scene, judged(first) if judged else range(count))


def _planes(scene: base.Scene, time: int, z: int) -> np.ndarray:
    """Reads all channels of a plane, (C, Y, X)."""
    pixels = np.stack([scene.read(time, z, c) for c in range(scene.size_tzc[2])])
    if z == 0 and pixels.shape[1:] != tuple(scene.size_yx):
        raise ValueError(f"{scene.size_yx} px expected, {pixels.shape[1:]} there")
    return pixels


def _brightest(first: Micrograph, scene: base.Scene) -> Micrograph:
    """Projects the Z stack that begins with this plane to its brightest values."""
    pixels = first.pixels
    for z in range(1, scene.size_tzc[1]):
        np.maximum(pixels, _planes(scene, first.time, z), out=pixels)
    return dataclasses.replace(first, z="max")


def _sharpest(
    first: Micrograph, scene: base.Scene, judged: Sequence[int]
) -> Micrograph:
    """Returns the plane of a Z stack in which some channels are sharpest."""
    channels = list(judged)
    pixels = first.pixels
    best, most = 0, _sharpness(pixels[channels])
    for z in range(1, scene.size_tzc[1]):
        candidate = _planes(scene, first.time, z)
        sharpness = _sharpness(candidate[channels])
        if sharpness > most:
            pixels, best, most = candidate, z, sharpness
    return dataclasses.replace(first, pixels=pixels, z=f"best:{best}")


def _sharpness(plane: np.ndarray) -> float:
    from scipy import ndimage

    return sum(float(ndimage.laplace(c.astype(np.float32)).var()) for c in plane)
