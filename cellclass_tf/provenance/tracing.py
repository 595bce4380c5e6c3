"""Traces a cell back to its raw file, and reports broken links."""

from __future__ import annotations

import collections
import csv
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Collection, Iterator

import numpy as np

from cellclass_tf import process_state
from cellclass_tf.core.image_names import find_image
from cellclass_tf.core.label_files import read_labels
from cellclass_tf.core.manifest import BY_HAND_PREFIX
from cellclass_tf.core.micrograph import FILE_SEPARATOR
from cellclass_tf.core.predictions import CELLS_FILE, labels_path
from cellclass_tf.core.run_record import (
    BY_NETWORK,
    RUN_FILE,
    PredictedImage,
    RunRecord,
)
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError, first_names
from cellclass_tf.provenance.links import (
    CHANGED,
    MISSING,
    NOT_RECORDED,
    RECORDED,
    SAME,
    Link,
    Trace,
    file_link,
    lines,
    sha256_if_readable,
    shorten,
)
from cellclass_tf.storage import paths

_MOST_TRIED = 200


@process_state.keep()
def trace(
    image: str | os.PathLike,
    *,
    predictions: str | os.PathLike | None = None,
    study: str | os.PathLike | None = None,
    cell: int | None = None,
    raw: str | os.PathLike | None = None,
) -> Trace:
    """Traces an image back to its raw file, and compares the files with the records.

    Args:
      image: labels/STEM.tif or overlays/STEM.png of predictions; images/TYPE/NAME.png or
        cells/TYPE/NAME.tif of a study; or a stem, with `predictions` or `study`.
      predictions: output folder of `predict`; found above the image if not given.
      study: folder of the study; if not given, found above the image, or where the
        predictions recorded it.
      cell: number of a cell in the label image.
      raw: folder in which to look for raw files that have been moved.

    Raises:
      InputError: if the image or the cell is not known, or if a record is not valid.
    """
    if raw is not None and not pathlib.Path(raw).is_dir():
        raise InputError(f"--raw={raw}: expected a folder in which to look.")
    root, name = _home(image, predictions, study)
    # Path of the study when the raw files were recorded; '' if it is not known.
    study_then = ""
    if predictions or (root / RUN_FILE).is_file():
        record = RunRecord.read(root / RUN_FILE)
        entries = {entry.stem: entry for entry in record.images}
        # Their names in the study may differ.
        stems = {entry.image.removesuffix(".png"): s for s, entry in entries.items()}
        entry = entries[
            stem := find_image(name, stems | {s: s for s in entries}, shorten(root))
        ]
        source = Study.open(study) if study else record.find_study(root)
        study_then = record.study
        rows = source.rows() if source else ()
        row = next((row for row in rows if row.image == entry.image), None)
        links = _prediction_links(root, record, entry, cell)
    else:
        source = Study.open(root)
        by_stem = {row.stem: row for row in source.rows()}
        stem = find_image(name, {s: s for s in by_stem}, shorten(root))
        row = by_stem[stem]
        entry = PredictedImage(
            stem,
            row.image,
            row.image_sha256,
            raw_file=row.raw_file,
            raw_sha256=row.raw_sha256,
        )
        links = _annotation_links(source, row, cell)
    links += [_merged_link(source, entry, row), *_conversion_links(entry, row)]
    folders = (source.root, study_then) if source else (root, "")
    links += _raw_links(entry, folders, raw)
    subject = f"{stem} in {shorten(root)}"
    return Trace(subject if cell is None else f"Cell {cell} of {subject}", tuple(links))


def _home(
    image: str | os.PathLike,
    predictions: str | os.PathLike | None,
    study: str | os.PathLike | None,
) -> tuple[pathlib.Path, str]:
    """Returns the folder with the record of an image, and the image's path in it."""
    path = pathlib.Path(os.path.abspath(image))
    above = (p for p in path.parents if (p / RUN_FILE).is_file() or Study.exists(p))
    home, name = next(above, None), pathlib.Path(image)
    if home and (path.exists() or not (predictions or study)):
        name = path.relative_to(home)
    is_study = home is None or not (home / RUN_FILE).is_file()
    root = predictions or (study if study and is_study else home)
    if root:
        return pathlib.Path(root), name.as_posix()
    raise InputError(
        f"{image}: found no run.json and no study.yaml in the folders above. Expected "
        "labels/STEM.tif or overlays/STEM.png of predictions, images/TYPE/NAME.png or "
        "cells/TYPE/NAME.tif of a study, or STEM with --predictions or --study."
    )


