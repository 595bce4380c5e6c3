"""Identifies the channels of nuclei and cytoplasm; an ambiguous file is never guessed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.core.study_settings import ChannelRules, EmissionRanges
from cellclass_tf.errors import InputError

KINDS = ("nuclei", "cytoplasm")
# How a channel was found if the user named the other one of two.
REMAINING = "remaining"

# Index of a channel, and how it was found.
_Choice = tuple[int, str]


class ChannelDoubt(InputError):
    """Raised if the channels of a field cannot be identified without the user."""


class Channels(NamedTuple):
    """The indices of both channels.

    Attributes:
      nuclei: index of the nuclei channel.
      cytoplasm: index of the cytoplasm channel.
      by: how each was identified: 'user', 'name', 'emission', 'colour' or 'remaining'
        (the user named the other one of two channels); nuclei first, joined by '+' if
        they differ.
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
    """Identifies the channels of nuclei and cytoplasm.

    For each of the two, the first rule that applies decides: the channel that the user
    names; blue (nuclei) and green (cytoplasm) of a colour image whose red is empty; the
    only channel whose name matches a pattern; if no name matches, the only channel whose
    emission lies in the range.

    Args:
      micrograph: the field.
      nuclei: name or index of the nuclei channel; None to find it.
      cytoplasm: the same for the cytoplasm channel.
      rules: regular expressions for 'nuclei' and 'cytoplasm', searched in channel names,
        ignoring case; None for those of `ChannelRules`.
      emission_nm: range (lowest, highest) of emission for each; None for those of
        `EmissionRanges`.

    Raises:
      ChannelDoubt: if no channel or more than one fits, or one channel fits both; the
        message lists the channels.
      InputError: if the user names a channel that the field does not have.
    """
    if len(micrograph.pixels) < 2:
        raise InputError(
            f"{micrograph.file}: expected two channels (nuclei and cytoplasm), got one. "
            "A one-channel image cannot be merged. Give the file that holds both "
            "channels, or describe sets of one file per channel with --channel_files."
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
            "Set --nuclei=NAME|INDEX and --cytoplasm=NAME|INDEX, or add a pattern to "
            "channels in study.yaml."
        )
    ways = dict.fromkeys((first[1], second[1]))
    return Channels(first[0], second[0], "+".join(ways))


def listing(micrograph: Micrograph) -> str:
    """Lists the channels with index, name and emission, for messages."""
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
            "that it is not known which colour shows what. Set the channels, for example "
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


def kinds_of(name: str, rules: Mapping[str, Sequence[str]]) -> set[str]:
    """Returns which of KINDS a channel may be according to its name."""
    return {kind for kind in KINDS if _matches(name, rules[kind])}


def is_index(micrograph: Micrograph, wanted: str | int | None) -> bool:
    """Whether the channel that a user asks for is meant by its index, and not by its name."""
    if wanted is None or not str(wanted).isdecimal():
        return False
    return not any(_hits(micrograph, str(wanted)))


def _named_by_user(micrograph: Micrograph, wanted: str) -> int:
    names = micrograph.channel_names
    index = int(wanted) if wanted.isdecimal() and int(wanted) < len(names) else None
    # Names come first, since some channels are named by a number, such as the wavelength.
    # One word of a name is enough, such as w1 of 'w1 DAPI'.
    whole, words = _hits(micrograph, wanted)
    if whole:
        return whole[0]
    if words and index not in (None, words[0]):
        raise InputError(
            f"{micrograph.file}: {wanted} is a word of {names[words[0]]!r}, which is channel "
            f"{words[0]}, and also the index of another channel; it has "
            f"{listing(micrograph)}. Give the whole name of the channel."
        )
    if words:
        return words[0]
    if index is not None:
        return index
    raise InputError(
        f"{micrograph.file}: no channel {wanted!r}; it has {listing(micrograph)}."
    )


def _hits(micrograph: Micrograph, wanted: str) -> tuple[list[int], list[int]]:
    """Returns the only channel of this name, and the only one with this word in its name."""
    names = [name.lower() for name in micrograph.channel_names]
    whole = [i for i, name in enumerate(names) if name == wanted.lower()]
    words = [i for i, name in enumerate(names) if wanted.lower() in name.split()]
    return whole * (len(whole) == 1), words * (len(words) == 1)


def _with_remaining(found: list[_Choice | None], count: int) -> list[_Choice | None]:
    """Takes the other of two channels for the kind that the user did not name."""
    if count == 2 and sum(choice is None for choice in found) == 1:
        known = found[0] or found[1]
        if known is not None and known[1] == "user":
            return [choice or (1 - known[0], REMAINING) for choice in found]
    return found


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.search(pattern, name, re.IGNORECASE) for pattern in patterns)
