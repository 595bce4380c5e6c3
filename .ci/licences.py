"""Writes docs/dependency_licences.md: the licence of every package of requirements.lock.

Licences are taken from the metadata of the installed packages, as their authors state them.

Run as: .venv/bin/python .ci/licences.py
"""

import importlib.metadata
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs" / "dependency_licences.md"
HEAD = """# Licences of the dependencies

Every package of `.ci/requirements.lock`, with the licence that its own metadata states. The
table is made by `.venv/bin/python .ci/licences.py`; do not edit it. It is no legal advice:
a wheel can contain libraries under further licences, which its licence files list.

| package | licence |
|---|---|
"""


def licence_of(name):
    """Returns the licence that an installed package states, in one line."""
    metadata = importlib.metadata.metadata(name)
    expression = metadata.get("License-Expression")
    if expression:
        return expression
    classifiers = [
        line.split(" :: ")[-1]
        for line in metadata.get_all("Classifier") or []
        if line.startswith("License :: ") and line != "License :: OSI Approved"
    ]
    if classifiers:
        return ", ".join(classifiers)
    # Some put the whole text there.
    lines = (metadata.get("License") or "").strip().splitlines()
    return (
        lines[0].strip()
        if lines and lines[0] != "UNKNOWN" and len(lines[0]) < 80
        else "see its licence file"
    )


def main():
    """Writes the page."""
    lock = (ROOT / ".ci" / "requirements.lock").read_text(encoding="utf-8")
    rows = []
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE):
        try:
            licence = licence_of(name)
        except importlib.metadata.PackageNotFoundError:
            licence = "not installed where the table was made"
        rows.append(f"| {name} {version} | {licence.replace('|', '/')} |\n")
    PAGE.write_text(HEAD + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
