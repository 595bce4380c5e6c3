"""Runs TFDS's own test of a builder on a few small simulated fields."""

import pathlib
from typing import ClassVar

import tensorflow_datasets as tfds

import tfds_builders
from cellclass_tf.workflows.simulated_cultures import SimulatedCultures
from tfds_builders.cell_types import cell_types_dataset_builder

_CULTURES = SimulatedCultures(images_per_type=4, mixed=2, size=224, dishes=2)
_CONFIG = cell_types_dataset_builder.CellTypesConfig(
    name="small", description="A few fields.", cultures=_CULTURES
)


class CellTypesTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS's test for every dataset."""

    DATASET_CLASS = tfds_builders.CellTypes
    BUILDER_CONFIG_NAMES_TO_TEST: ClassVar = [_CONFIG]
    EXAMPLE_DIR = pathlib.Path(__file__).parent
    SPLITS: ClassVar = {"train": 4, "validation": 4, "mixed": 2, "composed": 4}
