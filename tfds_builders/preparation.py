"""Prepares a study's dataset, anew only where the study has changed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Iterator

import tensorflow_datasets as tfds
from absl import logging

from cellclass_tf import batch
from cellclass_tf.datasets import examples
from cellclass_tf.manifest import Cost, costs_of_rejection
from cellclass_tf.study import Study
from tfds_builders.cell_types import cell_types_dataset_builder


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared dataset.

    Attributes:
      info: what TFDS knows of it.
      outcome: which images were checked or failed.
      rejected: what every reason for rejection cost in fields and cells.
    """

    info: tfds.core.DatasetInfo
    outcome: batch.Outcome
    rejected: dict[str, Cost]


def dataset(study: str | os.PathLike | Study) -> Prepared:
    """Prepares `cell_types/study` in STUDY/tfds.

    Splits are chosen by acquisition group and recorded in images.csv. A dataset made of
    the same images, cells and splits is left as it is. Images that are broken are left
    out and named.

    Returns:
      The prepared dataset; load it with
      `tfds.load('cell_types/study', data_dir='STUDY/tfds')`.

    Raises:
      InputError: if the study has no annotated images.
    """
    study = study if isinstance(study, Study) else Study.open(study)
    rejected = costs_of_rejection(study.rows())
    rows, outcome = examples.rows_of_dataset(study)
    fingerprint = examples.fingerprint_of_dataset(study, rows)
    for leftover in study.tfds_dir.glob("cell_types/study/*incomplete*"):
        shutil.rmtree(leftover)
    builder = _builder(study)
    if (builder.info.metadata or {}).get("fingerprint") == fingerprint:
        logging.info("%s: the dataset is up to date.", study.root)
        return Prepared(builder.info, outcome, rejected)
    with _set_aside(builder):
        builder = _builder(study)
        builder.download_and_prepare()
    return Prepared(builder.info, outcome, rejected)


@contextlib.contextmanager
def _set_aside(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
    """Keeps the old dataset until the new one is there, and puts it back otherwise."""
    folder = pathlib.Path(builder.data_dir)
    # Outside the folders in which TFDS looks for versions.
    aside = folder.parents[2] / "replaced"
    if aside.exists() and not folder.exists():
        # A run was killed in between.
        aside.replace(folder)
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.replace(aside)
    try:
        yield
    except BaseException:
        if aside.exists() and not folder.exists():
            aside.replace(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _builder(study: Study) -> tfds.core.DatasetBuilder:
    config = cell_types_dataset_builder.Builder.builder_configs["study"]
    return cell_types_dataset_builder.Builder(
        config=config, data_dir=os.fspath(study.tfds_dir)
    )
