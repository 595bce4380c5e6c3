"""Finds which parts of a field are also in another field, for tiles that overlap.

Microscopes record a large area as tiles that overlap by 5 to 20 %. A cell in an overlap is in
two fields, and must be counted in one. Raw files hold positions of the stage, but the
directions of its axes differ between microscopes, and positions are wrong by some pixels. So
positions only say which fields to compare: the images have to agree where they overlap.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse, spatial
from scipy.sparse import csgraph, linalg

from cellclass_tf.analysis.strips import (
    LEAST_CORRELATION,
    LEAST_SPOTS,
    Match,
    SmallImages,
    Strips,
)

# Narrower overlaps, as a share of the field's size, are not looked at.
LEAST_OVERLAP = 0.02
# The longer side of the images that are correlated has this many pixels, up to twice as many.
_COARSE_PX = 256
# Fields near a field that it is compared with, at most.
_MOST_NEAR = 24
# How much the position of the stage counts where images are too empty to be compared.
_WEIGHT_OF_STAGE = 0.01
# Points along each side of a field at which its covered area is measured.
_SAMPLES = 128

# The eight ways in which axes of the stage (x, y) can be axes of the image (y, x).
ORIENTATIONS = tuple(
    np.array(rows) * np.array(signs)[:, None]
    for rows in (((0, 1), (1, 0)), ((1, 0), (0, 1)))
    for signs in itertools.product((1, -1), repeat=2)
)


@dataclasses.dataclass(frozen=True)
class Tile:
    """A field that may overlap with others.

    Attributes:
      name: name of the field.
      image: path of its merged image.
      size_yx: height and width in pixels.
      pixel_size_um: width of a pixel in µm.
      stage_um: (x, y) of the stage in µm.
    """

    name: str
    image: pathlib.Path
    size_yx: tuple[int, int]
    pixel_size_um: float
    stage_um: tuple[float, float]


class Place(NamedTuple):
    """Where a field is among others.

    Attributes:
      part: number of the part that the field belongs to. Only the fields of one part are
        known to be placed correctly to each other.
      top_yx: place in pixels of its first pixel.
      size_yx: height and width in pixels.
    """

    part: int
    top_yx: tuple[float, float]
    size_yx: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Placement:
    """The places of fields of one dish.

    Attributes:
      places: places by name, in the order of the fields; empty if no field overlaps, or if
        the images do not agree with any orientation of the stage.
      doubts: (name, name, overlap as a share of the field's area, correlation) of the pairs
        that overlap according to the stage, and whose images do not agree.
    """

    places: Mapping[str, Place]
    doubts: Sequence[tuple[str, str, float, float]] = ()

    def as_content(self) -> dict[str, Any]:
        """Returns JSON content."""
        return {"places": dict(self.places), "doubts": list(self.doubts)}

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Placement:
        """Reads what `as_content` returned."""
        places = {
            name: Place(part, (top[0], top[1]), (size[0], size[1]))
            for name, (part, top, size) in content["places"].items()
        }
        doubts = [(a, b, share, r) for a, b, share, r in content["doubts"]]
        return cls(places, doubts)

    @functools.cached_property
    def _apart(self) -> set[frozenset[str]]:
        return {frozenset(doubt[:2]) for doubt in self.doubts}

    @functools.cached_property
    def _near(self) -> dict[str, list[str]]:
        """For each field the fields of its part that cover a part of it."""
        names, places = list(self.places), list(self.places.values())
        middles = np.array([_middle(place) for place in places]).reshape(-1, 2)
        reach = max((max(place.size_yx) for place in places), default=0)
        near: dict[str, list[str]] = {name: [] for name in names}
        pairs = spatial.KDTree(middles).query_pairs(reach, p=np.inf) if names else ()
        for i, j in sorted(pairs):
            of, other = places[i], places[j]
            shift = np.subtract(other.top_yx, of.top_yx)
            if (
                of.part == other.part
                and _is_beside(shift, of.size_yx, other.size_yx)
                and frozenset((names[i], names[j])) not in self._apart
            ):
                near[names[i]].append(names[j])
                near[names[j]].append(names[i])
        return near

    def covers(self, name: str) -> bool:
        """Returns whether other fields show a part of a field."""
        return bool(self._near.get(name))

    def repeated(self, name: str, points_yx: np.ndarray) -> np.ndarray:
        """Returns which points of a field count in another field, (N,) bool.

        Of the fields that show a point, it counts in the one whose middle is nearest, so
        that the cells that the edge of a field cuts count where they are whole. Of two
        that are equally near, it counts in the earlier one.

        Args:
          name: name of the field.
          points_yx: (N, 2) points in pixels; 0 is the middle of the first pixel.
        """
        points = np.asarray(points_yx, float).reshape(-1, 2)
        found = np.zeros(len(points), bool)
        if name not in self.places:
            return found
        order = {other: number for number, other in enumerate(self.places)}
        own = self.places[name]
        points = points + own.top_yx
        distance = np.hypot(*(points - _middle(own)).T)
        for other in self._near[name]:
            place = self.places[other]
            inside = points - place.top_yx
            is_inside = (inside >= -0.5) & (inside < np.subtract(place.size_yx, 0.5))
            theirs = np.hypot(*(points - _middle(place)).T)
            nearer = theirs < distance
            if order[other] < order[name]:
                nearer |= theirs == distance
            found |= is_inside.all(axis=1) & nearer
        return found

    def counted_share(self, name: str) -> float:
        """Returns the share of a field's area whose cells count in this field."""
        if not self.covers(name):
            return 1.0
        axes = [
            (np.arange(_SAMPLES) + 0.5) * size / _SAMPLES - 0.5
            for size in self.places[name].size_yx
        ]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        return 1.0 - float(self.repeated(name, points.reshape(-1, 2)).mean())


def _middle(place: Place) -> np.ndarray:
    return np.array(place.top_yx) + (np.array(place.size_yx) - 1) / 2


def _is_beside(
    shift_yx: np.ndarray, size_yx: Sequence[int], other_yx: Sequence[int]
) -> bool:
    """Whether fields overlap as tiles do, and do not show the same place twice.

    Fields that are less than half a field apart in both directions are another recording
    of the same place, such as a later time in a file of its own; both count.
    """
    low = np.maximum(shift_yx, 0)
    high = np.minimum(size_yx, shift_yx + other_yx)
    half = np.minimum(size_yx, other_yx) / 2
    return bool((high > low).all() and (np.abs(shift_yx) >= half).any())


def place_tiles(tiles: Sequence[Tile]) -> Placement:
    """Places fields of one dish and time by their stage positions and their content.

    The method is that of stitching (Preibisch et al. 2009, Bioinformatics 25, 1463), with
    normalized cross-correlation (Lewis 1995, Vision Interface, 120).

    Fields overlap if the distance of their positions is less than a field. For each of the
    8 orientations of the stage's axes, the overlapping strips of all pairs that lie side by
    side are correlated: the grey images, without noise and shading, at a shift of at most
    `MOST_SHIFT` of the field's size. The orientation with the largest correlation over all
    strips is used, separately for fields beside and fields below each other, if at least
    half of these strips with `LEAST_SPOTS` bright spots or more have a correlation of
    `LEAST_CORRELATION` or more; if none has as many spots, all of them together. Then the
    places are those that fit the measured shifts best (least squares).

    A pair whose own correlation is less is a doubt, and nothing of it counts as covered. A
    pair with fewer spots is placed by the stage alone, and is a doubt if its correlation is
    less than `LEAST_OF_FEW_SPOTS`.

    One image is in memory at a time, and coarse ones of up to 256 fields.

    Args:
      tiles: the fields, with one pixel size.

    Raises:
      InputError: if an image cannot be read.
    """
    pairs = _pairs(tiles)
    if not pairs:
        return Placement({})
    step = max(1, max(max(tile.size_yx) for tile in tiles) // _COARSE_PX)
    used = sorted({tile for pair in pairs for tile in pair})
    coarse = SmallImages([tile.image for tile in tiles], step, used)
    matches: list[list[Match]] = [[] for _ in ORIENTATIONS]
    for i, j in pairs:
        strips = None
        for number, shift in enumerate(_shifts(tiles, i, j)):
            if _is_neighbour(shift, tiles[i].size_yx, tiles[j].size_yx):
                strips = strips or Strips(coarse.of(i), coarse.of(j))
                found = strips.match(shift / step, coarse.brightness)
                matches[number].append(found.scaled(i, j, shift, step))
    # Of equal correlations, such as of mirrored orientations of a single row, the one
    # whose positions fit better.
    best = max(range(len(matches)), key=lambda n: _agreement(matches[n]))
    sure: list[Match] = []
    unsure: list[Match] = []
    # The sign of one axis says nothing about the other.
    for axis in (0, 1):
        along = [match for match in matches[best] if match.axis == axis]
        (sure if _is_verified(along) else unsure).extend(along)
    if not sure:
        return Placement({}, [_doubt(tiles, match) for match in matches[best]])
    unsure = [match for match in unsure if match.spots]
    unsure += [match for match in sure if match.contradicts]
    sure = [match for match in sure if not match.contradicts]
    doubts = [_doubt(tiles, match) for match in unsure]
    return Placement(_places(tiles, sure, ORIENTATIONS[best]), doubts)


def _pairs(tiles: Sequence[Tile]) -> list[tuple[int, int]]:
    """Returns the pairs that may be neighbours in some orientation, in order."""
    if len(tiles) < 2:
        return []
    places = np.array([np.divide(t.stage_um, t.pixel_size_um) for t in tiles])
    reach = max(max(tile.size_yx) for tile in tiles)
    _, near = spatial.KDTree(places).query(
        places, min(_MOST_NEAR + 1, len(tiles)), p=np.inf, distance_upper_bound=reach
    )
    # Where there is no neighbour, the index is the number of tiles.
    pairs = {
        (min(i, int(j)), max(i, int(j)))
        for i, of in enumerate(near)
        for j in of
        if i != j < len(tiles)
    }
    return sorted(
        (i, j)
        for i, j in pairs
        if any(
            _is_neighbour(shift, tiles[i].size_yx, tiles[j].size_yx)
            for shift in _shifts(tiles, i, j)
        )
    )


def _shifts(tiles: Sequence[Tile], i: int, j: int) -> Iterator[np.ndarray]:
    """Yields the shift (y, x) in pixels from tile i to j, for each orientation."""
    a, b = tiles[i], tiles[j]
    stage = np.subtract(b.stage_um, a.stage_um) / a.pixel_size_um
    for orientation in ORIENTATIONS:
        yield orientation @ stage


def _is_neighbour(
    shift_yx: np.ndarray, size_yx: Sequence[int], other_yx: Sequence[int]
) -> bool:
    """Whether fields lie side by side, not corner to corner, with enough in common."""
    smaller = np.minimum(size_yx, other_yx)
    common = np.minimum(size_yx, shift_yx + other_yx) - np.maximum(shift_yx, 0)
    return (
        _is_beside(shift_yx, size_yx, other_yx)
        and bool((common >= LEAST_OVERLAP * smaller).all())
        and bool((common >= smaller / 2).any())
    )


def _pooled(matches: Sequence[Match]) -> float:
    energies = np.array([match.energies for match in matches]).reshape(-1, 2)
    energy = float(np.sqrt(energies.sum(axis=0).prod()))
    covariance = sum(match.covariance for match in matches)
    return covariance / energy if energy > 0 else 0.0


def _agreement(matches: Sequence[Match]) -> tuple[float, float]:
    off = [np.abs(match.found_yx - match.expected_yx).sum() for match in matches]
    return round(_pooled(matches), 3), -float(np.sum(off))


def _is_verified(matches: Sequence[Match]) -> bool:
    """Whether half of the strips with enough spots agree, or else all together."""
    telling = [match for match in matches if match.spots >= LEAST_SPOTS]
    if telling:
        return 2 * sum(match.agrees for match in telling) >= len(telling)
    spots = sum(match.spots for match in matches)
    return spots >= LEAST_SPOTS and _pooled(matches) >= LEAST_CORRELATION


def _doubt(tiles: Sequence[Tile], match: Match) -> tuple[str, str, float, float]:
    i, j = match.pair
    first, second = tiles[i].size_yx, tiles[j].size_yx
    shift = match.expected_yx
    common = np.minimum(first, shift + second) - np.maximum(shift, 0)
    share = float(np.prod(common) / np.prod(first))
    return tiles[i].name, tiles[j].name, round(share, 4), round(match.correlation, 4)


def _places(
    tiles: Sequence[Tile], matches: Sequence[Match], orientation: np.ndarray
) -> dict[str, Place]:
    """Returns the places that fit the shifts of the pairs best."""
    empty = [match for match in matches if not match.agrees]
    good = [match for match in matches if match.agrees]
    known = [*good, *empty]
    weights = np.array([1.0] * len(good) + [_WEIGHT_OF_STAGE] * len(empty))
    off = np.array(
        [match.found_yx - match.expected_yx for match in good]
        + [np.zeros(2) for _ in empty]
    ).reshape(-1, 2)
    first, second = np.array([match.pair for match in known]).reshape(-1, 2).T
    rows = np.arange(len(known))
    size = len(known), len(tiles)
    differences = sparse.csr_matrix((weights, (rows, second)), size) - (
        sparse.csr_matrix((weights, (rows, first)), size)
    )
    moved = np.stack(
        [
            linalg.lsqr(differences, weights * off[:, axis], atol=1e-9, btol=1e-9)[0]
            for axis in (0, 1)
        ],
        axis=1,
    )
    graph = sparse.coo_matrix((np.ones(len(known)), (first, second)), (len(tiles),) * 2)
    _, parts = csgraph.connected_components(graph, directed=False)
    origin = np.array(tiles[0].stage_um)
    places = {}
    for number, tile in enumerate(tiles):
        stage = np.subtract(tile.stage_um, origin) / tile.pixel_size_um
        top = np.round(orientation @ stage + moved[number], 2)
        places[tile.name] = Place(
            int(parts[number]), (float(top[0]), float(top[1])), tile.size_yx
        )
    return places
