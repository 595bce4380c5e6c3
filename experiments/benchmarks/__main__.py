"""Runs a benchmark by its name: `python -m experiments.benchmarks NAME --flag=…`."""

from __future__ import annotations

import pathlib
import runpy
import sys

_FOLDER = pathlib.Path(__file__).parent


def names() -> list[str]:
    """Returns the names of the benchmarks: modules and packages that can be run."""
    files = [*_FOLDER.glob("*.py"), *_FOLDER.glob("*/__main__.py")]
    found = [
        path.parent.name if path.name == "__main__.py" else path.stem
        for path in files
        if path.parent != _FOLDER or path.name != "__main__.py"
        if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
    ]
    return sorted(found)


def main() -> None:
    """Runs the benchmark in the first argument, with the other arguments."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in names():
        sys.exit(f"Expected one of {', '.join(names())}; got {name or 'no name'}.")
    del sys.argv[1]
    runpy.run_module(f"{__package__}.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
