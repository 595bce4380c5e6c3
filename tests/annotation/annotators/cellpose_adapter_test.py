"""Tests of the choice of the adapter, and that both adapters implement the protocol."""

import inspect
import pickle

import numpy as np
import pytest

from cellclass_tf.annotation.annotators import cellpose_adapter, cellpose_library
from cellclass_tf.annotation.annotators.cellpose_v3 import Cellpose3
from cellclass_tf.annotation.annotators.cellpose_v4 import Cellpose4


@pytest.mark.parametrize(
    ("version", "expected"), [("3.1.1.3", Cellpose3), ("4.2.1.1", Cellpose4)]
)
def test_the_major_version_selects_the_adapter(monkeypatch, version, expected):
    monkeypatch.setattr(cellpose_library, "installed_version", lambda: version)
    found = cellpose_adapter.installed()
    assert type(found) is expected
    assert type(pickle.loads(pickle.dumps(found))) is expected


@pytest.mark.parametrize("adapter", [Cellpose3, Cellpose4])
def test_adapters_implement_the_protocol(adapter):
    for name in cellpose_adapter.Adapter.__annotations__:
        assert hasattr(adapter, name)
    for name, method in inspect.getmembers(cellpose_adapter.Adapter, callable):
        if not name.startswith("_"):
            found = inspect.signature(getattr(adapter, name))
            assert found == inspect.signature(method), name


def test_planes_are_cytoplasm_then_nuclei():
    image = np.zeros((4, 5, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 9, 100, 200
    for adapter, values in ((Cellpose3(), [100, 200]), (Cellpose4(), [100, 200, 0])):
        planes = adapter.planes_of(image)
        assert planes.shape == (len(values), 4, 5)
        assert planes.dtype == np.float32
        assert planes[:, 2, 3].tolist() == values
