"""Cells: the instances in one field of view."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from cellclass_tf.core import label_files, notebook
from cellclass_tf.core.type_names import UNCERTAIN, UNKNOWN
from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic

# By default, a prediction is uncertain if its type has less than this probability.
UNCERTAIN_BELOW = 0.7


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """The cells of one field of view; each pixel belongs to at most one cell.

    Attributes:
      labels: (H, W) int32 label image; 0 is background, the cells are 1..N without gaps.
      type_names: names of the K cell types, in class order.
      type_ids: (N,) int32, the type of cell i + 1: 1..K, or 0 if it is unknown.
      scores: (N,) float32 in [0, 1], the detection scores; 1 for annotated cells. They
        are not calibrated probabilities.
      probabilities: (N, K) float32, the probability of each type; rows sum to 1, and
        are 0 where the type is unknown.
      features: (N, F) float32, the network's feature vector of each cell; None for cells
        that no network has classified and for cells that were read from files.
      file_numbers: (N,) int64, the numbers of the cells in the label image file that they
        were read from, where numbers may be missing; None for cells of no file.
    """

    labels: np.ndarray
    type_names: tuple[str, ...]
    type_ids: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray | None = None
    file_numbers: np.ndarray | None = None

    def __post_init__(self) -> None:
        count, types = int(self.labels.max(initial=0)), len(self.type_names)
        shapes = (self.type_ids.shape, self.scores.shape, self.probabilities.shape)
        if self.labels.ndim != 2 or shapes != ((count,), (count,), (count, types)):
            raise ValueError(
                f"Expected labels (H, W) and, for its {count} cells and {types} types, "
                f"type_ids ({count},), scores ({count},), probabilities ({count}, "
                f"{types}); got labels {self.labels.shape} and {shapes}."
            )

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: the outlines and the number of cells per type."""
        edges = np.zeros(self.labels.shape, np.uint8)
        edges[:-1][self.labels[1:] != self.labels[:-1]] = 255
        edges[:, :-1][self.labels[:, 1:] != self.labels[:, :-1]] = 255
        counts = np.bincount(self.type_ids, minlength=len(self.type_names) + 1)
        total = max(len(self), 1)
        rows = [
            (name, count, f"{100 * count / total:.1f} %")
            for name, count in zip((UNKNOWN, *self.type_names), counts, strict=True)
            if count or name != UNKNOWN
        ]
        return notebook.page([edges], [*rows, ("all cells", len(self), "")])

    @classmethod
    def from_labels(
        cls,
        labels: np.ndarray,
        type_names: Sequence[str],
        cell_types: str | Sequence[str] | None = None,
    ) -> Cells:
        """Makes annotated cells from any label image.

        Args:
          labels: (H, W) of any integer type; labels need not be contiguous.
          type_names: names of the study's types, in class order.
          cell_types: one type for all cells, or one type per label, in ascending order
            of the labels; None or 'unknown' if the type is not known.

        Raises:
          ValueError: if a type is not in `type_names`, or if the number of types is not
            the number of labels.
        """
        labels, present = _relabel(labels)
        if cell_types is None or isinstance(cell_types, str):
            cell_types = [cell_types or UNKNOWN] * len(present)
        if len(cell_types) != len(present):
            raise ValueError(
                f"Expected {len(present)} cell types, one per label; got {len(cell_types)}."
            )
        ids = _ids_of_types(cell_types, type_names)
        one_hot = np.eye(len(type_names) + 1, dtype=np.float32)[ids][:, 1:]
        scores = np.ones(len(ids), np.float32)
        return cls(labels, tuple(type_names), ids, scores, one_hot)

    def __len__(self) -> int:
        return len(self.type_ids)

    @functools.cached_property
    def numbers(self) -> np.ndarray:
        """(N,) int64, the number of each cell in its file; 1..N for cells of no file."""
        if self.file_numbers is None:
            return np.arange(1, len(self) + 1)
        return self.file_numbers

    @property
    def cell_types(self) -> tuple[str, ...]:
        """The names of the types of cells 1..N; 'unknown' if a type is not known."""
        names = (UNKNOWN, *self.type_names)
        return tuple(names[i] for i in self.type_ids)

    @property
    def called_probabilities(self) -> np.ndarray:
        """(N,) float32, the probability of each cell's type; NaN if it is unknown."""
        padded = np.pad(self.probabilities, ((0, 0), (1, 0)), constant_values=np.nan)
        return padded[np.arange(len(self)), self.type_ids]

    def calls(self, min_probability: float) -> tuple[str, ...]:
        """Returns the types of cells 1..N; 'uncertain' below a minimum probability."""
        doubtful = self.called_probabilities < min_probability
        return tuple(
            UNCERTAIN if doubt else name
            for name, doubt in zip(self.cell_types, doubtful, strict=True)
        )

    @functools.cached_property
    def boxes_yxyx(self) -> np.ndarray:
        """(N, 4) int32, the box [top, left, bottom, right) of each cell in pixels."""
        from scipy import ndimage

        slices = ndimage.find_objects(self.labels, max_label=len(self))
        boxes = [(s[0].start, s[1].start, s[0].stop, s[1].stop) for s in slices]
        return np.array(boxes, np.int32).reshape(-1, 4)

    @functools.cached_property
    def areas_px(self) -> np.ndarray:
        """(N,) int64, the number of pixels of each cell."""
        return np.bincount(self.labels.ravel(), minlength=len(self) + 1)[1:]

    @property
    def stored_labels(self) -> np.ndarray:
        """(H, W) labels as written to files: uint16, or uint32 for over 65,535 cells."""
        most = np.iinfo(np.uint16).max
        return self.labels.astype(np.uint16 if len(self) <= most else np.uint32)

    @property
    def diameters_px(self) -> np.ndarray:
        """(N,) float64, the diameter in pixels of a disc with the area of each cell."""
        return 2 * np.sqrt(self.areas_px / np.pi)

    def touch_border(self, margin_px: int = 0) -> np.ndarray:
        """Returns (N,) bool: whether each cell comes within a margin of the border."""
        top, left, bottom, right = self.boxes_yxyx.T
        height, width = (side - margin_px for side in self.labels.shape)
        first = np.minimum(top, left) <= margin_px
        return first | (bottom >= height) | (right >= width)

    def mask(self, index: int) -> np.ndarray:
        """Returns the (h, w) bool mask of cell `index` + 1 within its box."""
        top, left, bottom, right = self.boxes_yxyx[index]
        return self.labels[top:bottom, left:right] == index + 1

    def kept(self, keep: np.ndarray) -> Cells:
        """Returns the cells for which `keep`, (N,) bool, is true, numbered from 1 on."""
        numbers = np.zeros(len(self) + 1, np.int32)
        numbers[1:][keep] = np.arange(1, np.count_nonzero(keep) + 1)
        return Cells(
            numbers[self.labels],
            self.type_names,
            self.type_ids[keep],
            self.scores[keep],
            self.probabilities[keep],
            None if self.features is None else self.features[keep],
        )

    def with_types(self, type_names: Sequence[str]) -> Cells:
        """Returns the same cells with the types numbered as in `type_names`.

        Args:
          type_names: names of the types in class order, which include all own types.

        Raises:
          ValueError: if one of the own types is missing.
        """
        type_names = tuple(type_names)
        if self.type_names == type_names:
            return self
        where = [type_names.index(name) for name in self.type_names]
        probabilities = np.zeros((len(self), len(type_names)), np.float32)
        probabilities[:, where] = self.probabilities
        ids = np.array([0, *(i + 1 for i in where)], np.int32)[self.type_ids]
        return dataclasses.replace(
            self, type_names=type_names, type_ids=ids, probabilities=probabilities
        )

    def write(self, path: str | os.PathLike, *, types_csv: bool = False) -> None:
        """Writes the label image as TIFF, whole or not at all.

        The TIFF is uint16, or uint32 for more than 65,535 cells.

        Args:
          path: path of the label image, NAME.tif.
          types_csv: whether to write NAME.csv too, a table with the columns cell and
            cell_type.
        """
        path = pathlib.Path(path)
        if types_csv:
            # The table comes first, since a label image without it would be misread.
            label_files.write_types(path.with_suffix(".csv"), self.cell_types)
        atomic.write_bytes(path, self.encode())

    def encode(self) -> bytes:
        """Returns the content of the TIFF file that `write` writes."""
        import tifffile

        buffer = io.BytesIO()
        tifffile.imwrite(buffer, self.stored_labels, compression="zlib")
        return buffer.getvalue()

    @classmethod
    def read(
        cls,
        path: str | os.PathLike,
        type_names: Sequence[str],
        cell_type: str | None = None,
    ) -> Cells:
        """Reads a label image (TIFF or PNG) and its types.

        Args:
          path: path of the label image. If NAME.csv lies beside it (columns cell and
            cell_type), that table gives the type of every cell, which may be `unknown`.
          type_names: names of the study's types, in class order.
          cell_type: the type of all cells if there is no NAME.csv.

        Raises:
          InputError: if a file cannot be read, is not a label image, or names a type that
            the study does not have.
        """
        return cls.of_file(label_files.read_labels(path), path, type_names, cell_type)

    @classmethod
    def of_file(
        cls,
        labels: np.ndarray,
        path: str | os.PathLike,
        type_names: Sequence[str],
        cell_type: str | None = None,
    ) -> Cells:
        """Makes cells of labels that were read from a file; see `read`.

        Args:
          labels: (H, W) integer labels.
          path: path of the label image, beside which NAME.csv may lie.
          type_names: names of the study's types, in class order.
          cell_type: the type of all cells if there is no NAME.csv.

        Raises:
          InputError: under the same conditions as `read`.
        """
        path = pathlib.Path(path)
        table = path.with_suffix(".csv")
        try:
            types: str | list[str] | None = cell_type
            present = np.unique(labels[labels > 0]).astype(np.int64)
            if os.path.lexists(table):
                by_cell = label_files.read_types(table, present.tolist())
                types = [by_cell[cell] for cell in present.tolist()]
            cells = cls.from_labels(labels, type_names, types)
            return dataclasses.replace(cells, file_numbers=present)
        except InputError:
            raise
        except KeyError as error:
            raise InputError(
                f"{table}: expected the columns cell, cell_type; {error} is missing."
            ) from error
        except ValueError as error:
            source = table if os.path.lexists(table) else path
            raise InputError(f"{source}: {error}") from error


def _relabel(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns contiguous int32 labels and the (N,) labels they had before."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or labels.min(initial=0) < 0:
        raise ValueError(
            "Expected labels (H, W) of whole numbers from 0 on; got shape "
            f"{labels.shape} of {labels.dtype}."
        )
    if not labels.size:
        return labels.astype(np.int32), np.empty(0, np.int64)
    from skimage import segmentation

    # It does not accept read-only arrays, such as Pillow's.
    writeable = np.require(labels, requirements="W")
    contiguous, _, before = segmentation.relabel_sequential(writeable)
    present = before.out_values
    return contiguous.astype(np.int32), present[present > 0]


def _ids_of_types(cell_types: Sequence[str], type_names: Sequence[str]) -> np.ndarray:
    ids = {UNKNOWN: 0, **{name: i for i, name in enumerate(type_names, start=1)}}
    strangers = sorted(set(cell_types) - set(ids))
    if strangers:
        raise ValueError(
            f"Unknown cell type {strangers[0]!r}; the study has {', '.join(type_names)}."
        )
    return np.array([ids[name] for name in cell_types], np.int32)
