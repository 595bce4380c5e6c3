"""A file that remembers which jobs are done, a line each."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from cellclass_tf.batch.jobs import Job
from cellclass_tf.errors import InputError, one_line
from cellclass_tf.storage import csv_json

_ENTRY_KEYS = {"name", "fingerprint", "result"}


@dataclasses.dataclass(frozen=True)
class Journal:
    """Remembers what is done, so that a killed run goes on where it was.

    Attributes:
      path: of the file.
      skips_done: whether jobs are skipped that it says are done; a caller that knows
        better what is done wants them all.
      must_record: whether a job that cannot be recorded has failed; without outputs it
        has only to be done again.
    """

    path: str | os.PathLike
    skips_done: bool = True
    must_record: bool = True

    def results(self) -> dict[str, Any]:
        """Returns the last result of every job that it knows, by name.

        Raises:
          InputError: if the file cannot be read, and must be; so for all that read it.
        """
        return {name: entry["result"] for name, entry in self.read().items()}

    def fingerprints(self) -> dict[str, set[str]]:
        """Returns the fingerprints with which every job was ever done, by name."""
        found: dict[str, set[str]] = {}
        for entry in self._entries():
            found.setdefault(entry["name"], set()).add(entry["fingerprint"])
        return found

    def remember(self, results: dict[str, Any]) -> None:
        """Adds results, in place of those that it has by these names.

        Raises:
          InputError: if it cannot be written.
        """
        for name, result in results.items():
            if error := self.append(Job(name, None), result):
                raise InputError(error)

    def read(self) -> dict[str, dict[str, Any]]:
        """Returns the last entry of every job by name: name, fingerprint, result."""
        return {entry["name"]: entry for entry in self._entries()}

    def _entries(self) -> Iterator[dict[str, Any]]:
        if not os.path.lexists(self.path):
            return
        try:
            content = csv_json.read_bytes(self.path)
        except InputError:
            if self.must_record:
                raise
            return
        for line in content.decode(errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                # A killed run can leave its last line torn; that job is done again.
                continue
            if isinstance(entry, dict) and entry.keys() >= _ENTRY_KEYS:
                yield entry

    def append(self, job: Job, result: Any) -> str | None:
        """Writes that a job is done; returns why that failed, or None."""
        path = pathlib.Path(self.path)
        entry = {"name": job.name, "fingerprint": job.fingerprint, "result": result}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a", encoding="utf-8") as file:
                # A leading line break ends a torn line of a killed run.
                file.write("\n" + json.dumps(entry))
        except OSError as error:
            return one_line(
                f"{job.name}: done, but that cannot be recorded ({error}); the next run "
                "does it again. Make room on the disk, or see to its permissions."
            )
        return None
