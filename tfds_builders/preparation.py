"""Prepares a study's dataset, anew only where the study has changed."""

from __future__ import annotations

import os
import shutil

import tensorflow_datasets as tfds
from absl import logging

from cellclass_tf.datasets import examples
from cellclass_tf.study import Study
from tfds_builders.cell_types import cell_types_dataset_builder


def dataset(study: str | os.PathLike | Study) -> tfds.core.DatasetInfo:
    """Prepares `cell_types/study` in STUDY/tfds.

    Splits are chosen by acquisition group and recorded in images.csv. A dataset made of
    the same images, cells and splits is left as it is.

    Returns:
      The info of the prepared dataset; load it with
      `tfds.load('cell_types/study', data_dir='STUDY/tfds')`.

    Raises:
      InputError: if the study has no annotated images.
    """
    study = study if isinstance(study, Study) else Study.open(study)
    rows = examples.rows_of_dataset(study)
    fingerprint = examples.fingerprint_of_dataset(study, rows)
    for leftover in study.tfds_dir.glob("cell_types/study/*.incomplete*"):
        shutil.rmtree(leftover)
    builder = _builder(study)
    if (builder.info.metadata or {}).get("fingerprint") == fingerprint:
        logging.info("%s: the dataset is up to date.", study.root)
        return builder.info
    if builder.is_prepared():
        # Only now, with its successor's parts all read, does the old one go.
        shutil.rmtree(builder.data_dir)
        builder = _builder(study)
    builder.download_and_prepare()
    return builder.info


def _builder(study: Study) -> tfds.core.DatasetBuilder:
    config = cell_types_dataset_builder.Builder.builder_configs["study"]
    return cell_types_dataset_builder.Builder(
        config=config, data_dir=os.fspath(study.tfds_dir)
    )
