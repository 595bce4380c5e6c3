"""Returns metadata of models, for tests that need no network."""

from cellclass_tf.core.model_metadata import (
    Bin,
    CalibrationRecord,
    HeldOutField,
    ModelMetadata,
)


def held_out_fields(confusions):
    """Returns held-out fields (V, K, K), each of another dish, without missed cells."""
    none = (0,) * len(confusions[0])
    return tuple(
        HeldOutField(tuple(map(tuple, confusion)), none, none, 100.0, f"dish {n}")
        for n, confusion in enumerate(confusions)
    )


def model_metadata(confusions=None, **changes):
    """Returns metadata of a model of HEK and N2a, calibrated if there are confusions."""
    calibration = None
    if confusions is not None:
        calibration = CalibrationRecord(
            held_out=held_out_fields(confusions),
            bins=(Bin(0.8, 1.0, 0.9, 0.9, 100),),
            expected_calibration_error=0.012,
        )
    values = {
        "type_names": ("HEK", "N2a"),
        "tile_px": 64,
        "scale": 1.0,
        "model_diameter_px": 8.0,
        "grayscale": False,
        "mask_threshold": 0.5,
        "experiment": "small",
        "checkpoint": "ckpt-5",
        "train_steps": 5,
        "dataset_fingerprint": "f00d",
        "calibration": calibration,
    }
    return ModelMetadata(**values | changes)
