"""Rows of a table that are each measured in a process of their own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import Any


def run_again(module: str, **flags: Any) -> Any:
    """Runs a benchmark's program once more, with other flags.

    Args:
      module: of the program, such as its `__spec__.name`.
      flags: their values by name.

    Returns:
      What it printed last, read as JSON; None if it printed nothing.
    """
    command = [sys.executable, "-m", module, *(f"--{k}={v}" for k, v in flags.items())]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if lines else None


def peak_mb(*, children: bool = False) -> float:
    """Returns the largest memory of this process; or of one that it has waited for."""
    kinds = [resource.RUSAGE_SELF] + [resource.RUSAGE_CHILDREN] * children
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024
