"""Prepares the dataset of a study, as a new version if the study has changed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time

import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import version as tfds_version

from cellclass_tf import batch, process_state
from cellclass_tf.core.manifest import Cost, costs_of_rejection, uneven_rejection
from cellclass_tf.core.study import Study
from cellclass_tf.datasets import examples, gaps
from cellclass_tf.errors import InputError, command, one_line
from cellclass_tf.messages import logger
from cellclass_tf.storage import atomic, lock
from tfds_builders.cell_types import cell_types_dataset_builder


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared dataset; its `str` describes the contents and what is new.

    Attributes:
      info: TFDS's information about the dataset.
      is_new: whether this call prepared it.
      changes: differences from the previous version, one line each.
      cells: number of annotated cells by split and type.
      outcome: which images were checked, and which failed.
      rejected: number of rejected fields and their cells, by reason.
      uneven: message about types that are rejected more or less often than others; ''
        if there are none.
    """

    info: tfds.core.DatasetInfo
    is_new: bool
    changes: tuple[str, ...]
    cells: dict[str, dict[str, int]]
    outcome: batch.Outcome
    rejected: dict[str, Cost]
    uneven: str = ""

    def __str__(self) -> str:
        lines = [f"{self.info.full_name} in {self.info.data_dir}: {self._news()}"]
        for split in sorted(self.info.splits):
            cells = self.cells.get(split, {})
            counts = ", ".join(f"{n} {name}" for name, n in sorted(cells.items()))
            fields = f"{self.info.splits[split].num_examples} fields"
            lines.append(f"  {split:<12}{fields}{counts and f', cells: {counts}'}")
        lines += [
            f"rejected ({reason}): {cost.fields} fields, about {cost.cells} cells"
            for reason, cost in self.rejected.items()
        ]
        lines += [self.uneven] if self.uneven else []
        return "\n".join(lines)

    def _news(self) -> str:
        if not self.is_new:
            return "up to date"
        if not self.changes:
            return "new"
        changes = "".join(f"\n  {one_line(change)}" for change in self.changes)
        return f"new; changes since the previous version:{changes}"


@process_state.keep()
@lock.writes("study")
@batch.takes_engine
def dataset(
    study: str | os.PathLike | Study,
    *,
    data_dir: str | os.PathLike | None = None,
    allow_no_validation: bool = False,
    engine: batch.Engine,
) -> Prepared:
    """Prepares `cell_types/study`.

    Splits are chosen by acquisition group and recorded in images.csv. If the newest version
    was made of the same images, cells and splits, it is kept; otherwise a new version is
    made, and old versions are kept. Broken images are left out and reported.

    Args:
      study: folder of the study.
      data_dir: data directory, a folder or a bucket; None for STUDY/tfds.
      allow_no_validation: whether to prepare the dataset even if a type has no group to
        hold out for validation.
      processes: number of worker processes that check the images.
      engine: 'local', or 'beam' to check the images and make the examples on Apache Beam
        (this process then writes them); or a `batch.Engine`.
      beam_options: flags of Beam.

    Returns:
      The prepared dataset; load it with
      `tfds.load('cell_types/study', data_dir='STUDY/tfds')`.

    Raises:
      InputError: if the study has no annotated images, if a type or a group to hold out
        is missing, or if the data directory is not writable.
    """
    study = Study.open(study)
    data_dir = os.fspath(data_dir or study.tfds_dir)
    rows = study.rows()
    rejected, uneven = costs_of_rejection(rows), uneven_rejection(rows)
    cell_types_dataset_builder.check_writable(data_dir)
    checked = examples.check_study(study, engine)
    gaps.refuse_gaps(study, checked.contents, allow_no_validation=allow_no_validation)
    checked.record(study)
    # In the study's own folder, this command holds the lock, so no other run is active.
    is_shared = os.path.realpath(data_dir) != os.path.realpath(study.tfds_dir)
    _remove_leftovers(data_dir, atomic.ABANDONED_AFTER_S if is_shared else 0)
    builder = cell_types_dataset_builder.Builder(
        config="study",
        data_dir=data_dir,
        study=os.fspath(study.root),
        allow_no_validation=allow_no_validation,
        engine=engine,
    )
    builder.tells_failures = False
    is_new = builder.version not in builder.editions
    if is_new:
        # TFDS prints two lines, which are not part of a command's result.
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare()
    else:
        logger.info("%s: the dataset is up to date.", study.root)
    contents = checked.contents
    by_split = {
        split: dict(
            contents.cells_of(i for i, f in contents.fields.items() if f.split == split)
        )
        for split in sorted({field.split for field in contents.fields.values()})
    }
    changes = contents.changes_since(builder.previous) if builder.previous else ()
    return Prepared(
        builder.info,
        is_new,
        tuple(changes),
        by_split,
        dataclasses.replace(
            checked.outcome,
            notes=(
                *checked.outcome.notes,
                *gaps.told_of_held_out(contents),
                *gaps.told_of_pixel_sizes(contents),
            ),
        ),
        rejected,
        uneven,
    )


def newest_dataset(
    study: str | os.PathLike, data_dir: str | os.PathLike | None = None
) -> tfds.core.Path:
    """Returns the folder of the newest version of a study's dataset.

    Args:
      study: folder of the study.
      data_dir: data directory, a folder or a bucket; None for STUDY/tfds.

    Raises:
      InputError: if none is prepared.
    """
    root = tfds.core.Path(os.fspath(data_dir or Study.open(study).tfds_dir))
    folder = root / "cell_types" / "study"
    versions = tfds_version.list_all_versions(folder) if folder.exists() else []
    if not versions:
        preparing = command("dataset", study=study)
        raise InputError(f"{folder} has no prepared dataset. Run `{preparing}`.")
    return folder / str(versions[-1])


def _remove_leftovers(data_dir: str, after_s: float) -> None:
    """Removes unfinished versions of killed runs; newer ones may belong to a running one."""
    root = tfds.core.Path(data_dir) / "cell_types"
    for path in (*root.glob("study/*incomplete*"), *root.glob(".config/*incomplete*")):
        begun_s = tf.io.gfile.stat(os.fspath(path)).mtime_nsec / 1e9
        if time.time() - begun_s < after_s:
            continue
        if path.is_dir():
            path.rmtree()
        else:
            path.unlink()
