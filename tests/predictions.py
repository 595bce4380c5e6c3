"""Writes predictions as `predict` does, for tests that need no network."""

from cellclass_tf.analysis import cell_table, table_files


def write_predictions(folder, fields, images=None):
    """Writes label images and tables of {stem: cells} below a folder; returns the folder."""
    images = images or {}
    names = next(iter(fields.values())).type_names
    for stem, cells in fields.items():
        cells.write(folder / "labels" / f"{stem}.tif")
    tables = [
        cell_table.cell_table(cells, images.get(stem), name=stem)
        for stem, cells in fields.items()
    ]
    table_files.write_cells_csv(folder / "cells.csv", tables, names)
    counts = [cell_table.count_row(cells, name=stem) for stem, cells in fields.items()]
    table_files.write_counts_csv(folder / "counts.csv", counts, names)
    return folder
