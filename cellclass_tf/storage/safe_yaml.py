"""Reads YAML files from untrusted sources safely."""

from __future__ import annotations

import os
from typing import Any

from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json

# Largest file; real settings are about a page long.
_MOST_BYTES = 1 << 20


def read_yaml(path: str | os.PathLike) -> Any:
    """Reads a YAML file of plain values.

    Aliases are rejected, since a few lines of them can expand to more values than fit into
    memory.

    Raises:
      InputError: if the file cannot be read, is not valid YAML, has aliases, or is larger
        than 1 MiB.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases (*) are not supported: repeat the value")
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
