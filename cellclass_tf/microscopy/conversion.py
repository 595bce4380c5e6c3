"""Raw microscope files to merged images and rows of the manifest."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from absl import logging

from cellclass_tf import batch, files
from cellclass_tf.files import InputError
from cellclass_tf.micrograph import Micrograph
from cellclass_tf.microscopy import merge, raw_files, readers
from cellclass_tf.microscopy.raw_files import RawFile
from cellclass_tf.study import DEFAULT_CELL_TYPES, MIXED, ImageRow, Study

_KEPT_LIMITS = ((0.0, 255.0), (0.0, 255.0))
# Columns of the manifest that are not this step's.
_LATER_COLUMNS = (
    "verdict",
    "reason",
    "annotator",
    "annotator_sha256",
    "annotation",
    "diameter_px",
    "cells",
    "corrected",
    "split",
)


@dataclasses.dataclass(frozen=True)
class _Options:
    nuclei: str | int | None
    cytoplasm: str | int | None
    projection: str


@dataclasses.dataclass(frozen=True)
class _Conversion:
    """What one worker needs to convert one raw file."""

    study: Study
    raw: RawFile
    options: _Options
    limits: tuple[merge.Limits, merge.Limits] | None
    stem: str


def convert(
    input: str | os.PathLike,
    study: str | os.PathLike | Study,
    *,
    cell_type: str | None = None,
    nuclei: str | int | None = None,
    cytoplasm: str | int | None = None,
    projection: str = "max",
    group: str | None = None,
    processes: int = 1,
) -> batch.Outcome:
    """Converts raw files to the study's merged images; see `merge.merge_channels`.

    Args:
      input: a file, or a folder whose sub-folders are named after cell types (or
        `mixed`), or a folder of one type with `cell_type`.
      study: folder of the study; it is made if there is none.
      cell_type: the type of all files (or `mixed`).
      nuclei: name or index of the nuclei's channel; None to find it by name.
      cytoplasm: the same for the cytoplasm's.
      projection: 'max', 'best' or 'none', for Z stacks.
      group: regular expression; what it matches in a file's path names the dish or
        slide (its first group, if it has one). Files of one group never part in the
        splits and share one contrast. Without it each file is a group of its own, and
        all files of this call share one contrast.
      processes: worker processes.

    Returns:
      The outcome by raw file.

    Raises:
      InputError: if there is nothing to convert, or it is not clear of which type.
    """
    raws, unusable = raw_files.find(pathlib.Path(input), cell_type, group)
    study = _open_or_create(study, raws)
    raws, unknown = _of_known_types(study, raws)
    _warn_of_groups_of_many_types(raws)
    options = _Options(nuclei, cytoplasm, projection)
    measured = _measure(study, raws, options, processes)
    limits = _limits_of_groups(study, raws, measured.results)
    readable = [raw for raw in raws if str(raw.path) in measured.results]
    converted = _convert_all(study, readable, options, limits, processes)
    _record(study, converted)
    failures = unusable | unknown | measured.failures | converted.failures
    return batch.Outcome(converted.done, converted.skipped, failures)


def _open_or_create(study, raws: Sequence[RawFile]) -> Study:
    if isinstance(study, Study):
        return study
    if (pathlib.Path(study) / "study.yaml").exists():
        return Study.open(study)
    found = sorted({raw.cell_type for raw in raws} - {MIXED})
    if set(found) <= set(DEFAULT_CELL_TYPES):
        found = list(DEFAULT_CELL_TYPES)
    return Study.create(study, found)


def _of_known_types(study: Study, raws) -> tuple[list[RawFile], dict[str, str]]:
    known, failures = [], {}
    for raw in raws:
        try:
            study.check_cell_type(raw.cell_type)
            known.append(raw)
        except InputError as error:
            failures[str(raw.path)] = f"{raw.path}: {error}"
    if not known:
        raise InputError(next(iter(failures.values())))
    return known, failures


def _warn_of_groups_of_many_types(raws: Sequence[RawFile]) -> None:
    types = collections.defaultdict(set)
    for raw in raws:
        types[raw.group].add(raw.cell_type)
    for group, names in sorted(types.items()):
        if len(names) > 1:
            logging.warning(
                "The group %r holds %s: they share one contrast and one split. If these "
                "are different dishes, let --group match the type's folder too.",
                group,
                ", ".join(sorted(names)),
            )


def _settings(study: Study, options: _Options) -> list:
    """What of study and options a conversion depends on."""
    rules = {key: list(rule) for key, rule in study.channel_rules.items()}
    return [dataclasses.astuple(options), rules, study.pixel_size_um]


def _measure(study, raws, options, processes) -> batch.Outcome:
    """First pass: which channels, which grey values; refuses what cannot be read."""
    folder = _histograms(study)
    jobs = []
    for raw in raws:
        # The histogram's file carries the fingerprint, so that a changed one is new.
        key = files.fingerprint(raw.path, _settings(study, options))
        output = folder / f"{key}.npz"
        jobs.append(
            batch.Job(str(raw.path), (study, raw, options, output), key, (output,))
        )
    return batch.run(
        _measure_one,
        jobs,
        description="measure contrast",
        journal=study.journal("measure"),
        processes=processes,
    )


def _histograms(study: Study) -> pathlib.Path:
    return study.root / ".journal" / "histograms"


def _measure_one(argument) -> dict:
    study, raw, options, output = argument
    counts = np.zeros((2, 1 << 16), np.int64)
    keep = True
    for micrograph in readers.read_micrographs(raw.path, projection=options.projection):
        channels = _choose(micrograph, options, study)
        counts += merge.histograms(micrograph, channels)
        keep = keep and merge.is_merged(micrograph)
    with files.atomic_path(output) as temporary:
        np.savez_compressed(temporary, counts=counts)
    return {"histogram": output.name, "keep_contrast": keep}


def _choose(micrograph: Micrograph, options: _Options, study: Study) -> tuple[int, int]:
    return merge.choose_channels(
        micrograph,
        nuclei=options.nuclei,
        cytoplasm=options.cytoplasm,
        rules=study.channel_rules,
    )


def _limits_of_groups(study, raws: Iterable[RawFile], measured) -> dict:
    """Contrast limits by the name of the contrast group; None where they are kept."""
    totals: dict[str, np.ndarray] = {}
    for raw in raws:
        result = measured.get(str(raw.path))
        if result is None or result["keep_contrast"]:
            continue
        with np.load(_histograms(study) / result["histogram"]) as file:
            key = _contrast_group(raw)
            totals[key] = totals.get(key, 0) + file["counts"]
    limits = {key: merge.contrast_limits([total]) for key, total in totals.items()}
    kept = {
        str(r.path) for r in raws if measured.get(str(r.path), {}).get("keep_contrast")
    }
    return limits | {path: None for path in kept}


def _contrast_group(raw: RawFile) -> str:
    return raw.group if raw.grouped else ""


def _convert_all(study, raws, options, limits, processes) -> batch.Outcome:
    jobs, failures = [], {}
    owners = {row.stem: row for row in study.rows()}
    taken: set[str] = set()
    for raw in raws:
        stem = _free_stem(raw, owners, taken)
        if stem is None:
            failures[str(raw.path)] = (
                f"{raw.path}: the study has another image of this name already; rename "
                "the file, or its folder."
            )
            continue
        taken.add(stem)
        chosen = None if str(raw.path) in limits else limits[_contrast_group(raw)]
        argument = _Conversion(study, raw, options, chosen, stem)
        settings = [_settings(study, options), chosen, stem, raw.group, raw.cell_type]
        key = files.fingerprint(raw.path, settings)
        first_image = study.root / "images" / f"{stem}.png"
        jobs.append(batch.Job(str(raw.path), argument, key, (first_image,)))
    outcome = batch.run(
        _convert_one,
        jobs,
        description="convert",
        journal=study.journal("convert"),
        processes=processes,
    )
    return outcome.merged(batch.Outcome(failures=failures))


def _free_stem(raw: RawFile, owners: dict[str, ImageRow], taken: set[str]):
    """TYPE/NAME; where another file has that, its folder's name comes before NAME."""
    folder = raw_files.stem_of(raw.path.parent)
    for name in (raw.stem, f"{folder}_{raw.stem}"):
        stem = f"{raw.cell_type}/{name}"
        owner = owners.get(stem)
        if stem not in taken and (owner is None or _is_of(owner, raw)):
            return stem
    return None


