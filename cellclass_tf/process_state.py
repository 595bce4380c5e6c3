"""Settings that a whole process shares: each context manager puts one of them back."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
import threading
from collections.abc import Iterator

import numpy as np

_PILLOW = threading.Lock()


def begin_program() -> None:
    """Makes the settings of a program that has just been started; not of a library.

    - File names are UTF-8, whatever the locale: otherwise a name with an ä, written to a
      table, could not be read by another program, and TensorFlow could not open it. Python
      chooses the encoding when it starts, so it is started again.
    - What the terminal cannot show, such as µ where LC_ALL is C, is printed as an escape
      sequence instead of ending the program.
    - TensorFlow keeps its start-up messages to itself, and uses oneDNN, which it leaves
      off on processors without AVX-512: a training step takes 0.40 s instead of 0.47 s
      on two cores with AVX2. It reads both variables when it loads. What the user has
      set stays.
    """
    is_refused = {"utf8=0", "-Xutf8=0"} & set(sys.orig_argv)
    if sys.getfilesystemencoding().lower() not in ("utf-8", "utf8") and not is_refused:
        terminal = f"{sys.stdout.encoding}:backslashreplace"
        os.environ.setdefault("PYTHONIOENCODING", terminal)
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def processors() -> int:
    """Returns how many logical processors this process may use.

    A job scheduler gives a process a part of its machine; not every system tells which.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def keep_environment(*names: str) -> Iterator[None]:
    """Restores environment variables when the block ends."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def keep_random_numbers() -> Iterator[None]:
    """Restores the random numbers of Python and NumPy when the block ends."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def keep_matplotlib_backend() -> Iterator[None]:
    """Ignores `matplotlib.use` in the block: some libraries call it when imported.

    In a notebook figures would no longer be shown.
    """
    import matplotlib

    use = matplotlib.use
    matplotlib.use = lambda *args, **kwargs: None
    try:
        yield
    finally:
        matplotlib.use = use


@contextlib.contextmanager
def keep_logging() -> Iterator[None]:
    """Removes the handlers that the block adds to the root logger.

    absl and other libraries add one with their first message; afterwards it prints the
    messages of all libraries. The level of absl's logger, which TensorFlow changes when it
    saves a model, is restored too.
    """
    handlers, absl = list(logging.root.handlers), logging.getLogger("absl")
    level = absl.level
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        absl.setLevel(level)


@contextlib.contextmanager
def keep() -> Iterator[None]:
    """Decorates a stage: restores what the libraries that it calls change.

    A notebook calls one stage after the other in one process. What only some stages
    change, they restore themselves, with the other functions of this module.
    """
    with keep_random_numbers(), keep_logging():
        yield


@contextlib.contextmanager
def log_level(name: str, level: int) -> Iterator[None]:
    """Sets the level of a logger for the block, unless the user has set one."""
    logger = logging.getLogger(name)
    before = logger.level
    if before == logging.NOTSET:
        logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def hide_triton() -> Iterator[None]:
    """Lets PyTorch do without Triton in the block, if TensorFlow has been loaded.

    PyTorch imports Triton with its first optimizer. Both TensorFlow and Triton bring
    LLVM, and Triton 3.7 crashes the process when it loads second.
    """
    if "tensorflow" not in sys.modules or "triton" in sys.modules:
        yield
        return
    # Importing a name whose entry is None raises ImportError.
    sys.modules["triton"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop("triton", None)


@contextlib.contextmanager
def pillow_pixel_limit(pixels: int) -> Iterator[None]:
    """Sets how many pixels an image may have that Pillow opens in the block.

    Threads enter one after the other, since the limit is Pillow's for the whole process.
    """
    from PIL import Image

    with _PILLOW:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
