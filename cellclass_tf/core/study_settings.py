"""study.yaml: the settings of a study."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from cellclass_tf.storage.records import Record

SETTINGS_FILE = "study.yaml"
DEFAULT_CELL_TYPES = ("HEK", "N2a")


@dataclasses.dataclass(frozen=True)
class ChannelRules:
    """Patterns of stains and colours, searched anywhere in the name of a channel."""

    nuclei: tuple[str, ...] = ("dapi", "hoechst", "nucle", "h2b", "draq5", "blue")
    cytoplasm: tuple[str, ...] = (
        "gfp",
        "fitc",
        "cyto",
        "actin",
        "phalloidin",
        r"(alexa|af)\s*(fluor)?\W*488",
        "green",
    )


@dataclasses.dataclass(frozen=True)
class EmissionRanges:
    """Lowest and highest peak emission in nm of each channel, if no name matches."""

    nuclei: tuple[float, float] = (420.0, 480.0)
    cytoplasm: tuple[float, float] = (500.0, 550.0)


@dataclasses.dataclass(frozen=True)
class StudySettings(Record):
    """The content of study.yaml; see `Study`."""

    NAME: ClassVar[str] = "cellclass_tf study"
    EXPECTED: ClassVar[str] = (
        "cell_types (a list), channels and emission_nm (each for nuclei and cytoplasm) "
        "and pixel_size_um"
    )
    REMEDY: ClassVar[str] = "Correct it; docs/studies.md describes the folder."

    # A number can be a name, such as the type 293.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"coerce_numbers_to_str": True}

    cell_types: tuple[str, ...]
    channels: ChannelRules = ChannelRules()
    emission_nm: EmissionRanges = EmissionRanges()
    pixel_size_um: float | None = None

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Ignores settings that were left empty."""
        return {k: v for k, v in content.items() if v not in (None, "")}
