"""Warns of channels that were chosen by index, and whose names speak against that."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from cellclass_tf.errors import first_names
from cellclass_tf.messages import logger
from cellclass_tf.microscopy import channels, contrast
from cellclass_tf.microscopy.files import inventory
from cellclass_tf.microscopy.measurement import FileMeasurement

_MOST_SHOWN = 3


def warn(
    found: Mapping[pathlib.Path, FileMeasurement],
    wanted: Mapping[str, str | int | None],
    rules: Mapping[str, Sequence[str]],
) -> None:
    """Warns if an index means other channels in some files, or a channel of the other kind.

    The order of channels may differ between files. The user's choice is not changed.

    Args:
      found: measurements by raw file.
      wanted: what the user asked for, for 'nuclei' and 'cytoplasm'.
      rules: regular expressions for 'nuclei' and 'cytoplasm', see `choose_channels`.
    """
    for kind, index in wanted.items():
        files: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
        for path, measured in found.items():
            for name in dict.fromkeys(_names_by_index(measured, kind, index)):
                files[name].append(path)
        kinds = {name: channels.kinds_of(name, rules) for name in files}
        other = [name for name, fits in kinds.items() if fits and kind not in fits]
        # DAPI and Hoechst are both nuclei.
        meanings = {kind if kind in fits else name for name, fits in kinds.items()}
        if not other and len(meanings) < 2:
            continue
        shown = [
            f"{name!r} in {len(paths)} files ({inventory.named(paths)})"
            for name, paths in files.items()
        ]
        logger.warning(
            "--%s=%s is the channel %s. %sIf the order of the channels is not the same in "
            "all files, give the name of the channel.",
            kind,
            index,
            first_names(shown, _MOST_SHOWN),
            f"By its name, {other[0]!r} is not {kind}. " if other else "",
        )


def _names_by_index(
    measured: FileMeasurement, kind: str, wanted: str | int | None
) -> Iterator[str]:
    """Yields the names of the channels that were chosen by index, if they have names."""
    index = str(wanted)
    if not index.isdecimal():
        return
    for field in measured.fields:
        name = field.nuclei_channel if kind == "nuclei" else field.cytoplasm_channel
        # A channel without a name is called by its index.
        if index not in name.lower().split():
            yield contrast.without_title(name)
