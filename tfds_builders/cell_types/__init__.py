"""The dataset `cell_types`."""
