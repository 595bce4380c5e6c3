"""Puts the proportions of a run into words, one line per type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# {type: (proportion, low, high)}; the ends are None without an interval.
Shares = Mapping[str, tuple[float, float | None, float | None]]


def best_shares(mixture: Mapping[str, Any]) -> tuple[Shares | None, str]:
    """Returns the best available estimate for all fields, and a heading that names it.

    The estimate from a spot check comes first, then the corrected one, then the counted one.

    Args:
      mixture: result of `mixture`.

    Returns:
      (proportions, heading); None instead of proportions if they are withheld.
    """
    checked, whole = mixture["spot_check"], mixture["estimates"][0]
    if checked and not checked["reason"]:
        found = {
            name: (of["share"], of["low"], of["high"])
            for name, of in checked["types"].items()
        }
        return found, "Proportions from the spot check:"
    if whole["withheld"]:
        return None, f"Proportions are withheld: {whole['withheld']}."
    if whole["corrected_reason"]:
        keys, kind = ("share", "low", "high"), "as counted"
    else:
        keys, kind = ("corrected", "corrected_low", "corrected_high"), "corrected"
    found = {
        name: tuple(of[key] for key in keys)
        for name, of in whole["types"].items()
        if of[keys[0]] is not None
    }
    many = {"dish": "dishes", "field": "fields"}[whole["unit"]]
    units = f"{whole['units']} {whole['unit'] if whole['units'] == 1 else many}"
    reason = whole["interval_reason"]
    why = f"; no interval, because {reason}" if reason else ""
    return found, f"Proportions ({kind}) of {units}{why}:"


def lines(shares: Shares) -> list[str]:
    """Returns one line per type with its proportion and 95 % interval."""
    return [
        f"  {name}: {100 * share:.1f} % "
        + (
            "(no interval)"
            if low is None or high is None
            else f"({100 * low:.1f} to {100 * high:.1f})"
        )
        for name, (share, low, high) in shares.items()
    ]
