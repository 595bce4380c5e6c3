"""Finds the files of OME-TIFF images that span several files.

Each file has the metadata of all images, or names the file that has them (BinaryOnly; see
https://ome-model.readthedocs.io, "OME-TIFF specification"). Every image is read once,
with the file that holds its first plane, and is listed with all files that hold parts.

Files have UUIDs, and metadata name each file with its UUID. Where both are there, only the
UUID tells whether they mean the same file: people rename files, and several acquisitions
have files of the same names.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any, NamedTuple
from xml.etree import ElementTree

from cellclass_tf.errors import InputError, one_line
from cellclass_tf.microscopy.formats import base
from cellclass_tf.storage.paths import check_is_file

# A companion file has a line for each plane.
_MOST_XML_BYTES = 100_000_000
# The first element of metadata, after a comment or so, ends before this character.
_MOST_BEFORE_ROOT = 100_000
_PLANES = "{*}Image/{*}Pixels/{*}TiffData"
_ONE_FOLDER_EACH = (
    "It may have been replaced by a file of another acquisition: copy the files of each "
    "acquisition from the microscope into a folder of its own."
)


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
      InputError: if a file that belongs to it is missing, lies outside of the folder, or
        has another UUID than its metadata say.
    """
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        own = tiff.ome_metadata
    if not own or (
        "<UUID" not in own and "BinaryOnly" not in own and ":UUID" not in own
    ):
        return None
    root = ElementTree.fromstring(own)
    others, only, uuid = [], root.find("{*}BinaryOnly"), _plain(root.get("UUID"))
    if only is not None:
        name = _Name(_plain(only.get("UUID")), only.get("MetadataFile", ""))
        others.append(_part(path, name))
        root = ElementTree.fromstring(_metadata_of(others[0]))
    this, all_planes = _This(path, uuid, root), list(root.iterfind(_PLANES))
    if only is None and all(map(this.has, all_planes)):
        return None if this.is_named_as_it_is else OmeFiles((path,), this.retold(root))
    whole = None
    for image in root.findall("{*}Image"):
        planes = sorted(image.iterfind("{*}Pixels/{*}TiffData"), key=_place)
        if planes and this.has(planes[0]):
            parts = dict.fromkeys(_name(p) for p in planes if not this.has(p))
            others += [_part(path, name) for name in parts]
            continue
        if any(map(this.has, planes)):
            whole = _part(path, _name(planes[0]))
        root.remove(image)
    if root.find("{*}Image") is not None:
        return OmeFiles((path, *dict.fromkeys(others)), this.retold(root))
    if whole is not None:
        raise base.PartOfAnother(path, whole)
    names = {_name(plane).file for plane in all_planes}
    if path.name in names:
        raise InputError(
            f"{path}: its metadata name a file {one_line(path.name)}, but with another "
            f"UUID than this one has. {_ONE_FOLDER_EACH}"
        )
    named = sorted(map(one_line, names))[:3]
    raise InputError(
        f"{path}: its metadata name only other files ({', '.join(named)} …), none of "
        "them with its UUID. Rename the file as the microscope named it."
    )


class _This:
    """A file, and the ways in which metadata refer to it."""

    def __init__(
        self, path: pathlib.Path, uuid: str, root: ElementTree.Element
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
        if self._uuid and name.uuid:
            return name.uuid == self._uuid
        return name == ("", "") or name.file.casefold() in self._names

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
    """The UUID and the name of a file in metadata; both are '' for the file itself."""

    uuid: str
    file: str


def _name(plane: ElementTree.Element) -> _Name:
    found = plane.find("{*}UUID")
    if found is None:
        return _Name("", "")
    return _Name(_plain(found.text), found.get("FileName", ""))


def _plain(uuid: str | None) -> str:
    """Returns a UUID in lower case without its prefix, since programs differ in both."""
    return (uuid or "").strip().lower().removeprefix("urn:uuid:")


def _place(plane: ElementTree.Element) -> tuple[int, ...]:
    return tuple(int(plane.get(f"First{axis}", 0)) for axis in "TZC")


def _part(path: pathlib.Path, name: _Name) -> pathlib.Path:
    """Returns the path of a file that metadata name, and checks its UUID."""
    found = _beside(path, name.file)
    own = _uuid_of(found) if name.uuid else ""
    if own and own != name.uuid:
        raise InputError(
            f"{path}: {one_line(name.file)} is named as a part of the image, but it has "
            f"another UUID than the metadata say. {_ONE_FOLDER_EACH}"
        )
    return found


def _beside(path: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the path of a file that metadata name; it must lie in the folder."""
    told = one_line(name)
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


def _uuid_of(path: pathlib.Path) -> str:
    """Returns the UUID of a companion file or TIFF; '' if it has none."""
    # Metadata can be long, and only their first element is needed.
    parser: Any = ElementTree.XMLPullParser(["start"])
    parser.feed(_xml_of(path)[:_MOST_BEFORE_ROOT])
    events = parser.read_events()
    return next((_plain(root.get("UUID")) for _, root in events), "")


def _metadata_of(path: pathlib.Path) -> str:
    """Reads the OME-XML of a companion file or TIFF."""
    found = _xml_of(path)
    if found and "BinaryOnly" not in found:
        return found
    raise InputError(f"{path}: expected the metadata of all files, but it has none.")


def _xml_of(path: pathlib.Path) -> str:
    """Returns the text of a companion file, or the OME-XML of a TIFF; '' if it has none."""
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        with tifffile.TiffFile(path) as tiff:
            return tiff.ome_metadata or ""
    size = path.stat().st_size
    if size > _MOST_XML_BYTES:
        raise InputError(
            f"{path}: {size:,} bytes of metadata, more than the {_MOST_XML_BYTES:,} that "
            "can be read. Export each field as an OME-TIFF file of its own."
        )
    return path.read_text(encoding="utf-8-sig")
