"""Compares the state of the process before and after a stage."""

import csv
import locale
import logging
import os
import random
import signal
import socket
import ssl
import sys
import warnings


def process_state() -> dict:
    """Returns the settings of this process that no stage may change."""
    import matplotlib
    import numpy as np
    import tensorflow as tf
    import tf_keras
    from PIL import Image

    loggers = logging.root.manager.loggerDict
    rc = matplotlib.rcParams
    return {
        "precision policy": tf_keras.mixed_precision.global_policy().name,
        "distribution strategy": tf.distribute.has_strategy(),
        "summary step": tf.summary.experimental.get_step(),
        "eager functions": tf.config.functions_run_eagerly(),
        "soft placement": tf.config.get_soft_device_placement(),
        "image data format": tf_keras.backend.image_data_format(),
        "Python's random numbers": random.getstate(),
        "NumPy's random numbers": np.random.get_state()[1].tolist(),
        "NumPy's errors": np.geterr(),
        "environment": dict(os.environ),
        "working directory": os.getcwd(),
        "stdout": sys.stdout,
        "stderr": sys.stderr,
        "excepthook": sys.excepthook,
        "Pillow's pixel limit": Image.MAX_IMAGE_PIXELS,
        "csv's field limit": csv.field_size_limit(),
        "warning filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        # rc["backend"] would choose a backend.
        "matplotlib": {key: dict.__getitem__(rc, key) for key in rc},
        "handlers": {
            name: list(logger.handlers)
            for name, logger in loggers.items()
            if isinstance(logger, logging.Logger) and logger.handlers
        },
        "root handlers": list(logging.root.handlers),
        "log levels": {
            name: logging.getLogger(name).level
            for name in ("cellpose", "tifffile", "tensorflow", "absl", "PIL")
        },
        "locale": locale.setlocale(locale.LC_ALL),
        "SIGINT": signal.getsignal(signal.SIGINT),
        "socket timeout": socket.getdefaulttimeout(),
        "certificates": ssl._create_default_https_context,
    }


def changed(before: dict, after: dict) -> dict:
    """Returns the settings that differ, with both values."""
    return {
        key: (before[key], after[key]) for key in before if before[key] != after[key]
    }
