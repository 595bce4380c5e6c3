"""TFDS datasets of this project; importing the package registers them with `tfds.load`."""

from tfds_builders.cell_types import cell_types_dataset_builder as _cell_types
from tfds_builders.preparation import dataset, newest_dataset

CellTypes = _cell_types.Builder

__all__ = ["CellTypes", "dataset", "newest_dataset"]