def _prediction_links(
    root: pathlib.Path, record: RunRecord, entry: PredictedImage, cell: int | None
) -> list[Link]:
    path, metadata = labels_path(root, entry.stem), record.model_metadata
    trained = (
        {}
        if metadata is None
        else {
            "trained by": metadata.experiment,
            "steps": metadata.train_steps,
            "on data": metadata.dataset_fingerprint,
        }
    )
    said = lines({"finished": record.finished, **record.versions})
    settings = dict(record.settings)
    if isinstance(settings.get("input"), str):
        settings["input"] = shorten(pathlib.Path(settings["input"]))
    said += lines(settings)
    model = record.places_of_model(root)
    return [
        _predicted_link(root / CELLS_FILE, entry.stem, _labels(path), cell),
        file_link("label image", [path], entry.labels_sha256),
        *_outlines_link(record, entry),
        Link("prediction run", RECORDED, (shorten(root / RUN_FILE), *said)),
        file_link("model", model, record.model_sha256, lines(trained)),
    ]


def _outlines_link(record: RunRecord, entry: PredictedImage) -> list[Link]:
    """Returns a link about the source of the outlines, if it is not the network."""
    outlines = record.outlines
    if outlines.source == BY_NETWORK:
        return []
    if entry.outlines_file:
        places = [pathlib.Path(entry.outlines_file)]
        return [file_link("outlines", places, entry.outlines_sha256)]
    said = lines({"by": outlines.source, "weights": outlines.sha256})
    return [Link("outlines", RECORDED, (*said, outlines.settings))]


def _predicted_link(
    table: pathlib.Path, stem: str, labels: np.ndarray | None, cell: int | None
) -> Link:
    """Returns a link that compares cells.csv with the label image."""
    if cell is None and not table.exists():
        return Link("cells", MISSING, (shorten(table),))
    rows = _cell_rows(table, stem)
    numbers = _numbers(labels)
    if cell is None:
        state = CHANGED if labels is None or numbers != set(rows) else SAME
        counted = f"{len(rows)} in cells.csv, {len(numbers)} in the label image"
        return Link("cells", state, (counted,))
    _check_cell(cell, rows, f"{table}, image {stem}:")
    row = collections.defaultdict(str, rows[cell])
    area = row["area_px"]
    found = int(np.count_nonzero(labels == cell)) if cell in numbers else 0
    state = CHANGED if not found or (area and float(area) != found) else SAME
    called = f"{row['cell_type']}, probability {row['probability'] or 'unknown'}"
    where = f"centre at y {row['centroid_y_px']}, x {row['centroid_x_px']}"
    sizes = f"{area or 'unknown'} px in cells.csv, {found} px in the label image"
    says = (f"{called}, score {row['score']}, {where}", sizes)
    return Link("cell", state if area or not found else NOT_RECORDED, says)


def _cell_rows(table: pathlib.Path, stem: str) -> dict[int, dict[str, str]]:
    try:
        # Line by line, since the table has the cells of all images.
        with open(table, encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["image"] == stem]
        for row in rows:
            float(row.get("area_px") or 0)
        return {int(row["cell"]): row for row in rows}
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{table}: expected the table of cells that `cellclass predict` writes; "
            f"{type(error).__name__}: {error}. Run `cellclass predict` again."
        ) from error


def _check_cell(cell: int, numbers: Collection[int], place: str) -> None:
    if cell not in numbers:
        known = f"1 to {len(numbers)}" if numbers else "none at all"
        if numbers and max(numbers) > len(numbers):
            known = f"one of {first_names(list(map(str, sorted(numbers))))}"
        raise InputError(f"{place} there is no cell {cell}; expected {known}.")


def _annotation_links(study: Study, row: ImageRow, cell: int | None) -> list[Link]:
    path = study.cells_path(row)
    links = [] if cell is None else [_annotated_link(study, row, cell)]
    if not row.annotator and not path.exists():
        return links
    labels, source = _labels(path), "its " + ("labels" if row.corrected else "weights")
    count = len(_numbers(labels))
    says = lines(
        {
            "by": row.annotator,
            f"SHA-256 of {source}": row.annotator_sha256[:12],
            "diameter in px": row.diameter_px,
            "corrected or imported": "yes" if row.corrected else "no",
        }
    )
    says += lines({"with": row.annotator_settings})
    drawn = row.by_hand.removeprefix(BY_HAND_PREFIX)
    says += lines({"drawn by hand": drawn}, before="cells ")
    cells = f"{'unknown' if row.cells is None else row.cells} cells in images.csv"
    state = RECORDED if count == row.cells else CHANGED
    if row.cells is None:
        state = NOT_RECORDED
    if labels is None:
        state = CHANGED if path.exists() else MISSING
    says = (f"{cells}, {count} in the label image", *says)
    if row.cells_sha256:
        return [*links, file_link("annotation", [path], row.cells_sha256, says)]
    return [*links, Link("annotation", state, (shorten(path), *says))]


