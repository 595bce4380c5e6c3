"""Predicts single fields, and writes their files and the tables of all fields."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf import batch, versions
from cellclass_tf.analysis import cell_table, table_files
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.predictions import (
    CELLS_FILE,
    COUNTS_FILE,
    labels_path,
    overlay_path,
    unlike_path,
)
from cellclass_tf.core.study import read_merged
from cellclass_tf.drawing import overlay
from cellclass_tf.maskrcnn.predictor import Predictor
from cellclass_tf.microscopy import contrast
from cellclass_tf.storage import digests, ledger, png
from cellclass_tf.workflows import tile_overlaps, unlike_cells
from cellclass_tf.workflows.chosen_fields import ChosenField
from cellclass_tf.workflows.outlining import Outlining


@dataclasses.dataclass(frozen=True)
class FieldPrediction:
    """Predicts fields one by one, and writes the files of each field.

    Attributes:
      predictor: the model.
      outlining: what outlines the cells.
      output: folder of the results.
      min_probability: calls of a lower probability are uncertain.
      before: {stem: SHA-256 of the label image} of fields that an earlier run predicted.
    """

    predictor: Predictor
    outlining: Outlining
    output: pathlib.Path
    min_probability: float
    before: Mapping[str, str]

    def job(self, field: ChosenField) -> batch.Job:
        """Returns the job that predicts a field; it runs again if its key has changed."""
        key = digests.fingerprint(
            versions.PREDICTION,
            field.image,
            field.pixel_size_um,
            field.row.group,
            field.row.place,
            field.row.time,
            contrast.limits_by_channel(field.row),
            self.predictor.fingerprint,
            self.outlining.score_threshold,
            self.min_probability,
            *self.outlining.version(field),
        )
        outputs = self._files(field.stem)
        return batch.Job(field.stem, field, key, outputs)

    def __call__(self, field: ChosenField) -> dict[str, Any]:
        """Predicts a field and writes its files.

        Returns:
          `counts`, the row of counts.csv; and `image`, see `image_entry`.

        Raises:
          InputError: if the image or its outlines cannot be used, or if a person changed
            the label image of an earlier run.
        """
        labels, picture_path, table = self._files(field.stem)
        own = (self.before.get(field.stem, ""),)
        # Checked before the network runs, and again when the file is replaced.
        ledger.check_own(self.output, labels, own=own)
        image, size_um = read_merged(field.image), field.pixel_size_um
        cells, outlined = self.outlining.find(self.predictor, field, image)
        row = field.row
        shown: dict[str, Any] = {
            "name": field.stem,
            "min_probability": self.min_probability,
        }
        place: dict[str, Any] = {
            "group": row.group,
            "scene": row.place,
            "time": row.time,
        }
        rows = cell_table.cell_table(
            cells,
            image,
            pixel_size_um=size_um,
            limits=contrast.limits_by_channel(row),
            **shown,
            **place,
        )
        content = cells.encode()
        with ledger.replace(self.output, labels, own=own) as temporary:
            temporary.write_bytes(content)
        table_files.write_cells_csv(table, [rows], cells.type_names)
        picture = overlay.draw_overlay(image, cells, pixel_size_um=size_um, **shown)
        ledger.write_picture(self.output, picture_path, png.encode_png(picture))
        # Computed now, so that files that are changed later are recognized.
        sha256 = {
            "sha256": digests.sha256_of_file(field.image),
            "labels_sha256": hashlib.sha256(content).hexdigest(),
            **outlined,
        }
        counts = cell_table.count_row(cells, **shown, **place)
        return {"counts": counts, "image": sha256 | self._compare(field, image, cells)}

    def _compare(
        self, field: ChosenField, image: np.ndarray, cells: Cells
    ) -> dict[str, Any]:
        """Compares a field with the training fields, and draws its most unusual cells."""
        predictor, size_um = self.predictor, field.pixel_size_um
        found = predictor.judge(image, cells, pixel_size_um=size_um)
        path = unlike_path(self.output, field.stem)
        known = predictor.familiarity
        if found is None or known is None or not (found.reasons and len(cells)):
            path.unlink(missing_ok=True)
        else:
            scale = predictor.scale_for(size_um)
            shown = unlike_cells.draw(
                image, cells, found.distances, known, scale, field.stem
            )
            ledger.write_picture(self.output, path, png.encode_png(shown))
        if found is None:
            return {}
        return {"compared": True, "unlike": list(found.reasons)}

    def write_tables(
        self,
        fields: Sequence[ChosenField],
        results: Mapping[str, Any],
        conditions: Mapping[str, str],
        overlaps: tile_overlaps.Overlaps,
    ) -> int:
        """Writes the tables of all fields from the tables of each field.

        Returns:
          The number of cells that count in another field.
        """
        cells_csv = self.output / CELLS_FILE
        parts = {field.stem: self._files(field.stem)[2] for field in fields}
        cells = {stem: overlaps.repeated(stem, part) for stem, part in parts.items()}
        repeated = {
            stem: {int(row["cell"]) for row in of} for stem, of in cells.items()
        }
        with ledger.replace(self.output, cells_csv, overwrite=True) as temporary:
            table_files.join_csv(temporary, parts.values(), conditions, repeated)
        parquet = self.output / table_files.PARQUET_FILE
        with ledger.replace(self.output, parquet, overwrite=True) as temporary:
            table_files.write_parquet(temporary, cells_csv)
        # If a run of an earlier version is continued, some counts are missing.
        names = self.predictor.type_names
        nothing = {
            **dict.fromkeys(cell_table.count_columns(names)),
            cell_table.REPEATED: 0,
        }
        counts = [
            overlaps.counts(stem, nothing | results[stem]["counts"], of, names)
            for stem, of in cells.items()
        ]
        counts_csv = self.output / COUNTS_FILE
        with ledger.replace(self.output, counts_csv, overwrite=True) as temporary:
            table_files.write_counts_csv(temporary, counts, names)
        return sum(map(len, cells.values()))

    def forget(self, stem: str) -> None:
        """Removes what an earlier run wrote for a field, except what a person changed."""
        labels, picture, table = self._files(stem)
        if ledger.is_own(self.output, labels, (self.before.get(stem, ""),)):
            labels.unlink()
            picture.unlink(missing_ok=True)
        unlike_path(self.output, stem).unlink(missing_ok=True)
        table.unlink(missing_ok=True)

    def _files(self, stem: str) -> tuple[pathlib.Path, pathlib.Path, pathlib.Path]:
        """Returns the paths of a field's label image, overlay, and part of cells.csv."""
        table = self.output / ".parts" / f"{stem}.csv"
        return labels_path(self.output, stem), overlay_path(self.output, stem), table


def image_entry(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a field's entry for run.json from the result of its job.

    It has the hashes of the image and its label image, how the field compares with the
    training fields, and for outlines from files their path and hash. Earlier versions
    recorded only the hashes.
    """
    return result.get("image") or result.get("sha256", {})
