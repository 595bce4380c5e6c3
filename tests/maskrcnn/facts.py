"""Returns properties of a small dataset, for tests that do not prepare one."""

from cellclass_tf.maskrcnn import data_facts


def facts(most_cells=20):
    return data_facts.DataFacts(
        type_names=("HEK", "N2a"),
        cell_diameter_px=24.0,
        most_cells=most_cells,
        densest=most_cells / 128**2,
        cells_by_type=(30, 30),
        pixel_size_um=0.5,
        decoded_bytes=1,
        fields=1,
        validation_fields=1,
        untyped_fields=0,
        fingerprint="f",
    )
