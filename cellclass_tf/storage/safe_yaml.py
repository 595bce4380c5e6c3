"""YAML that comes from anywhere, read without harm."""

from __future__ import annotations

import os
from typing import Any

from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json

# Settings are a page long.
_MOST_BYTES = 1 << 20


def read_yaml(path: str | os.PathLike) -> Any:
    """Reads a YAML file of plain values.

    Aliases are refused: a few lines of them stand for more values than memory holds.

    Raises:
      InputError: if it cannot be read, is no YAML, has aliases or is larger than 1 MiB.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases (*) are not read: write the value out")
            return super().compose_node(parent, index)

    content = csv_json.read_bytes(path)
    if len(content) > _MOST_BYTES:
        raise InputError(
            f"{path}: expected a page of settings; the file has {len(content):,} bytes."
        )
    try:
        # A subclass of the safe loader.
        return yaml.load(content.decode("utf-8-sig"), Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected YAML ({error}).") from error
