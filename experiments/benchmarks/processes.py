"""Runs measurements in separate processes, and measures their memory."""

from __future__ import annotations

import json
import pathlib
import resource
import subprocess
import sys
from typing import Any


def run_again(module: str, **flags: Any) -> Any:
    """Runs a benchmark in a new process, with other flags.

    Args:
      module: name of the benchmark's module, such as its `__spec__.name`.
      flags: values of flags by name.

    Returns:
      The last line that it printed, parsed as JSON; None if it printed nothing.
    """
    command = [sys.executable, "-m", module, *(f"--{k}={v}" for k, v in flags.items())]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if lines else None


def peak_mb(*, children: bool = False) -> float:
    """Returns the peak memory of this process, or also of child processes, in MB."""
    waited = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return max(_own_peak_mb(), waited if children else 0.0)


def _own_peak_mb() -> float:
    # The value of getrusage also includes the peak of the parent process.
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
