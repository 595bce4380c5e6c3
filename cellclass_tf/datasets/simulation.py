"""Simulates cultures, and writes them as microscope files with their ground truth."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import uuid
from collections.abc import Collection, Sequence

import numpy as np

from cellclass_tf import batch, process_state, versions
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.label_files import write_types
from cellclass_tf.core.study import MIXED, Study
from cellclass_tf.datasets.culture import field as culture_field
from cellclass_tf.datasets.culture import looks
from cellclass_tf.errors import InputError
from cellclass_tf.storage import digests, ledger, lock

CHANNEL_NAMES = ("DAPI", "GFP")
PIXEL_SIZE_UM = 0.325
CELL_TYPES = tuple(culture_field.LOOKS)
# Pattern of the dish in a simulated file's name, for `convert --group`.
GROUP_PATTERN = r"[^/]+_dish\d+"


@dataclasses.dataclass(frozen=True)
class _PlannedField:
    study: Study
    cell_type: str
    dish: int
    number: int
    size_px: int
    seed: int
    confounded: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        return f"{self.cell_type}/{self.cell_type}_dish{self.dish}_{self.number:04d}"

    @property
    def raw_path(self) -> pathlib.Path:
        return self.study.root / "raw" / f"{self.stem}.ome.tif"

    @property
    def truth_path(self) -> pathlib.Path:
        return self.study.root / "truth" / f"{self.stem}.tif"

    @property
    def culture(self) -> int:
        """Index of the culture, part of the seed, which keeps cultures independent."""
        return (*self.study.cell_types, MIXED).index(self.cell_type)


@process_state.keep()
@lock.writes("study", creates=True)
def simulate(
    study: str | os.PathLike,
    *,
    images_per_type: int = 24,
    mixed: int = 8,
    size: int = 512,
    seed: int = 0,
    dishes: int = 4,
    confounded: str | Sequence[str] = (),
    tied: str | Sequence[str] = (),
    only: Collection[tuple[str, int]] | None = None,
    processes: int = 1,
) -> batch.Outcome:
    """Simulates pure and mixed cultures of HEK-like and N2a-like cells.

    STUDY/raw/TYPE/NAME.ome.tif holds the camera image (nuclei, cytoplasm; uint16) and
    STUDY/truth/TYPE/NAME.tif the exact label image, with the type of every cell of a
    mixed field in NAME.csv: the layout that `cellclass import --format=masks` reads.
    The same arguments give the same bytes. Dishes differ in light, stain, focus and
    density, independently of their cell type; with `confounded` these depend on the type,
    as they often do in real studies.

    Args:
      study: folder of the study; it is made if it does not exist.
      images_per_type: number of fields of each pure type, over all of its dishes.
      mixed: number of fields of the mixed culture (half and half), over dishes of its own.
      size: width and height of a field in pixels of 0.325 µm.
      seed: seed of the random numbers; the same seed gives the same bytes.
      dishes: number of dishes of each pure type, and of mixed dishes. Fields are dealt to
        the dishes in turn.
      confounded: what depends on the type in pure dishes, as if each culture had been imaged
        on a different day: 'illumination', 'stain', 'focus', 'density', with commas between
        them. Mixed dishes vary as usual.
      tied: former name of `confounded`.
      only: (type or 'mixed', dish) of the dishes to draw; None draws all. A field is
        the same whichever others are drawn, so that workers can share a large study.
      processes: number of worker processes.

    Returns:
      The outcome by field.

    Raises:
      InputError: if a number is out of range, a quality or a dish is not known, or the
        study has types that cannot be simulated.
    """
    if (
        min(images_per_type, mixed, seed) < 0
        or images_per_type + mixed < 1
        or size < 64
        or dishes < 1
    ):
        raise InputError(
            "Expected at least one field of at least 64 px, at least one dish and a seed "
            f"from 0 on; got images_per_type={images_per_type}, mixed={mixed}, "
            f"size={size}, seed={seed}, dishes={dishes}."
        )
    qualities = _qualities(confounded or tied)
    opened = _open_or_create(pathlib.Path(study))
    fields = [
        _PlannedField(
            opened,
            name,
            i % dishes + 1,
            i + 1,
            size,
            seed,
            () if name == MIXED else qualities,
        )
        for name in (*opened.cell_types, MIXED)
        for i in range(mixed if name == MIXED else images_per_type)
    ]
    jobs = [
        batch.Job(
            field.stem, field, _fingerprint(field), (field.raw_path, field.truth_path)
        )
        for field in _chosen(fields, only)
    ]
    return batch.run(
        _write_field,
        jobs,
        description="simulate",
        journal=batch.Journal(opened.journal("simulate")),
        engine=batch.Engine(processes=processes),
    )


def _qualities(confounded: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the names in `confounded`, each once, in the order of `looks.QUALITIES`."""
    given = confounded.split(",") if isinstance(confounded, str) else confounded
    names = {name.strip() for name in given} - {""}
    strangers = sorted(names - set(looks.QUALITIES))
    if strangers:
        raise InputError(
            f"confounded: {strangers[0]!r} is not a known quality of dishes; known are "
            f"{', '.join(sorted(looks.QUALITIES))}."
        )
    return tuple(name for name in looks.QUALITIES if name in names)


