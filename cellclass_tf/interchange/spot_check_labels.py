"""Imports the labels of a spot check as types of a study's cells, for training."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections import Counter
from collections.abc import Mapping

import numpy as np

from cellclass_tf import batch, process_state
from cellclass_tf.analysis.spot_check import labels as labelling
from cellclass_tf.analysis.spot_check import sample as sampling
from cellclass_tf.analysis.spot_check.labels import CANNOT_TELL, NOT_A_CELL
from cellclass_tf.annotation import cell_files, changes
from cellclass_tf.core.cells import UNKNOWN, Cells
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.run_record import PredictedImage
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.importing import (
    CellsToImport,
    ImportedCells,
    import_cells,
)
from cellclass_tf.storage import digests, lock, paths

# The label of each labelled cell of a field by number: a type, NOT_A_CELL, or UNKNOWN.
Said = Mapping[int, str]


@dataclasses.dataclass(frozen=True, eq=False)
class _TypedCells(ImportedCells):
    """Cells of a field with types from a spot check.

    Attributes:
      typed: numbers of the cells whose type is a label of the spot check, as
        `changes.text_of` writes them.
    """

    typed: str = ""

    @property
    def source(self) -> dict[str, str]:
        """The record of the source, by which the next import knows whose types they are."""
        return super().source | {"typed": self.typed}


@process_state.keep()
@lock.writes("study")
def import_spotcheck_types(
    study: str | os.PathLike | Study,
    predictions: str | os.PathLike | Predictions,
    *,
    share: float = 1.0,
    overwrite_corrected: bool = False,
) -> batch.Outcome:
    """Imports the labels of a spot check as types of a study's cells.

    In a field with labels, the study's cells keep their outlines. A cell without a type
    that overlaps with a labelled cell (IoU of at least 0.5) gets the label. A field without
    cells gets the predicted cells, except those labelled as no cell. Cells without a label,
    and cells on which people disagree or that they cannot tell, are of unknown type.
    Types that came from these labels follow them if labels that were corrected are imported
    again; other types of the study are kept, and a note says how many labels contradict them.
    `cellclass dataset` puts such fields into the split `untyped`, from which networks learn
    the types of the cells that have one.

    A model that was trained on these types records it (`ModelMetadata.labelled_images`). A
    spot check of its predictions on these fields would not be an unbiased estimate, so
    that `sample.draw` leaves them out. For this reason, whole fields are imported, which
    are chosen at random.

    Args:
      study: the study of the predicted images.
      predictions: predictions with imported labels of a spot check.
      share: share of the labelled cells to import, in (0, 1].
      overwrite_corrected: see `importing.import_cells`.

    Returns:
      The outcome by image; see `importing.import_cells`.

    Raises:
      InputError: if there are no labels, if the types of the study and the predictions
        differ, or if `share` is out of range.
    """
    if not 0 < share <= 1:
        raise InputError(f"Expected a share in (0, 1], such as 0.5; got {share}.")
    study = Study.open(study)
    if not isinstance(predictions, Predictions):
        predictions = Predictions(predictions)
    if study.cell_types != predictions.type_names:
        raise InputError(
            f"{study.root}: expected the types of the predictions, "
            f"{', '.join(predictions.type_names)}; it has {', '.join(study.cell_types)}."
        )
    drawn = labelling.current_sample(predictions)
    labels = labelling.read_labels(predictions, drawn)
    said = _said_by_field(drawn, labels)
    if not said:
        raise InputError(
            f"{predictions.folder}: no labels of the spot check are imported. Run `cellclass "
            "import --format=spotcheck` with the table of the page."
        )
    path = (
        predictions.folder / sampling.SPOT_CHECK_FOLDER / labelling.LABELS_FILE
    ).resolve()
    sha256 = digests.sha256_of_file(path)
    rows = {row.image: row for row in study.rows()}
    images = {entry.stem: entry for entry in predictions.record.images}
    before = [
        stem
        for stem, entry in images.items()
        if entry.image in rows and _known_of(study, rows[entry.image], path)
    ]
    candidates = []
    for stem in dict.fromkeys([*_chosen(said, share, drawn.seed), *before]):
        entry = images.get(stem)
        row = rows.get(entry.image) if entry else None
        problem = "" if row else f"{study.root} has no such image"
        if row and entry and not _is_predicted_image(study, row, entry):
            problem = f"{row.image}: the image has changed since it was predicted"
        candidates.append(CellsToImport(row, stem, [sha256, stem], stem, problem))

    def read(row: ImageRow, stem: str) -> ImportedCells | None:
        known = _known_of(study, row, path).get("typed", "")
        cells, typed, notes = _typed(
            study, row, predictions.read(stem), said.get(stem, {}), known
        )
        return _TypedCells(
            cells,
            sha256,
            typed=typed,
            types_known=True,
            notes=notes,
            path=os.fspath(path),
            state=sha256,
        )

    return import_cells(
        study, candidates, read, overwrite_corrected=overwrite_corrected
    )


def _is_predicted_image(study: Study, row: ImageRow, entry: PredictedImage) -> bool:
    """Returns whether a study's image is the predicted one, as far as is recorded."""
    return entry.sha256 in ("", digests.sha256_of_file(study.image_path(row)))


