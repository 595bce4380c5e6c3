"""Finished rounds of fine-tuning, from which a killed run continues."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
from typing import Any

import numpy as np

from cellclass_tf.errors import InputError
from cellclass_tf.messages import logger
from cellclass_tf.storage import atomic, csv_json, digests

# Number of rounds without improvement after which training stops (early stopping).
_PATIENCE = 3
_FILE = "rounds.json"


@dataclasses.dataclass
class Rounds:
    """The finished rounds of a run, with weights and scores; round 0 is the base.

    Attributes:
      folder: folder of the rounds.
      fingerprint: hash of the settings.
      replaces: SHA-256 of the file that the output replaces; '' if there was none.
      scores: score of each round.
    """

    folder: pathlib.Path
    fingerprint: str
    replaces: str = ""
    scores: list[float] = dataclasses.field(default_factory=list)

    @classmethod
    def open(cls, output: pathlib.Path, settings: dict[str, Any]) -> Rounds:
        """Opens the rounds of a killed run with the same settings, or starts new ones."""
        folder = rounds_folder(output)
        replaces = digests.sha256_of_file(output) if output.exists() else ""
        rounds = cls(folder, digests.fingerprint(settings), replaces)
        content = csv_json.read_json_object(rounds._file)
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if content["fingerprint"] == rounds.fingerprint:
                rounds.scores = [float(score) for score in content["scores"]]
        if folder.exists() and not rounds._file.exists() and any(folder.iterdir()):
            raise InputError(
                f"{folder} already exists, and holds other files. Move it away, or choose "
                "another output."
            )
        if not rounds.scores:
            shutil.rmtree(folder, ignore_errors=True)
        for place in (folder, folder.parent):
            atomic.remove_leftovers(place)
        rounds._write()
        return rounds

    @property
    def _file(self) -> pathlib.Path:
        return self.folder / _FILE

    def weights(self, number: int) -> pathlib.Path:
        """Returns the path of the weights after a round."""
        return self.folder / f"round_{number:03d}"

    def begin(self, base: pathlib.Path) -> None:
        """Copies the base's weights to round 0."""
        with atomic.atomic_path(self.weights(0)) as temporary:
            shutil.copyfile(base, temporary)

    def save(self, network: Any) -> None:
        """Writes the weights of the round that has just been trained."""
        path = self.weights(len(self.scores))
        # An open file, since PyTorch refuses names that begin with a dot.
        with atomic.atomic_path(path) as temporary, open(temporary, "wb") as file:
            network.save_model(file)

    def add(self, score: float) -> None:
        """Records the score of the round that is done."""
        self.scores.append(round(score, 6))
        self._write()
        logger.info("round %d: score %.4f", len(self.scores) - 1, score)

    def _write(self) -> None:
        csv_json.write_json(
            self._file,
            {
                "fingerprint": self.fingerprint,
                "replaces": self.replaces,
                "scores": self.scores,
            },
        )

    @property
    def are_hopeless(self) -> bool:
        """Whether the last rounds brought no improvement, so that training can stop."""
        return len(self.scores) - 1 - int(np.argmax(self.scores)) >= _PATIENCE


def sha256s_of_run(output: pathlib.Path) -> set[str]:
    """Returns the SHA-256s of what a killed run may have left as its output.

    These are the file that the output replaces, and the weights of the finished rounds.
    """
    folder = rounds_folder(output)
    replaced = csv_json.read_json_object(folder / _FILE).get("replaces", "")
    return {replaced} | {
        digests.sha256_of_file(path) for path in folder.glob("round_*")
    }


def rounds_folder(output: pathlib.Path) -> pathlib.Path:
    """Returns the folder of the rounds of a file of tuned weights."""
    return output.with_name(f"{output.name}.rounds")
