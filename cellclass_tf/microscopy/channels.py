"""Which channel holds the nuclei and which the cytoplasm; a doubt is never guessed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.core.study_settings import ChannelRules, EmissionRanges
from cellclass_tf.errors import InputError

KINDS = ("nuclei", "cytoplasm")

# Index of a channel, and how it was found.
_Choice = tuple[int, str]


class ChannelDoubt(InputError):
    """A field whose channels cannot be told apart without the user's word."""


class Channels(NamedTuple):
    """The indices of both channels.

    Attributes:
      nuclei: index of the nuclei's channel.
      cytoplasm: index of the cytoplasm's channel.
      by: how each was found: 'user', 'name', 'emission', 'colour' or 'remaining' (the
        user named one of two channels); nuclei first, joined by '+' if they differ.
    """

    nuclei: int
    cytoplasm: int
    by: str


def choose_channels(
    micrograph: Micrograph,
    *,
    nuclei: str | int | None = None,
    cytoplasm: str | int | None = None,
    rules: Mapping[str, Sequence[str]] | None = None,
    emission_nm: Mapping[str, Sequence[float]] | None = None,
) -> Channels:
    """Says which channels hold the nuclei and the cytoplasm.

    For each of the two the first that applies decides: what the user says; blue and
    green of a colour image whose red is empty; the one channel whose name matches a
    pattern; where no name matches, the one whose emission lies in the range.

    Args:
      micrograph: the field.
      nuclei: name or index of the nuclei's channel; None to find it.
      cytoplasm: the same for the cytoplasm's channel.
      rules: patterns of names for 'nuclei' and 'cytoplasm', matched anywhere in a name
        and ignoring case; None for those of
        `ChannelRules`.
      emission_nm: ranges (lowest, highest) of emission for both; None for those
        of `EmissionRanges`.

    Raises:
      ChannelDoubt: if none or more than one fits, or one fits both; it lists the
        channels.
      InputError: if the user names a channel that is not there.
    """
    if len(micrograph.pixels) < 2:
        raise InputError(
            f"{micrograph.file}: expected two channels (nuclei and cytoplasm), got one. "
            "A one-channel image cannot be merged; give the file that holds both, or "
            "name one-file-a-channel sets with --channel_files."
        )
    if micrograph.is_rgb and nuclei is None and cytoplasm is None:
        return _channels_of_merged(micrograph)
    rules = rules or dataclasses.asdict(ChannelRules())
    emission_nm = emission_nm or dataclasses.asdict(EmissionRanges())
    found = [
        _find(micrograph, wanted, rules[kind], emission_nm[kind])
        for kind, wanted in zip(KINDS, (nuclei, cytoplasm), strict=True)
    ]
    first, second = _with_remaining(found, len(micrograph.pixels))
    if first is None or second is None or first[0] == second[0]:
        raise ChannelDoubt(
            f"{micrograph.file}: which channel is which? It has {listing(micrograph)}. "
            "Say it with --nuclei=NAME|INDEX --cytoplasm=NAME|INDEX, or add a pattern "
            "to channels in study.yaml."
        )
    ways = dict.fromkeys((first[1], second[1]))
    return Channels(first[0], second[0], "+".join(ways))


def listing(micrograph: Micrograph) -> str:
    """Returns the channels with index, name and emission, as errors show them."""
    emissions = micrograph.emissions_nm or (None,) * len(micrograph.channel_names)
    return ", ".join(
        f"{i}: {name or '(no name)'}{f' ({emission:g} nm)' if emission else ''}"
        for i, (name, emission) in enumerate(
            zip(micrograph.channel_names, emissions, strict=True)
        )
    )


def _channels_of_merged(micrograph: Micrograph) -> Channels:
    if micrograph.pixels[0].any():
        raise ChannelDoubt(
            f"{micrograph.file}: a colour (RGB) image whose red channel is not empty, so "
            "it is not certain what its colours mean. Say it, for example with "
            "--nuclei=blue --cytoplasm=green."
        )
    return Channels(2, 1, "colour")


def _find(
    micrograph: Micrograph,
    wanted: str | int | None,
    patterns: Sequence[str],
    range_nm: Sequence[float],
) -> _Choice | None:
    if wanted is not None:
        return _named_by_user(micrograph, str(wanted)), "user"
    names = micrograph.channel_names
    hits = [i for i, name in enumerate(names) if _matches(name, patterns)]
    if hits:
        return (hits[0], "name") if len(hits) == 1 else None
    low, high = range_nm
    hits = [
        i for i, nm in enumerate(micrograph.emissions_nm) if low <= (nm or 0) <= high
    ]
    return (hits[0], "emission") if len(hits) == 1 else None


def _named_by_user(micrograph: Micrograph, wanted: str) -> int:
    names = [name.lower() for name in micrograph.channel_names]
    # Names first: some channels are named by a number, such as the wavelength. A word of
    # a name is enough, such as the w1 of 'w1 DAPI'.
    for fits in (
        lambda name: name == wanted.lower(),
        lambda name: wanted.lower() in name.split(),
    ):
        hits = [i for i, name in enumerate(names) if fits(name)]
        if len(hits) == 1:
            return hits[0]
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    raise InputError(
        f"{micrograph.file}: no channel {wanted!r}; it has {listing(micrograph)}."
    )


def _with_remaining(found: list[_Choice | None], count: int) -> list[_Choice | None]:
    """Of two channels, the one that the user did not name is the other kind."""
    if count == 2 and sum(choice is None for choice in found) == 1:
        known = found[0] or found[1]
        if known is not None and known[1] == "user":
            return [choice or (1 - known[0], "remaining") for choice in found]
    return found


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.search(pattern, name, re.IGNORECASE) for pattern in patterns)
