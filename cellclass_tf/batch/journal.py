"""Journal: a file that records completed jobs, one per line."""

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
    """Records completed jobs, so that a killed run resumes where it stopped.

    Attributes:
      path: path of the file.
      skips_done: whether to skip jobs that are recorded as completed. False if the caller
        itself determines which jobs are to be done.
      must_record: whether a job that cannot be recorded counts as failed. False if it does
        not matter that the job is repeated.
    """

    path: str | os.PathLike
    skips_done: bool = True
    must_record: bool = True

    def results(self) -> dict[str, Any]:
        """Returns the last result of every recorded job, by name.

        Raises:
          InputError: if the file cannot be read and `must_record` is set. The other methods
            that read the file do the same.
        """
        return {name: entry["result"] for name, entry in self.read().items()}

    def history(self) -> dict[str, list[dict[str, Any]]]:
        """Returns all entries of every job by name, oldest first; see `read`."""
        found: dict[str, list[dict[str, Any]]] = {}
        for entry in self._entries():
            found.setdefault(entry["name"], []).append(entry)
        return found

    def remember(self, results: dict[str, Any]) -> None:
        """Records results, which replace earlier results of the same names.

        Raises:
          InputError: if the file cannot be written.
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
                # A killed run can leave an incomplete line; its job is done again.
                continue
            if isinstance(entry, dict) and entry.keys() >= _ENTRY_KEYS:
                yield entry

    def append(self, job: Job, result: Any) -> str | None:
        """Records a completed job; returns an error message if that fails, else None."""
        path = pathlib.Path(self.path)
        entry = {"name": job.name, "fingerprint": job.fingerprint, "result": result}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a", encoding="utf-8") as file:
                # The leading line break ends an incomplete line of a killed run.
                file.write("\n" + json.dumps(entry))
        except OSError as error:
            return one_line(
                f"{job.name}: done, but this cannot be recorded ({error}); the next run "
                "does it again. Free space on the disk, or correct its permissions."
            )
        return None
