"""Corrects shares for cells that the model calls wrongly, misses or invents.

How often that happens is measured on held-out fields, whose cells are known.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from cellclass_tf.analysis import shares

# Beta prior of the intraclass correlation of errors in held-out dishes.
_ICC_OF_ERRORS = (1.0, 20.0)
# Largest condition number of the rates; beyond it, calls do not tell the types apart.
_WORST_CONDITION = 50.0


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """How the true cells of V held-out fields were called, each cell counted once.

    Attributes:
      confusions: (V, K, K) number of cells by field, true type and called type.
      missed: (V, K) number of cells that were not found, by field and true type.
      invented: (V, K) number of false positives, by field and called type.
      areas: (V,) areas of the fields, in the same unit as the areas of the culture.
      units: (V,) name of the dish of each field.
    """

    confusions: np.ndarray
    missed: np.ndarray
    invented: np.ndarray
    areas: np.ndarray
    units: Sequence[str]

    def rows(self, type_index: int) -> np.ndarray:
        """Returns the cells of one type by unit and called type, missed cells last.

        Units are dishes, or fields if only one dish has cells of the type.

        Args:
          type_index: index of the true type.

        Returns:
          (U, K + 1) number of cells.
        """
        found = np.column_stack(
            [self.confusions[:, type_index], self.missed[:, type_index]]
        )
        has_cells = found.sum(axis=1) > 0
        dishes = {name for name, has in zip(self.units, has_cells, strict=True) if has}
        return shares.summed(found, self.units) if len(dishes) > 1 else found[has_cells]

    @functools.cached_property
    def rates(self) -> np.ndarray:
        """(K, K) fraction of the cells of each type (rows) that is called each type."""
        calls = self.confusions.sum(axis=0)
        cells = calls.sum(axis=1) + self.missed.sum(axis=0)
        return calls / np.maximum(cells, 1)[:, np.newaxis]

    def invented_on(self, area: float) -> np.ndarray:
        """Returns the (K,) expected number of invented cells on an area, by called type."""
        counted = self.areas.sum()
        return self.invented.sum(axis=0) * (area / counted if counted else 0.0)

    @property
    def problem(self) -> str:
        """Why these fields cannot be used for a correction, or ''."""
        found = self.rates.sum(axis=1, keepdims=True)
        if not found.all():
            return "a type has no held-out cells, so its error rates are not known"
        if np.linalg.cond(self.rates / found) > _WORST_CONDITION:
            return "the model does not tell the types of held-out cells apart"
        return ""


def correct_shares(
    estimate: shares.Estimate, held_out: HeldOut, *, area: float = 0.0, seed: int = 0
) -> shares.Estimate:
    """Corrects shares for cells that are called wrongly, missed or invented.

    The number of calls of each type is modelled as the true cells times the rates on
    held-out fields, plus the invented cells on the area; the equations are solved for the
    true cells. For two types and without missed or invented cells, this is the estimator of
    Rogan & Gladen (1978, doi:10.1093/oxfordjournals.aje.a112510); for more types it inverts
    the confusion matrix (Hay 1988, Int. J. Remote Sens. 9, 1395) and takes the nearest
    shares that are not negative. The rates are uncertain too: each draw of the shares is
    corrected with a draw from the `shares.posterior` of the rates (as in Lang & Reiczigel 2014,
    doi:10.1016/j.prevetmed.2013.09.015).

    Args:
      estimate: estimate from `shares.estimate_shares`.
      held_out: how the cells of held-out fields were called.
      area: area of all fields of the culture, in the unit of `held_out.areas`.
      seed: seed of the random draws.

    Returns:
      The corrected estimate. If no correction is possible its shares are NaN, and `reason`
      says why: a type has no held-out cells, or the types are not told apart.
    """
    reason = estimate.reason if not estimate.units else held_out.problem
    if reason:
        return dataclasses.replace(
            shares.without_draws(estimate.counts, reason), units=estimate.units
        )
    cells = estimate.counts.sum()
    rates, invented = held_out.rates, held_out.invented_on(area) / cells
    corrected = solve_shares(estimate.shares[None], rates[None], invented[None])[0]
    if not len(estimate.draws):
        return dataclasses.replace(estimate, shares=corrected)
    drawn, made_up = _drawn_rates(held_out, seed)
    made_up = made_up * area / cells
    of_units = solve_shares(estimate.draws, rates[None], invented[None])
    of_rates = solve_shares(estimate.shares[None], drawn, made_up)
    return dataclasses.replace(
        estimate,
        shares=corrected,
        draws=solve_shares(estimate.draws, drawn, made_up),
        gain=of_units.var(axis=0) / estimate.draws.var(axis=0),
        left_open=of_rates.var(axis=0),
    )


def shares_by_unit(
    counts: np.ndarray, held_out: HeldOut | None = None, areas: np.ndarray | None = None
) -> np.ndarray:
    """Returns the shares of each unit alone, corrected as in `correct_shares`.

    Args:
      counts: (U, K) number of cells called each type, by unit; no unit is empty.
      held_out: how the cells of held-out fields were called; None does not correct.
      areas: (U,) areas of the units, in the unit of `held_out.areas`; 0 if not given.

    Returns:
      (U, K) float64.
    """
    cells = counts.sum(axis=1, keepdims=True)
    if held_out is None:
        return counts / cells
    if areas is None:
        areas = np.zeros(len(counts))
    invented = np.stack([held_out.invented_on(area) for area in areas])
    return solve_shares(counts / cells, held_out.rates[None], invented / cells)


def solve_shares(
    called: np.ndarray, rates: np.ndarray, invented: np.ndarray | float = 0.0
) -> np.ndarray:
    """Solves for the true shares that would result in the given calls.

    Args:
      called: (B, K) shares of the calls.
      rates: (B, K, K) or (1, K, K), fraction of the cells of type i that is called j; a row
        sums to less than 1 if cells are missed.
      invented: (B, K) or (1, K), number of invented cells divided by the number of all
        calls, by called type.

    Returns:
      (B, K) shares; each row is at least 0, sums to 1, and is the nearest such row to the
      solution of the equations (Duchi et al. 2008, doi:10.1145/1390156.1390176).
    """
    transposed = np.swapaxes(rates, -1, -2)
    real = np.maximum(called - invented, 0)
    # If all calls may be inventions, only the calls themselves are left to go by.
    real = np.where(real.sum(axis=-1, keepdims=True) > 0, real, called)
    found = np.linalg.solve(transposed, real[..., None])[..., 0]
    total = found.sum(axis=-1, keepdims=True)
    found = found / np.where(total > 0, total, 1)
    ordered = -np.sort(-found, axis=-1)
    places = np.arange(1, found.shape[-1] + 1)
    excess = (np.cumsum(ordered, axis=-1) - 1) / places
    last = (ordered > excess).sum(axis=-1, keepdims=True) - 1
    return np.maximum(found - np.take_along_axis(excess, last, axis=-1), 0)


@functools.lru_cache(maxsize=1)
def _drawn_rates(held_out: HeldOut, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns draws of `HeldOut.rates` (B, K, K), and of cells invented per area (B, K).

    The result is cached, since it is the same for all groups of a run.
    """
    rng = np.random.default_rng([seed, 1])
    types = held_out.missed.shape[1]
    rates = [
        shares.posterior(held_out.rows(i), _ICC_OF_ERRORS, rng)[0][:, :-1]
        for i in range(types)
    ]
    return np.stack(rates, axis=1), _rates_of_inventions(held_out, rng)


def _rates_of_inventions(held_out: HeldOut, rng: np.random.Generator) -> np.ndarray:
    """Returns (B, K) draws of the number of cells invented per unit of area, by called type."""
    area, types = held_out.areas.sum(), held_out.invented.shape[1]
    if not area:
        return np.zeros((shares.DRAWS, types))
    total = held_out.invented.sum(axis=0)
    expected = np.outer(held_out.areas / area, total)
    # Overdispersion: how much more fields differ than by chance.
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.nan_to_num((held_out.invented - expected) ** 2 / expected)
    fields = np.count_nonzero(held_out.areas)
    spread = np.maximum(1, excess.sum(axis=0) / max(1, fields - 1))
    shape = np.broadcast_to((total + 0.5) / spread, (shares.DRAWS, types))
    return rng.standard_gamma(shape) * spread / area
