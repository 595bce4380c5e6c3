"""DeltaVision (.dv): planes of one size after a header of 1024 bytes."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy.formats import base

# The number -16224 as 16 bits, little and big endian, which distinguishes DV from MRC.
_MAGIC_OFFSET, _MAGICS = 96, (b"\xa0\xc0", b"\xc0\xa0")
# Orders of planes; others are not documented.
_KNOWN_SEQUENCES = (0, 1, 2)


def _claims(path: pathlib.Path, head: bytes) -> bool:
    return head[_MAGIC_OFFSET : _MAGIC_OFFSET + 2] in _MAGICS


def _scenes(path: pathlib.Path) -> Iterator[base.Scene]:
    """Yields one scene; panels and stage positions count as its time points."""
    import mrc

    with mrc.DVFile(path) as file:
        header, sizes = file.hdr, file.sizes
        if header.img_seq not in _KNOWN_SEQUENCES:
            raise InputError(
                f"{path}: the planes are in the order {header.img_seq}, but only 0 (ZTW), "
                "1 (WZT) and 2 (ZWT) are known. Export the field as OME-TIFF."
            )
        if sizes["T"] * sizes["C"] * sizes["Z"] != header.n_sections:
            raise InputError(
                f"{path}: {header.n_sections} planes do not fit to {sizes['T']} time "
                f"points x {sizes['C']} channels. Copy it again from the microscope."
            )

        def read(t: int, z: int, c: int) -> np.ndarray:
            place = {"T": t, "Z": z, "C": c}
            plane = file.data[tuple(place[axis] for axis in file.axes[:3])]
            # A copy, since the file's memory map ends with the scene.
            return plane.astype(plane.dtype.newbyteorder("="))

        yield base.Scene(
            (sizes["T"], sizes["Z"], sizes["C"]),
            (sizes["Y"], sizes["X"]),
            _channels(header),
            read,
            base.pixel_size(header.dx, header.dy, "µm", "µm"),
        )


def _channels(header: Any) -> tuple[base.Channel, ...]:
    """Returns the channels; a DV file has only their emission, and that of five."""
    waves = [header.wave1, header.wave2, header.wave3, header.wave4, header.wave5]
    waves += [None] * (header.nc - len(waves))
    return tuple(
        base.Channel(emission_nm=base.wavelength_nm(wave))
        for wave in waves[: header.nc]
    )


FORMAT = base.Format("DeltaVision DV", "mrc", "dv", (".dv",), _claims, _scenes)
