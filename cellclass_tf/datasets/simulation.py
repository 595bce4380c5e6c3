"""Simulated cultures, written as a microscope would, with the exact truth beside."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import uuid

import numpy as np

from cellclass_tf import batch, files
from cellclass_tf.cells import Cells
from cellclass_tf.datasets.culture import field as culture_field
from cellclass_tf.files import InputError
from cellclass_tf.study import MIXED, Study

CHANNEL_NAMES = ("DAPI", "GFP")
PIXEL_SIZE_UM = 0.325
CELL_TYPES = tuple(culture_field.LOOKS)
# What names the dish in a simulated file's name, for `convert --group`.
GROUP_PATTERN = r"[^/]+_dish\d+"

_DISHES = 4


@dataclasses.dataclass(frozen=True)
class _Field:
    study: Study
    cell_type: str
    dish: int
    number: int
    size_px: int
    seed: int

    @property
    def stem(self) -> str:
        return f"{self.cell_type}/{self.cell_type}_dish{self.dish}_{self.number:04d}"

    @property
    def raw_path(self) -> pathlib.Path:
        return self.study.root / "raw" / f"{self.stem}.ome.tif"

    @property
    def truth_path(self) -> pathlib.Path:
        return self.study.root / "truth" / f"{self.stem}.tif"


def simulate(
    study: str | os.PathLike,
    *,
    images_per_type: int = 24,
    mixed: int = 8,
    size: int = 512,
    seed: int = 0,
    processes: int = 1,
) -> batch.Outcome:
    """Simulates pure and mixed cultures of HEK-like and N2a-like cells.

    STUDY/raw/TYPE/NAME.ome.tif holds what a camera saw (nuclei, cytoplasm; uint16) and
    STUDY/truth/TYPE/NAME.tif the exact label image, with the type of every cell of a
    mixed field in NAME.csv: the layout that `cellclass import --format=masks` takes.
    The same arguments give the same bytes.

    Args:
      study: folder of the study; it is made if there is none.
      images_per_type: fields of each pure culture, over four dishes.
      mixed: fields of the mixed culture, half and half, over four other dishes.
      size: width and height of a field in pixels of 0.325 µm.
      seed: of the random numbers.
      processes: worker processes.

    Returns:
      The outcome by field.

    Raises:
      InputError: if a number makes no sense, or the study has types that cannot be
        simulated.
    """
    if (
        min(images_per_type, mixed, seed) < 0
        or images_per_type + mixed < 1
        or size < 64
    ):
        raise InputError(
            "Expected at least one field of at least 64 px and a seed from 0 on; got "
            f"images_per_type={images_per_type}, mixed={mixed}, size={size}, seed={seed}."
        )
    study = _open_or_create(pathlib.Path(study))
    fields = [
        _Field(study, name, i % _DISHES + 1, i + 1, size, seed)
        for name in (*study.cell_types, MIXED)
        for i in range(mixed if name == MIXED else images_per_type)
    ]
    jobs = [
        batch.Job(
            field.stem,
            field,
            files.fingerprint(size, seed, study.cell_types),
            (field.raw_path, field.truth_path),
        )
        for field in fields
    ]
    return batch.run(
        _write_field,
        jobs,
        description="simulate",
        journal=study.journal("simulate"),
        engine=batch.Engine(processes=processes),
    )


def _open_or_create(root: pathlib.Path) -> Study:
    known = CELL_TYPES
    if not (root / "study.yaml").exists():
        return Study.create(root, known, pixel_size_um=PIXEL_SIZE_UM)
    study = Study.open(root)
    strangers = sorted(set(study.cell_types) - set(known))
    if strangers:
        raise InputError(
            f"{root}: cannot simulate {strangers[0]!r}; known are {', '.join(known)}. "
            "Simulate into a new folder."
        )
    return study


def _write_field(field: _Field) -> dict:
    types = field.study.cell_types
    shares = dict.fromkeys(
        types if field.cell_type == MIXED else (field.cell_type,), 1.0
    )
    # The type's place in the seed keeps the cultures independent of each other.
    place = (*types, MIXED).index(field.cell_type)
    dish_rng = np.random.default_rng([field.seed, place, field.dish])
    simulated = culture_field.simulate_field(
        shares,
        size_px=field.size_px,
        rng=np.random.default_rng([field.seed, place, field.dish, field.number]),
        dish=culture_field.Dish.random(dish_rng),
        pixel_size_um=PIXEL_SIZE_UM,
    )
    cells = Cells.from_labels(simulated.labels, types, simulated.cell_types)
    cells.write(field.truth_path, types_csv=field.cell_type == MIXED)
    _write_ome_tiff(field, simulated.pixels)
    return {"cells": len(cells)}


def _write_ome_tiff(field: _Field, pixels: np.ndarray) -> None:
    import tifffile

    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{field.stem}/{field.size_px}/{field.seed}")
    metadata = {
        "axes": "CYX",
        "Channel": {"Name": list(CHANNEL_NAMES)},
        "PhysicalSizeX": PIXEL_SIZE_UM,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": PIXEL_SIZE_UM,
        "PhysicalSizeYUnit": "µm",
        # Without one, the file gets a random number and no two runs are alike.
        "UUID": f"urn:uuid:{name}",
        "Name": field.stem,
    }
    with files.atomic_path(field.raw_path) as temporary:
        tifffile.imwrite(
            temporary,
            pixels,
            ome=True,
            metadata=metadata,
            photometric="minisblack",
            compression="zlib",
        )
