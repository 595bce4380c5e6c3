"""Applies an exported network to fields of any size, in tiles and several views."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from cellclass_tf.labels import tiling
from cellclass_tf.maskrcnn import postprocessing
from cellclass_tf.maskrcnn.resizing import resized
from cellclass_tf.maskrcnn.views import merge, seen_boxes, turned, upright, zoom_of

_T = TypeVar("_T")

_TILES_A_CALL = 4


class TiledNetwork:
    """Applies the signatures of an exported model, which take tiles, to whole fields.

    Args:
      serve: signature that finds cells; see `export.export`.
      name_cells: signature that classifies cells in boxes; None if the model has none.
      tile_px: width of a tile.
      model_diameter_px: diameter of a median cell in the network's input.
      types: number of cell types.
    """

    def __init__(
        self,
        serve: Callable,
        name_cells: Callable | None,
        *,
        tile_px: int,
        model_diameter_px: float,
        types: int,
    ) -> None:
        self._serve, self._name_cells = serve, name_cells
        self._size, self._types = tile_px, types
        self._margin = tiling.margin_for(model_diameter_px, tile_px)

    def detect(
        self,
        image: np.ndarray,
        *,
        scale: float,
        score_threshold: float,
        views: int = 1,
    ) -> postprocessing.Detections:
        """Finds the cells of a field, and merges the detections of its views.

        In each view, a cell is taken from the tile whose core contains its centre; the
        cores partition the field.

        Args:
          image: (H, W, 3) uint8 merged image.
          scale: network pixels per image pixel.
          score_threshold: detections with a lower score are left out.
          views: number of views; see `views.merge`.
        """
        seen = _seen(image, scale, views)
        least = min(score_threshold, postprocessing.SCORE_THRESHOLD)
        found: list[list[postprocessing.Detections]] = [[] for _ in range(views)]
        for batch in _batches(list(self._tiles(seen))):
            pixels = _stack([self._cut(seen, *place) for place in batch])
            outputs = {k: v.numpy() for k, v in self._serve(images=pixels).items()}
            for i, place in enumerate(batch):
                count = outputs["num_detections"][i]
                one = {k: v[i][:count] for k, v in outputs.items() if v[i].ndim}
                kept = postprocessing.keep_owned(one, place.tile, least)
                found[place.view].append(kept)
        shapes = [pixels.shape[:2] for pixels in seen]
        merged = merge(
            [
                upright(postprocessing.joined(tiles), view, shape, image.shape[:2])
                for view, (tiles, shape) in enumerate(zip(found, shapes, strict=True))
            ]
        )
        return postprocessing.kept(merged, merged.scores >= score_threshold)

    def types_at(
        self, image: np.ndarray, boxes_yxyx: np.ndarray, *, scale: float, views: int = 1
    ) -> dict[str, np.ndarray]:
        """Classifies the cells in given boxes; see `export.export`.

        Args:
          image: (H, W, 3) uint8 merged image.
          boxes_yxyx: (N, 4) boxes [top, left, bottom, right) in pixels of the image.
          scale: network pixels per image pixel.
          views: number of views over which the result is averaged.

        Returns:
          `scores` (N,), `probabilities` (N, K) and `features` (N, F), float32.

        Raises:
          ValueError: if the model has no signature that classifies cells in boxes.
        """
        if self._name_cells is None:
            raise ValueError("The exported model has no signature `name`.")
        seen, boxes = _seen(image, scale, views), boxes_yxyx
        named = {
            "scores": np.zeros(len(boxes), np.float32),
            "probabilities": np.zeros((len(boxes), self._types), np.float32),
        }
        owned = list(self._owned(seen, boxes, image.shape[:2]))
        for batch in _batches(owned):
            pixels = _stack([self._cut(seen, *place) for place, *_ in batch])
            most = max(len(numbers) for _, numbers, _ in batch)
            # Unused rows are boxes of a whole tile, whose results are ignored.
            whole = np.array([0, 0, self._size, self._size], np.float32)
            inside = np.tile(whole, (len(pixels), most, 1))
            for n, (_, numbers, moved) in enumerate(batch):
                # A cell that is larger than the tile is classified by its part in the tile.
                inside[n, : len(numbers)] = np.clip(moved, 0, self._size)
            found = self._name_cells(images=pixels, boxes=inside)
            for name, values in found.items():
                values = values.numpy()
                if name == "probabilities":
                    values = postprocessing.log_of(values)
                shape = (len(boxes), *values.shape[2:])
                total = named.setdefault(name, np.zeros(shape, np.float32))
                for n, (_, numbers, _) in enumerate(batch):
                    total[numbers] += values[n, : len(numbers)] / views
        named.setdefault("features", np.zeros((len(boxes), 0), np.float32))
        # The geometric mean over the views.
        named["probabilities"] = postprocessing.softmax(named["probabilities"])
        return named

    def _tiles(self, seen: Sequence[np.ndarray]) -> Iterator[_Place]:
        """Yields the tiles of all views of a field, one view after the other."""
        for view, pixels in enumerate(seen):
            height, width = pixels.shape[:2]
            for tile in tiling.tiles_of((height, width), self._size, self._margin):
                yield _Place(view, tile)

    def _owned(
        self, seen: Sequence[np.ndarray], boxes: np.ndarray, shape_yx: tuple[int, ...]
    ) -> Iterator[tuple[_Place, np.ndarray, np.ndarray]]:
        """Yields each tile that owns cells, with the cells' indices and boxes in the tile."""
        for place in self._tiles(seen):
            there = seen_boxes(boxes, place.view, shape_yx, seen[place.view].shape[:2])
            middles = (there[:, :2] + there[:, 2:]) / 2
            numbers = np.flatnonzero(place.tile.owns(middles))
            if len(numbers):
                corner = np.tile(place.tile.corner_yx, 2)
                yield place, numbers, there[numbers] - corner

    def _cut(
        self, seen: Sequence[np.ndarray], view: int, tile: tiling.Tile
    ) -> np.ndarray:
        return cut_tile(seen[view], tile.corner_yx, self._size)


class _Place(NamedTuple):
    """A tile of a view."""

    view: int
    tile: tiling.Tile


def _seen(image: np.ndarray, scale: float, count: int) -> list[np.ndarray]:
    """Returns the views of a field; views of the same zoom share memory."""
    zooms = [zoom_of(view) for view in range(count)]
    by_zoom = {zoom: resized(image, scale * zoom) for zoom in set(zooms)}
    return [turned(by_zoom[zoom], view) for view, zoom in enumerate(zooms)]


def cut_tile(pixels: np.ndarray, corner_yx: Sequence[int], side: int) -> np.ndarray:
    """Returns a (side, side, 3) square of an image, padded with black."""
    top, left = corner_yx
    piece = pixels[top : top + side, left : left + side]
    missing = [side - length for length in piece.shape[:2]]
    return np.pad(piece, [(0, missing[0]), (0, missing[1]), (0, 0)])


def _batches(tiles: list[_T]) -> Iterator[list[_T]]:
    """Divides tiles into batches of similar size; a single tile is slow, see `_stack`."""
    count = -(-len(tiles) // _TILES_A_CALL)
    for n in range(count):
        yield tiles[n * len(tiles) // count : (n + 1) * len(tiles) // count]


def _stack(pieces: list[np.ndarray]) -> np.ndarray:
    """Stacks tiles to a batch; adds a black one to a single tile, for which oneDNN is slow."""
    if len(pieces) == 1:
        pieces = [*pieces, np.zeros_like(pieces[0])]
    return np.stack(pieces)
