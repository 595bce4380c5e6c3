"""study.yaml: what people say of a study."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from cellclass_tf.storage.records import Record

SETTINGS_FILE = "study.yaml"
DEFAULT_CELL_TYPES = ("HEK", "N2a")


@dataclasses.dataclass(frozen=True)
class ChannelRules:
    """Patterns that name a stain or its colour, matched anywhere in a channel's name."""

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
    """Where no name matches: lowest and highest peak emission of the usual stains in nm."""

    nuclei: tuple[float, float] = (420.0, 480.0)
    cytoplasm: tuple[float, float] = (500.0, 550.0)


@dataclasses.dataclass(frozen=True)
class StudySettings(Record):
    """What study.yaml holds; see `Study`."""

    NAME: ClassVar[str] = "cellclass_tf study"
    EXPECTED: ClassVar[str] = (
        "cell_types (a list), channels and emission_nm (each for nuclei and cytoplasm) "
        "and pixel_size_um"
    )
    REMEDY: ClassVar[str] = "Correct it; docs/studies.md describes the folder."

    # Numbers are names too, such as the type 293.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"coerce_numbers_to_str": True}

    cell_types: tuple[str, ...]
    channels: ChannelRules = ChannelRules()
    emission_nm: EmissionRanges = EmissionRanges()
    pixel_size_um: float | None = None

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Takes what was left empty for not said."""
        return {k: v for k, v in content.items() if v not in (None, "")}