def _annotated_link(study: Study, row: ImageRow, cell: int) -> Link:
    cells = study.read_cells(row)
    # The numbers in the file; people who delete a cell leave its number out.
    numbers = cells.numbers.tolist()
    _check_cell(cell, numbers, f"{study.cells_path(row)}:")
    index = numbers.index(cell)
    y, x = (float(place.mean()) for place in np.nonzero(cells.labels == index + 1))
    says = (
        f"{cells.cell_types[index]}, centre at y {y:.6g}, x {x:.6g}",
        f"{cells.areas_px[index]} px",
    )
    return Link("cell", RECORDED, says)


def _merged_link(
    study: Study | None, entry: PredictedImage, row: ImageRow | None
) -> Link:
    recorded = entry.sha256 or (row.image_sha256 if row else "")
    if study is None:
        lost = (
            f"{entry.image}: its study was not found; if it was moved, add --study=DIR"
        )
        return Link("merged image", MISSING, (lost,), recorded)
    path = study.image_path(row or ImageRow(image=entry.image, cell_type=""))
    return file_link("merged image", [path], recorded)


def _conversion_links(entry: PredictedImage, row: ImageRow | None) -> list[Link]:
    if row is None:
        return [
            Link("conversion", NOT_RECORDED, ("images.csv has no row of this image",))
        ]
    pairs = (entry.sha256, row.image_sha256), (entry.raw_sha256, row.raw_sha256)
    is_same = all(then == now or not (then and now) for then, now in pairs)
    channels = {"nuclei": row.nuclei_channel, "cytoplasm": row.cytoplasm_channel}
    place = {"scene": row.scene, "scene_name": row.scene_name, "time": row.time}
    limits = {"nuclei": row.nuclei_limits, "cytoplasm": row.cytoplasm_limits}
    whose = f" ({row.contrast})" if row.contrast else ""
    says = (
        *lines(place | {"planes": row.z, "read by": row.raw_reader}),
        *lines(channels | {"found by": row.channels_by}, before="channels: "),
        *lines(limits, before=f"contrast limits{whose}: "),
        *lines({"contrast group": row.contrast_group}),
        *lines({"pixel size in µm": entry.pixel_size_um or row.pixel_size_um}),
        *([] if is_same else ["images.csv and run.json record different conversions"]),
    )
    verdict = " ".join(filter(None, (row.verdict, row.reason))) or "not judged"
    return [
        Link("conversion", RECORDED if is_same else CHANGED, says),
        Link("quality", RECORDED if row.verdict else NOT_RECORDED, (verdict,)),
    ]


def _raw_links(
    entry: PredictedImage,
    folders: tuple[pathlib.Path, str],
    raw: str | os.PathLike | None,
) -> list[Link]:
    names = entry.raw_file.split(FILE_SEPARATOR)
    digests = entry.raw_sha256.split(FILE_SEPARATOR)
    if len(digests) == 1 and digests[0]:
        # The separator may be part of a single file's name.
        names = [entry.raw_file]
    pairs = itertools.zip_longest(names, digests[: len(names)], fillvalue="")
    return [_raw_link(name, digest, folders, raw) for name, digest in pairs]


def _raw_link(
    name: str,
    recorded: str,
    folders: tuple[pathlib.Path, str],
    raw: str | os.PathLike | None,
) -> Link:
    link = file_link("raw file", paths.places_of(name, *folders), recorded)
    if not link.is_broken or not recorded:
        return link
    if raw is None:
        advice = ("if it was moved, add --raw=DIR",) if link.state == MISSING else ()
        return dataclasses.replace(link, says=(*link.says, *advice))
    for path in _candidates(pathlib.Path(raw), pathlib.PurePath(name)):
        if sha256_if_readable(path) == recorded:
            says = (shorten(path), f"moved; it was {name}")
            return Link("raw file", SAME, says, recorded, recorded)
    lost = f"no such file below {raw} (at most {_MOST_TRIED} files are compared)"
    return dataclasses.replace(link, says=(*link.says, lost))


def _candidates(folder: pathlib.Path, name: pathlib.PurePath) -> Iterator[pathlib.Path]:
    """Returns possible files: those with the same name, then others of the same suffix."""
    alike = [p for p in sorted(folder.rglob("*")) if p.suffix == name.suffix]
    alike.sort(key=lambda path: path.name != name.name)
    return itertools.islice(alike, _MOST_TRIED)


def _labels(path: pathlib.Path) -> np.ndarray | None:
    try:
        return read_labels(path)
    except (InputError, OSError):
        return None


def _numbers(labels: np.ndarray | None) -> set[int]:
    return set() if labels is None else set(np.unique(labels).tolist()) - {0}
