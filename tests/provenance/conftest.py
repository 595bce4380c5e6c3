"""Fixtures for tests of provenance."""

import pytest

from tests.provenance.places import make_model, make_predictions, make_study


@pytest.fixture
def place(tmp_path):
    """Makes raw/d2_a.tif, study/, model/, and predictions/ of the study."""
    (tmp_path / "raw").mkdir()
    raw = tmp_path / "raw" / "d2_a.tif"
    raw.write_bytes(b"micrograph")
    study = make_study(tmp_path / "study", [raw])
    model = make_model(tmp_path / "model")
    make_predictions(tmp_path / "predictions", study, model, study.root)
    return tmp_path
