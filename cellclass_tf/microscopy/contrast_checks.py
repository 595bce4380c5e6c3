"""Warns of files that do not fit the contrast limits that they share with others."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from cellclass_tf.messages import logger
from cellclass_tf.microscopy import contrast, merge
from cellclass_tf.microscopy.files import inventory
from cellclass_tf.microscopy.measurement import FieldMeasurement

# A channel is too dark if its brightest pixels, at merge.HIGH_QUANTILE, lie below this
# share of the range between the limits, and too bright if a larger share of its pixels lies
# above the upper limit.
DARK_SHARE, BRIGHT_SHARE = 0.15, 0.05


@dataclasses.dataclass(frozen=True)
class Part:
    """The fields of a file that have the same contrast limits.

    Attributes:
      file: the raw file.
      key: key of the limits.
      histograms: file with the histogram of the fields.
      fields: measurements of the fields, at least one.
    """

    file: pathlib.Path
    key: contrast.Key
    histograms: pathlib.Path
    fields: Sequence[FieldMeasurement]

    @property
    def number(self) -> int:
        """Index of the histogram in its file."""
        return self.fields[0].histogram or 0

    @property
    def has_cells(self) -> bool:
        """Whether a nucleus was found in any of the fields."""
        return any(field.figures.nuclei_estimate for field in self.fields)


def warn(parts: Sequence[Part], limits: Mapping[contrast.Key, contrast.Limits]) -> None:
    """Warns of groups with several contrasts, and of files far darker or brighter.

    Args:
      parts: the fields of all files.
      limits: the contrast limits, by key.
    """
    _warn_of_several_contrasts(parts)
    dark, bright = [], []
    for part in parts:
        counts = contrast.read_histogram(part.histograms, part.number)
        own = merge.contrast_limits([counts])
        for channel, (_, top), (low, high) in zip(
            counts, own, limits[part.key], strict=True
        ):
            above = channel[int(high) + 1 :].sum() / channel.sum()
            if above > BRIGHT_SHARE:
                bright.append(part.file)
            elif part.has_cells and top - low < DARK_SHARE * (high - low):
                dark.append(part.file)
    advice = (
        "Was the exposure, the gain or the scaling of the grey values another one? If so, "
        "put these files into a folder of their own (TYPE/DISH), so that they get their own "
        "contrast."
    )
    if dark:
        logger.warning(
            "Files that are much darker than the images with which they share contrast "
            "limits: %s. A channel is below %.0f%% of the range. %s",
            _listed(dark),
            100 * DARK_SHARE,
            advice,
        )
    if bright:
        logger.warning(
            "Files that are much brighter than the images with which they share contrast "
            "limits: %s. More than %.0f%% of a channel's pixels are white. %s If not, "
            "--contrast=anew measures the limits again.",
            _listed(bright),
            100 * BRIGHT_SHARE,
            advice,
        )


def _warn_of_several_contrasts(parts: Iterable[Part]) -> None:
    groups: dict[str, dict[contrast.Key, pathlib.Path]]
    groups = collections.defaultdict(dict)
    for part in parts:
        groups[part.key.group].setdefault(part.key, part.file)
    for group, files in sorted(groups.items()):
        if len(files) < 2:
            continue
        differing = [
            place
            for place, values in enumerate(zip(*files, strict=True))
            if len(set(values)) > 1
        ]
        shown = [
            f"{', '.join(_in_words(key, place) for place in differing)} ({file.name})"
            for key, file in files.items()
        ]
        logger.warning(
            "The images of %s have %d contrasts, so that their brightness cannot be "
            "compared: %s.",
            group,
            len(files),
            "; ".join([*shown[:3], *["…"][: len(shown) > 3]]),
        )


def _in_words(key: contrast.Key, place: int) -> str:
    """Returns one property of a key in words."""
    name, value = key._fields[place], key[place]
    words = {
        "nuclei_channel": f"nuclei {value}",
        "cytoplasm_channel": f"cytoplasm {value}",
        "projection": f"projection {value or 'none'}",
        "bits": f"{value} bit",
    }
    return words[name]


def _listed(files: Iterable[pathlib.Path]) -> str:
    once = list(dict.fromkeys(files))
    return f"{len(once)} ({inventory.named(once)})"
