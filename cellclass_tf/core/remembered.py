"""Settings of a stage that a study remembers and that change only on request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellclass_tf.errors import InputError


def check(
    before: Mapping[str, Any], given: Mapping[str, Any], *, images: int, change: bool
) -> None:
    """Checks that a call does not change remembered settings by mistake.

    Args:
      before: settings of earlier calls, by name.
      given: settings of this call by name; None for settings that are not given.
      images: number of images that were made with the earlier settings.
      change: whether the settings may differ from the earlier ones.

    Raises:
      InputError: if a setting would change, images exist, and `change` is not set.
    """
    changes = [
        f"{name} from {before[name]} to {_in_words(value)}"
        for name, value in given.items()
        if value is not None and before.get(name) not in (None, value)
    ]
    if changes and images and not change:
        raise InputError(
            f"The study has {images} images that were made with other settings. This call "
            f"changes {', '.join(changes)}. Leave the flag out to keep the setting, or add "
            "--change_settings to change it for all images that are made again."
        )


def _in_words(value: Any) -> str:
    return str(value if value or value is False else "nothing")