def _chosen(
    fields: list[_PlannedField], only: Collection[tuple[str, int]] | None
) -> list[_PlannedField]:
    if only is None:
        return fields
    wanted = {tuple(pair) for pair in only}
    known = dict.fromkeys((field.cell_type, field.dish) for field in fields)
    strangers = sorted(wanted - set(known), key=str)
    if strangers:
        raise InputError(
            f"only: there is no dish {strangers[0]}; dishes are "
            f"{', '.join(map(str, known))}."
        )
    return [field for field in fields if (field.cell_type, field.dish) in wanted]


def _fingerprint(field: _PlannedField) -> str:
    """Returns a hash of everything that the bytes of a field depend on, except its name."""
    return digests.fingerprint(
        versions.SIMULATION,
        field.size_px,
        field.seed,
        field.study.cell_types,
        field.confounded,
    )


def _open_or_create(root: pathlib.Path) -> Study:
    study = Study.open_or_create(root, CELL_TYPES, PIXEL_SIZE_UM)
    strangers = sorted(set(study.cell_types) - set(CELL_TYPES))
    if strangers:
        raise InputError(
            f"{root}: cannot simulate {strangers[0]!r}; known are {', '.join(CELL_TYPES)}. "
            "Simulate into a new folder."
        )
    return study


def _write_field(field: _PlannedField) -> dict:
    types = field.study.cell_types
    shares = dict.fromkeys(
        types if field.cell_type == MIXED else (field.cell_type,), 1.0
    )
    place = field.culture
    dish = looks.Dish.random(
        np.random.default_rng([field.seed, place, field.dish]),
        confounded=field.confounded,
        culture=place,
        cultures=len(types),
    )
    simulated = culture_field.simulate_field(
        shares,
        size_px=field.size_px,
        rng=np.random.default_rng([field.seed, place, field.dish, field.number]),
        dish=dish,
        pixel_size_um=PIXEL_SIZE_UM,
    )
    cells = Cells.from_labels(simulated.labels, types, simulated.cell_types)
    root, truth = field.study.root, field.truth_path
    if field.cell_type == MIXED:
        # The table is written first: a label image without its types would be misread.
        with ledger.replace(root, truth.with_suffix(".csv")) as temporary:
            write_types(temporary, cells.cell_types)
    with ledger.replace(root, truth) as temporary:
        temporary.write_bytes(cells.encode())
    with ledger.replace(root, field.raw_path) as temporary:
        _write_ome_tiff(field, simulated.pixels, temporary)
    return {"cells": len(cells)}


def _write_ome_tiff(
    field: _PlannedField, pixels: np.ndarray, path: pathlib.Path
) -> None:
    import tifffile

    settings = [field.stem, field.size_px, field.seed, *field.confounded]
    name = uuid.uuid5(uuid.NAMESPACE_URL, "/".join(map(str, settings)))
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
    tifffile.imwrite(
        path,
        pixels,
        ome=True,
        metadata=metadata,
        photometric="minisblack",
        compression="zlib",
    )
