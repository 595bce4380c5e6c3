"""Reads label images, and reads and writes the tables of types beside them."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic, csv_json, paths, png, tiff_log


def read_labels(path: str | os.PathLike) -> np.ndarray:
    """Reads a label image.

    Returns:
      (H, W) integer array as stored; 32-bit floats that are all integers, which ImageJ
      writes, as int32.

    Raises:
      InputError: if the file cannot be read or is not a single plane of integers.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() == ".png":
        labels = png.read_png(path)
    else:
        labels = _read_label_tiff(path)
    if labels.dtype.kind == "f":
        labels = _whole_numbers(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "ui":
        raise InputError(
            f"{path}: expected a label image, (H, W) of whole numbers; got shape "
            f"{labels.shape} of {labels.dtype}."
        )
    return labels


def label_image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Returns (height, width) of a label TIFF without reading its pixels.

    Raises:
      InputError: if the file cannot be read.
    """
    with _label_page(pathlib.Path(path)) as page:
        return int(page.imagelength), int(page.imagewidth)


def read_types(table: str | os.PathLike, present: Sequence[int]) -> dict[int, str]:
    """Reads a table of types, which must have exactly one line for every cell.

    Args:
      table: path of the table.
      present: the cells in the label image.

    Returns:
      The type of each cell.

    Raises:
      InputError: if the file is not a table.
      KeyError: if a column is missing.
      ValueError: if a line is not valid, or if the lines do not fit to the cells.
    """
    found: dict[int, str] = {}
    for line, row in enumerate(csv_json.read_csv(table), start=2):
        number = float(row["cell"])
        if not number.is_integer():
            raise ValueError(f"line {line}: {row['cell']!r} is not a cell number")
        if int(number) in found:
            raise ValueError(f"line {line}: cell {int(number)} already has a line")
        found[int(number)] = row["cell_type"].strip()
    missing, strange = (
        sorted(set(present) - set(found)),
        sorted(set(found) - set(present)),
    )
    if missing or strange:
        told = [f"cell {missing[0]} of the label image has no line"] if missing else []
        told += [f"it names cell {strange[0]}, which is not there"] if strange else []
        raise ValueError(
            f"{' and '.join(told)} ({len(present)} cells, {len(found)} lines). Expected "
            "a line (cell, cell_type) for each cell, under its number in the label image"
        )
    return found


def write_types(path: str | os.PathLike, cell_types: Sequence[str]) -> None:
    """Writes the table of the types of cells 1..N, NAME.csv."""
    atomic.write_text(path, types_text(cell_types))


def types_text(cell_types: Sequence[str]) -> str:
    """Returns the content of the table that `write_types` writes."""
    rows = enumerate(cell_types, start=1)
    return csv_json.csv_text(
        ("cell", "cell_type"),
        ({"cell": cell, "cell_type": cell_type} for cell, cell_type in rows),
    )


def _whole_numbers(labels: np.ndarray) -> np.ndarray:
    """Returns floats that are all integers as int32, and other floats unchanged."""
    # From 2**24 on, single precision does not hold every integer.
    if not np.isfinite(labels).all() or np.abs(labels).max(initial=0) >= 2**24:
        return labels
    whole = labels.astype(np.int32)
    return whole if (whole == labels).all() else labels


def _read_label_tiff(path: pathlib.Path) -> np.ndarray:
    with _label_page(path) as page:
        return page.asarray()


@contextlib.contextmanager
def _label_page(path: pathlib.Path) -> Iterator[Any]:
    """Opens the only page of a label TIFF, whose pixels are not read yet."""
    import tifffile

    paths.check_is_file(path)
    try:
        with tiff_log.errors() as errors, tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            # A page may also hold several samples per pixel and several planes.
            width = page.imagewidth * page.samplesperpixel * page.imagedepth
            png.check_image_size(page.imagelength, width, path)
            if len(tiff.pages) > 1:
                raise InputError(
                    f"{path}: expected a label image of one plane, got "
                    f"{len(tiff.pages)} planes."
                )
            yield page
            if errors:
                raise ValueError(errors[0])
    except InputError:
        raise
    # For damaged files, the reader and its codecs raise errors of many kinds.
    except Exception as error:
        raise InputError(f"{path}: the label TIFF cannot be read ({error}).") from error
