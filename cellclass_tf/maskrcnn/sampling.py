"""Random samples of the cells of each type, of which the number is not known before."""

from __future__ import annotations

import numpy as np

# Maximum number of cells to train a classifier on.
MOST_CELLS = 6000


class TypeSample:
    """Equally large random samples of the cells of each type.

    Every cell of a type is in the sample with the same probability (reservoir sampling;
    Vitter 1985, doi:10.1145/3147.3165).

    Args:
      types: number of types.
      most: maximum number of cells, divided equally among the types.
      rng: random numbers; used only if there are more cells.
    """

    def __init__(self, types: int, most: int, rng: np.random.Generator) -> None:
        self._room = max(1, most // types)
        self._rng = rng
        self._seen = [0] * types

    def place_for(self, kind: int) -> int | None:
        """Returns where to store the next cell of a type; None to leave it out.

        The place is that of a cell that is replaced, or the end of the cells of this type.

        Args:
          kind: the type, counted from 0.
        """
        self._seen[kind] += 1
        place = self._seen[kind] - 1
        if place >= self._room:
            place = int(self._rng.integers(self._seen[kind]))
        return place if place < self._room else None
