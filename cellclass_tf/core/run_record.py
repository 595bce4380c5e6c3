"""run.json: what `predict` recorded of a run, read with care."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from cellclass_tf.core.study import MIXED, Study
from cellclass_tf.errors import InputError
from cellclass_tf.storage import paths


@dataclasses.dataclass(frozen=True)
class Run:
    """A predictions folder and its run.json."""

    root: pathlib.Path
    record: Mapping[str, Any]

    @classmethod
    def open(cls, root: pathlib.Path) -> Run:
        path = root / "run.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            record = {key: _of_kind(record, key, kind) for key, kind in _KINDS.items()}
            for entry in record["images"]:
                entry |= {key: _of_kind(entry, key, str) for key in _IMAGE_KEYS}
                paths.inside(entry["image"], path)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError(
                f"{path}: expected what `cellclass predict` records of a run; "
                f"{type(error).__name__}: {error}. Run `cellclass predict` again."
            ) from error
        return cls(root, record)

    @property
    def is_of_raw_files(self) -> bool:
        """Whether `predict` converted its input to PREDICTIONS/converted."""
        study = pathlib.PurePath(self.record["study"])
        given = self.record["settings"].get("input")
        return study.name == "converted" and study != pathlib.PurePath(str(given))

    @property
    def entries(self) -> dict[str, dict[str, str]]:
        """The images by stem, as cells.csv names them."""
        prefix = f"{MIXED}/" if self.is_of_raw_files else ""
        return {
            entry["image"].removesuffix(".png").removeprefix(prefix): entry
            for entry in self.record["images"]
        }

    def study(self, folder: str | os.PathLike | None) -> Study | None:
        """The study of the images; None if it is not to be found."""
        if folder is not None:
            return Study.open(folder)
        found_at = [self.root / "converted"] if self.is_of_raw_files else []
        found_at += paths.places_of(
            self.record["study"], self.root, self.record["folder"]
        )
        found = (place for place in found_at if (place / "study.yaml").is_file())
        place = next(found, None)
        return place and Study.open(place)


_KINDS = {
    "folder": str,
    "model": str,
    "model_sha256": str,
    "model_metadata": dict,
    "settings": dict,
    "study": str,
    "versions": dict,
    "finished": str,
    "images": list,
}
_IMAGE_KEYS = ("image", "sha256", "labels_sha256", "raw_file", "raw_sha256")


def _of_kind(record: Mapping[str, Any], key: str, kind: type) -> Any:
    """A value of a record, empty where an older version did not write it."""
    if not isinstance(record, dict) or not isinstance(record.get(key, kind()), kind):
        raise TypeError(f"no {key} of type {kind.__name__} in {str(record)[:60]}")
    return record.get(key, kind())