def _is_of(row: ImageRow, raw: RawFile) -> bool:
    """Whether a row came from this file, which may have changed, or moved."""
    same_path = pathlib.Path(row.raw_file) == raw.path
    return same_path or row.raw_sha256 == files.sha256_of_file(raw.path)


def _convert_one(job: _Conversion) -> list[dict]:
    fields = readers.read_micrographs(job.raw.path, projection=job.options.projection)
    return [dataclasses.asdict(_convert_field(job, field)) for field in fields]


def _convert_field(job: _Conversion, micrograph: Micrograph) -> ImageRow:
    channels = _choose(micrograph, job.options, job.study)
    limits = job.limits or _KEPT_LIMITS
    suffix = "".join(
        f"_{letter}{number}"
        for letter, number in (("s", micrograph.scene), ("t", micrograph.time))
        if number
    )
    names = [micrograph.channel_names[c] or str(c) for c in channels]
    clipped = [
        round(merge.clipped_share(micrograph, channel, limit), 6)
        for channel, limit in zip(channels, limits, strict=True)
    ]
    row = ImageRow(
        image=f"{job.stem}{suffix}.png",
        cell_type=job.raw.cell_type,
        group=job.raw.group,
        raw_file=str(job.raw.path),
        raw_sha256=micrograph.sha256,
        scene=micrograph.scene,
        time=micrograph.time,
        z=micrograph.z,
        nuclei_channel=names[0],
        cytoplasm_channel=names[1],
        nuclei_limits=f"{limits[0][0]:g}-{limits[0][1]:g}",
        cytoplasm_limits=f"{limits[1][0]:g}-{limits[1][1]:g}",
        nuclei_clipped=clipped[0],
        cytoplasm_clipped=clipped[1],
        pixel_size_um=micrograph.pixel_size_um or job.study.pixel_size_um,
    )
    merged = merge.merge_channels(
        micrograph, nuclei=channels[0], cytoplasm=channels[1], limits=limits
    )
    files.write_png(job.study.image_path(row), merged)
    return row


def _record(study: Study, outcome: batch.Outcome) -> None:
    """New rows replace old ones; rows of earlier runs return only where they lack.

    What later steps and people wrote into an old row stays: its cells are judged by the
    step that made them, and hand-made corrections are never lost.
    """
    present = {row.image: row for row in study.rows()}
    fresh = [ImageRow(**r) for rows in outcome.done.values() for r in rows]
    earlier = [ImageRow(**r) for rows in outcome.skipped.values() for r in rows]
    kept = [
        dataclasses.replace(
            row, **{name: getattr(present[row.image], name) for name in _LATER_COLUMNS}
        )
        if row.image in present
        else row
        for row in fresh
    ]
    study.update(kept + [row for row in earlier if row.image not in present])
