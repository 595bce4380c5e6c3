"""The steps of a run, and what they will take: the plan that `cellclass run` prints."""

from __future__ import annotations

import dataclasses
import pathlib

from cellclass_tf.core.study import MIXED
from cellclass_tf.microscopy.files import raw_files
from cellclass_tf.workflows.run_settings import RunSettings

STEPS = (
    "convert",
    "annotate",
    "corrections",
    "dataset",
    "train",
    "export",
    "predict",
)
_IN_WORDS = {
    "convert": "merge the channels of {raw} raw files, and judge their quality",
    "annotate": "outline the cells with {annotator}",
    "corrections": "read the cells that you corrected, from {corrections}",
    "dataset": "prepare the dataset",
    "train": "train the network",
    "export": "export and calibrate the network",
    "predict": "outline and classify the cells of the mixed fields, and write the report",
}
# Minutes on two cores; for each field of a megapixel, where that matters.
_MINUTES = {"convert": 0.02, "cellpose": 0.5, "watershed": 0.03, "predict": 0.15}
_TRAINING_MINUTES, _EXPORT_MINUTES = 17.0, 3.0
# Bytes of merged image, labels and pictures for each byte of a raw file.
_DISK = 1.5
_MODELS_BYTES = 150e6


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """One step of a run.

    Attributes:
      name: one of STEPS.
      what: description of the step.
      minutes: rough estimate of its duration if nothing of it is done yet.
    """

    name: str
    what: str
    minutes: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
      steps: the steps in order.
      disk_bytes: rough estimate of the disk space that all results take.
    """

    steps: tuple[PlannedStep, ...]
    disk_bytes: float

    def __str__(self) -> str:
        lines = [
            f"{number}. {step.what}{_about(step.minutes)}"
            for number, step in enumerate(self.steps, start=1)
        ]
        total = sum(step.minutes for step in self.steps)
        lines.append(
            f"In total about {total:.0f} minutes on two cores, and "
            f"{self.disk_bytes / 1e9:.1f} GB of disk space. Steps that are done already take "
            "no time."
        )
        return "\n".join(lines)


def plan_of(settings: RunSettings) -> Plan:
    """Returns the plan of a run with these settings, from the raw files that there are."""
    found = raw_files.find(
        pathlib.Path(settings.input), None, settings.group, None, allow_lossy=False
    )
    raws = found[0]
    mixed = sum(raw.cell_type == MIXED for raw in raws)
    size = sum(_bytes_of(raw.path) for raw in raws)
    training = settings.minutes or _TRAINING_MINUTES
    minutes = {
        "convert": len(raws) * _MINUTES["convert"],
        "annotate": len(raws) * _MINUTES.get(settings.annotator, 0.1),
        "corrections": 0.0,
        "dataset": 0.5,
        "train": training,
        "export": _EXPORT_MINUTES,
        "predict": mixed * _MINUTES["predict"],
    }
    names = [n for n in STEPS if n != "corrections" or settings.corrections]
    values = {"raw": len(raws)} | dataclasses.asdict(settings)
    return Plan(
        tuple(PlannedStep(n, _IN_WORDS[n].format(**values), minutes[n]) for n in names),
        size * _DISK + _MODELS_BYTES,
    )


def _bytes_of(path: pathlib.Path) -> int:
    """Returns the size of a file, or of all files in a folder, which OME-Zarr is."""
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    files = (p for p in path.rglob("*") if p.is_file())
    return sum(p.stat().st_size for p in files)


def _about(minutes: float) -> str:
    return f" (about {minutes:.0f} min)" if minutes >= 1 else ""
