"""Messages of the package's logger, and progress bars."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import tqdm

logger = logging.getLogger("cellclass_tf")


@dataclasses.dataclass
class _Display:
    """The stream for progress bars, and whether they are drawn."""

    stream: TextIO | None = None
    bars: bool = True


_display = _Display()


def progress_bar(
    items: Iterable[Any] | None = None,
    description: str = "",
    *,
    total: int | None = None,
    unit: str = "field",
    initial: int = 0,
    leave: bool = True,
) -> tqdm.tqdm:
    """Makes a progress bar, which shows the remaining time.

    Args:
      items: the items to iterate over; None for a bar that is advanced by its `update`.
      description: caption of the bar.
      total: number of items, if `items` does not have a length.
      unit: name of one item.
      initial: number of items that were completed before.
      leave: whether the bar remains visible when it is full.
    """
    import tqdm

    return tqdm.tqdm(
        items,
        description,
        total,
        unit=f" {unit}s",
        initial=initial,
        leave=leave,
        file=_display.stream,
        disable=not _display.bars or total == 0,
        dynamic_ncols=True,
    )


class _TerminalHandler(logging.Handler):
    """Writes messages above the progress bars of a terminal."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.INFO)
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one message; warnings and errors begin with their level."""
        import tqdm

        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.capitalize()}: {text}"
        tqdm.tqdm.write(text, file=self._stream)


@contextlib.contextmanager
def shown_on(stream: TextIO | None = None, *, bars: bool = True) -> Iterator[None]:
    """Shows the package's messages and progress bars on a stream within the block.

    Args:
      stream: stream of a terminal or file; None for standard error.
      bars: whether progress bars are drawn.
    """
    before = dataclasses.replace(_display)
    level, propagate = logger.level, logger.propagate
    handler = _TerminalHandler(stream or sys.stderr)
    _display.stream, _display.bars = stream, bars
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
        _display.stream, _display.bars = before.stream, before.bars