def _known_of(study: Study, row: ImageRow, path: pathlib.Path) -> Mapping[str, str]:
    """Returns the record of a field's source if that is this file of labels, or {}."""
    known = cell_files.source_of(study, row)
    return known if known.get("path") == paths.recorded_path(path) else {}


def _said_by_field(
    drawn: sampling.Sample, labels: labelling.Labels
) -> dict[str, dict[int, str]]:
    """Returns the labels of each field's cells; UNKNOWN where people disagree."""
    said: dict[str, dict[int, str]] = {}
    for windows in labels.values():
        for number, window in windows.items():
            of = said.setdefault(drawn.windows[number].image, {})
            for cell, label in window.cells.items():
                name = UNKNOWN if len(label) > 1 or CANNOT_TELL in label else label[0]
                of[cell] = name if of.get(cell, name) == name else UNKNOWN
    return {stem: of for stem, of in sorted(said.items()) if of}


def _chosen(said: Mapping[str, Said], share: float, seed: int) -> list[str]:
    """Returns random fields with about the given share of the labelled cells."""
    order = np.random.default_rng([seed, 4]).permutation(sorted(said)).tolist()
    cells = np.cumsum([len(said[stem]) for stem in order])
    return order[: 1 + int(np.abs(cells - share * cells[-1]).argmin())]


def _typed(
    study: Study, row: ImageRow, predicted: Cells, said: Said, known: str
) -> tuple[Cells, str, tuple[str, ...]]:
    """Returns the cells of a field with the labelled types, which these are, and notes.

    Args:
      study: the study.
      row: row of the field.
      predicted: the predicted cells, to whose numbers the labels refer.
      said: the labels.
      known: numbers of the study's cells that have their type from earlier labels of this
        spot check.
    """
    if not study.has_cells(row):
        stay = [n for n in range(1, len(predicted) + 1) if said.get(n) != NOT_A_CELL]
        numbers = np.zeros(len(predicted) + 1, np.int32)
        numbers[stay] = np.arange(1, len(stay) + 1)
        types = [said.get(n, UNKNOWN) for n in stay]
        cells = Cells.from_labels(
            numbers[predicted.labels], predicted.type_names, types
        )
        named = [n for n, name in enumerate(types, start=1) if name != UNKNOWN]
        return cells, changes.text_of(named), _notes(cells)
    own = study.read_cells(row)
    found = changes.compare(predicted.labels, own.labels)
    own_numbers = dict((*found.kept, *found.redrawn))
    types, kinds = list(own.cell_types), Counter[str]()
    named = []
    for number in changes.labels_of(known, len(own)):
        types[number - 1] = UNKNOWN
    for label, name in said.items():
        place = own_numbers.get(label)
        if name == NOT_A_CELL:
            kinds["invented"] += place is not None
        elif name == UNKNOWN:
            continue
        elif place is None:
            kinds["lost"] += 1
        elif types[place - 1] == UNKNOWN:
            types[place - 1] = name
            named.append(place)
        else:
            kinds["contradicting"] += types[place - 1] != name
    cells = Cells.from_labels(own.labels, own.type_names, types)
    return cells, changes.text_of(sorted(named)), _notes(cells, **kinds)


def _notes(
    cells: Cells, lost: int = 0, invented: int = 0, contradicting: int = 0
) -> tuple[str, ...]:
    known = int((cells.type_ids > 0).sum())
    notes = [f"{known} of {len(cells)} cells have a type"]
    if lost:
        notes.append(f"{lost} labelled cells match no cell of the study")
    if invented:
        notes.append(f"{invented} cells labelled {NOT_A_CELL!r} stay in the study")
    if contradicting:
        notes.append(
            f"{contradicting} labels contradict types of the study, which were kept"
        )
    if known == len(cells):
        notes.append("all cells have a type: the field is for tests, not for training")
    return tuple(notes)
