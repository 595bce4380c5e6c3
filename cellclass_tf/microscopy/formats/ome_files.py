"""Finds the files of OME-TIFF images that span several files.

Each file has the metadata of all images, or names the file that has them (BinaryOnly; see
https://ome-model.readthedocs.io, "OME-TIFF specification"). Every image is read once,
with the file that holds its first plane, and is listed with all files that hold parts.
"""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple
from xml.etree import ElementTree

from cellclass_tf.errors import InputError, one_line
from cellclass_tf.microscopy.formats import base
from cellclass_tf.storage.paths import check_is_file

# A companion file has a line for each plane.
_MOST_XML_BYTES = 100_000_000
_PLANES = "{*}Image/{*}Pixels/{*}TiffData"


class OmeFiles(NamedTuple):
    """The images that begin in an OME-TIFF.

    Attributes:
      paths: all files that hold a part of the images, the OME-TIFF itself first.
      xml: metadata of the images, in which planes of other files are given by file names
        relative to the folder.
    """

    paths: tuple[pathlib.Path, ...]
    xml: str


def look(path: pathlib.Path) -> OmeFiles | None:
    """Finds the files of the images that begin in a file; None if it holds all of them.

    Raises:
      PartOfAnother: if no image begins in the file.
      InputError: if a file that belongs to it is missing, or lies outside of the folder.
    """
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        own = tiff.ome_metadata
    if not own or (
        "<UUID" not in own and "BinaryOnly" not in own and ":UUID" not in own
    ):
        return None
    root = ElementTree.fromstring(own)
    others, only, uuid = [], root.find("{*}BinaryOnly"), root.get("UUID")
    if only is not None:
        others.append(_beside(path, only.get("MetadataFile")))
        root = ElementTree.fromstring(_metadata_of(others[0]))
    this, all_planes = _This(path, uuid, root), list(root.iterfind(_PLANES))
    if only is None and all(map(this.has, all_planes)):
        return None if this.is_named_as_it_is else OmeFiles((path,), this.retold(root))
    whole = None
    for image in root.findall("{*}Image"):
        planes = sorted(image.iterfind("{*}Pixels/{*}TiffData"), key=_place)
        if planes and this.has(planes[0]):
            others += [_beside(path, _name(p).file) for p in planes if not this.has(p)]
            continue
        if any(map(this.has, planes)):
            whole = _beside(path, _name(planes[0]).file)
        root.remove(image)
    if root.find("{*}Image") is not None:
        return OmeFiles((path, *dict.fromkeys(others)), this.retold(root))
    if whole is not None:
        raise base.PartOfAnother(path, whole)
    named = sorted({one_line(_name(plane).file) for plane in all_planes})[:3]
    raise InputError(
        f"{path}: its metadata name only other files ({', '.join(named)} …), none of "
        "them with its UUID. Rename the file as the microscope named it."
    )


class _This:
    """A file, and the ways in which metadata refer to it."""

    def __init__(
        self, path: pathlib.Path, uuid: str | None, root: ElementTree.Element
    ) -> None:
        # The UUID stays when the file is renamed.
        self._uuid = uuid
        names = {_name(plane).file for plane in root.iterfind(_PLANES)}
        self.is_named_as_it_is = names <= {path.name, ""}
        (name,) = names if len(names) == 1 else (path.name,)
        is_lost = _is_inside(name) and not os.path.lexists(path.parent / name)
        self._names = {path.name.casefold(), *({name.casefold()} if is_lost else ())}

    def has(self, plane: ElementTree.Element) -> bool:
        """Whether a plane (TiffData) is in this file."""
        name = _name(plane)
        if name == ("", "") or (self._uuid and name.uuid == self._uuid):
            return True
        return name.file.casefold() in self._names

    def retold(self, root: ElementTree.Element) -> str:
        """Returns the metadata without UUIDs of this file, and with others' names."""
        # tifffile would compare it with the UUIDs of the planes.
        root.attrib.pop("UUID", None)
        for plane in root.iterfind(_PLANES):
            found = plane.find("{*}UUID")
            if found is not None and self.has(plane):
                plane.remove(found)
            elif found is not None:
                found.text = found.get("FileName")
        return ElementTree.tostring(root, encoding="unicode")


class _Name(NamedTuple):
    """The UUID and file name that a plane refers to; both are '' for the file itself."""

    uuid: str
    file: str


def _name(plane: ElementTree.Element) -> _Name:
    found = plane.find("{*}UUID")
    if found is None:
        return _Name("", "")
    return _Name((found.text or "").strip(), found.get("FileName", ""))


def _place(plane: ElementTree.Element) -> tuple[int, ...]:
    return tuple(int(plane.get(f"First{axis}", 0)) for axis in "TZC")


def _beside(path: pathlib.Path, name: str | None) -> pathlib.Path:
    """Returns the path of a file that metadata name; it must lie in the folder."""
    told = one_line(name or "")
    if not name or not _is_inside(name):
        raise InputError(
            f"{path}: its metadata name {told!r} as a part of the image, which is not a "
            "file in its folder or below. Files outside are not read. Export the field as "
            "one OME-TIFF."
        )
    found = path.parent / name
    if not os.path.lexists(found):
        raise InputError(
            f"{path}: the image spans several files, and {told} is missing. Copy all "
            "files of the image into one folder, with the names that the microscope gave "
            "them."
        )
    check_is_file(found)
    return found


def _is_inside(name: str) -> bool:
    path = pathlib.PurePath(name)
    return not (path.is_absolute() or ".." in path.parts or "\0" in name)


def _metadata_of(path: pathlib.Path) -> str:
    """Reads the OME-XML of a companion file or TIFF."""
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        with tifffile.TiffFile(path) as tiff:
            found = tiff.ome_metadata
        if found and "BinaryOnly" not in found:
            return found
        raise InputError(
            f"{path}: expected the metadata of all files, but it has none."
        )
    size = path.stat().st_size
    if size > _MOST_XML_BYTES:
        raise InputError(
            f"{path}: {size:,} bytes of metadata, more than the {_MOST_XML_BYTES:,} that "
            "can be read. Export each field as an OME-TIFF file of its own."
        )
    return path.read_text(encoding="utf-8-sig")
