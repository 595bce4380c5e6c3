"""Imports COCO instances files into a study, with images that the study lacks."""

from __future__ import annotations

import os
import pathlib
from typing import Literal

import numpy as np

from cellclass_tf import batch, process_state
from cellclass_tf.core.cells import UNKNOWN, Cells
from cellclass_tf.core.drawn_cells import labels_of_drawn
from cellclass_tf.core.manifest import LIKENESS, ORIGIN
from cellclass_tf.core.study import MIXED, ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.coco.entries import (
    ListedImage,
    entries_of,
    json_files,
    match,
    notes_on,
    read_all,
)
from cellclass_tf.interchange.coco.new_images import Adding, types_of_new_study
from cellclass_tf.interchange.coco.reading import drawn_cells_of
from cellclass_tf.interchange.importing import (
    CellsToImport,
    ImportedCells,
    import_cells,
)
from cellclass_tf.splits import groups
from cellclass_tf.storage import lock

CROWDS = ("left_out", "cells")


@process_state.keep()
@lock.writes("study", creates=True)
def import_coco(
    study: str | os.PathLike | Study,
    source: str | os.PathLike,
    *,
    group: str | None = None,
    crowds: Literal["left_out", "cells"] = "left_out",
    overwrite_corrected: bool = False,
) -> batch.Outcome:
    """Imports the cells of COCO instances files into a study.

    An image of a file is matched with the study's image of the same bytes, of the same
    TYPE/NAME, or else of the same NAME, also after the code that Label Studio puts before
    it. If several images have that name, folders in file_name that are named after a type
    or the dish of a raw file select one, or `culture` in the file, or what the image's own
    file shows. Of a matched image, only the cells are imported. If its own file is there,
    it has to show the same as the study's image, so that augmented copies are rejected. The
    categories have to be types of the study, or `unknown`. Any other image is added to the
    study if its own file is there and its outlines are valid. An 8-bit colour image whose
    red channel is all 0 counts as a merged image; of others, the luminance becomes green,
    the cytoplasm, and there are no nuclei. The type of the image is the only type of its
    cells, or `mixed`.

    Only outlines are used: an image fails if an annotation has none. If cells overlap, the
    smaller one gets the pixel. An image without annotations has no cells; it fails if it
    has cells in the study. Other images are imported nevertheless.

    See `importing.import_cells` for the entries in the manifest; annotator_sha256 is the
    SHA-256 of the JSON file.

    Args:
      study: the study, or its folder; where there is none, it is made, with the used
        categories as types in the order of their ids. What types cannot have in their
        names (see `type_names`) becomes -.
      source: a JSON file; or a folder with some, with a folder `annotations` that holds
        some, or with folders that hold _annotations.coco.json.
      group: regular expression that finds the name of the dish or slide in the file_name
        of an added image: its last match, or what its first parentheses match. If
        not given, `group` in the file names it, as an exported file has it, or the
        photograph of which the image is a copy (`extra.name`, as Roboflow writes it), or
        each image is a group of its own. An added image of one type gets the split after
        which the folder of its JSON file is named (train, valid, test); images of one group
        in two splits are refused.
      crowds: what to do with annotations whose `iscrowd` is 1: 'left_out', since each
        stands for several cells, or 'cells', for masks that CVAT wrote.
      overwrite_corrected: also import files that were imported before and have not changed,
        and files that would remove cells from corrected fields, or change their types. The
        old cells are kept in STUDY/.trash/DATE.

    Returns:
      The outcome by image; by file_name for images that were not imported, and by path for
      JSON files that are not COCO files.

    Raises:
      InputError: if there is no valid COCO file, or if the categories cannot be types.
    """
    pattern = groups.pattern_of(group)
    found = json_files(pathlib.Path(source))
    root = found.root
    if crowds not in CROWDS:
        raise InputError(f"Unknown crowds {crowds!r}; known are {', '.join(CROWDS)}.")
    cocos, failures = read_all(found.paths, root, crowds_are_cells=crowds == "cells")
    is_new = not Study.exists(study)
    types = types_of_new_study(cocos) if is_new else ()
    study = Study.open_or_create(study, types)
    entries, nameless = entries_of(cocos, root)
    notes = notes_on(found, entries)
    rows, strangers, unclear = match(study, entries)
    added = batch.run(
        Adding(study, root, pattern),
        [batch.Job(entry.name, entry) for entry in strangers],
        description="images",
    )
    failures |= nameless | unclear | added.failures
    if is_new and not added.done:
        # An empty study is useless, and its types would apply to the next attempt.
        study.settings_path.unlink()
        return batch.Outcome(failures=failures, notes=notes)
    rows |= {name: ImageRow(**columns) for name, columns in added.done.items()}
    # The new images have no rows yet, so that whole rows are written.
    study.update((rows[name] for name in added.done), ORIGIN, LIKENESS)
    candidates = [
        CellsToImport(rows[entry.name], entry, [entry.version])
        for entry in entries
        if entry.name in rows
    ]
    outcome = import_cells(
        study,
        candidates,
        lambda row, e: _read(study, row, e),
        overwrite_corrected=overwrite_corrected,
    )
    return outcome.merge(batch.Outcome(failures=failures, notes=notes))


def _read(study: Study, row: ImageRow, entry: ListedImage) -> ImportedCells:
    drawn, categories, notes = drawn_cells_of(entry.coco, entry.image)
    types = [entry.type_named(study, category) for category in categories]
    _check_culture(row, types, entry.where)
    labels, contested = labels_of_drawn(drawn, entry.image.shape_yx)
    present = (np.flatnonzero(np.bincount(labels.ravel())[1:]) + 1).tolist()
    if contested:
        notes.append(f"{contested} px of several cells were given to the smaller cell")
    if len(present) < len(drawn):
        covered = len(drawn) - len(present)
        notes.append(f"{covered} cells are covered by smaller ones and were left out")
    if not entry.image.annotations:
        if row.cells:
            raise InputError(
                f"{entry.where}: there are no annotations, but {row.image} has "
                f"{row.cells} cells in the study, which are kept, since the annotation may "
                "be unfinished. If the image has no cells, delete its file in cells/ first."
            )
        notes.append("there are no annotations")
    types = [types[label - 1] for label in present]
    return ImportedCells(
        Cells.from_labels(labels, study.cell_types, types),
        entry.sha256,
        types_known=row.cell_type != MIXED or set(types) != {UNKNOWN},
        notes=tuple(notes),
        path=entry.where,
    )


def _check_culture(row: ImageRow, types: list[str], where: str) -> None:
    others = sorted(set(types) - {row.cell_type, UNKNOWN})
    if row.cell_type != MIXED and others:
        raise InputError(
            f"{where}: {row.image} is a pure culture of {row.cell_type}, but "
            f"{sum(t in others for t in types)} of its {len(types)} cells are "
            f"{' and '.join(others)}. Correct their categories."
        )
