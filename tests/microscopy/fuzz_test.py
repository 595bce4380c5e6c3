"""Tests that 2,000 broken files crash nothing, and leave nothing half-written."""

import numpy as np
import pytest

import cellclass_tf as cc
from cellclass_tf.core.study import Study
from cellclass_tf.storage import atomic, digests

FILES, BATCHES = 2000, 4
LIMIT_S = 20


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Returns bytes of which some are flipped, cut off, or replaced by those of another file."""
    array = np.frombuffer(data, np.uint8).copy()
    kind = rng.choice(["flip", "flip head", "cut", "splice", "zero"])
    if kind.startswith("flip"):
        # The beginning of a file determines how the rest is read.
        reach = min(4096, len(array)) if kind == "flip head" else len(array)
        places = rng.integers(0, reach, rng.integers(1, 65))
        array[places] ^= rng.integers(1, 256, len(places), dtype=np.uint8)
        return array.tobytes()
    if kind == "cut":
        return data[: rng.integers(0, len(data))]
    length = int(rng.integers(1, max(2, len(array) // 4)))
    start = int(rng.integers(0, len(array) - length + 1))
    if kind == "zero":
        array[start : start + length] = 0
        return array.tobytes()
    source = int(rng.integers(0, max(1, len(other) - length)))
    part = other[source : source + length]
    return data[:start] + part + data[start + len(part) :]


@pytest.fixture(scope="module")
def sources(assets):
    """Returns the real files that are small, so that 2,000 mutations take minutes."""
    folder = assets / "microscope_files"
    found = [path for path in sorted(folder.rglob("*.*")) if path.is_file()]
    # Some of them cannot be fetched, and are missing in most checkouts.
    assert len(found) > 5
    return found


@pytest.mark.parametrize("batch", range(BATCHES))
def test_broken_files_are_failures_of_one_line(sources, tmp_path, batch):
    rng = np.random.default_rng(batch)
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(FILES // BATCHES):
        path = sources[number % len(sources)]
        other = sources[rng.integers(len(sources))].read_bytes()
        broken = mutated(path.read_bytes(), other, rng)
        (raw / f"{number:04d}{path.suffix}").write_bytes(broken)
    outcome = cc.convert(
        raw,
        tmp_path / "study",
        cell_type="HEK",
        nuclei=0,
        cytoplasm=1,
        processes=2,
        limit_s=LIMIT_S,
    )
    names = {str(path) for path in raw.iterdir()}
    assert set(outcome.done) | set(outcome.failures) == names
    for path, reason in outcome.failures.items():
        assert path in reason
        assert "\n" not in reason
    assert_whole(Study.open(tmp_path / "study"), set(outcome.done))


def assert_whole(study: Study, converted: set[str]) -> None:
    assert not list(study.root.rglob(f"{atomic.PART_PREFIX}*"))
    rows = study.rows()
    assert {row.raw_file for row in rows} == converted
    for row in rows:
        assert digests.sha256_of_file(study.image_path(row)) == row.image_sha256
        study.read_image(row)
