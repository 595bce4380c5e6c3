"""Settings that a whole process shares; context managers restore them after use."""

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
    """Changes settings of the process at the start of a program; not for use in a library.

    - File names become UTF-8, whatever the locale. Otherwise, other programs could not
      read a name with an ä from a table, and TensorFlow could not open the file. Since
      Python chooses the encoding when it starts, Python is started again.
    - Characters that the terminal cannot show, such as µ if LC_ALL is C, are printed as
      escape sequences instead of ending the program.
    - TensorFlow does not print its start-up messages, and uses oneDNN, which is off by
      default on processors without AVX-512: a training step takes 0.40 s instead of
      0.47 s on two cores with AVX2. TensorFlow reads both environment variables when it
      is imported. Variables that the user has set do not change.
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
    """Returns the number of logical processors that this process may use.

    A job scheduler may give a process a part of the machine. On systems that do not report
    this, it is the number of all processors.
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
    """Restores the random states of Python and NumPy when the block ends."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def keep_matplotlib_backend() -> Iterator[None]:
    """Ignores calls of `matplotlib.use` in the block.

    Some libraries call it when they are imported, and then a notebook would no longer show
    figures.
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

    absl and other libraries add a handler with their first message, which would then print
    the messages of all libraries. The level of absl's logger, which TensorFlow changes when
    it saves a model, is restored too.
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
    """Decorates a stage: restores random states and logging, which libraries change.

    A notebook calls several stages in one process. Settings that only some stages change
    are restored by these stages, with the other functions of this module.
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
    """Hides Triton from PyTorch in the block if TensorFlow has been imported.

    PyTorch imports Triton when it makes its first optimizer. TensorFlow and Triton both
    contain LLVM, and Triton 3.7 crashes the process if it is imported after TensorFlow.
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
    """Sets the largest number of pixels of images that Pillow opens in the block.

    Only one thread at a time can be in the block, since Pillow has one limit per process.
    """
    from PIL import Image

    with _PILLOW:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
