"""The proportions of a run, as one line a type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The share of each type, and the ends of its interval; None without one.
Shares = Mapping[str, tuple[float, float | None, float | None]]


def best_shares(mixture: Mapping[str, Any]) -> tuple[Shares | None, str]:
    """The best estimate of all fields that there is, and a heading that says which.

    That is the one of a spot check, or else the corrected one, or else the counted one.

    Args:
      mixture: what `mixture` gave.

    Returns:
      None instead of shares where they are withheld.
    """
    checked, whole = mixture["spot_check"], mixture["estimates"][0]
    if checked and not checked["reason"]:
        found = {
            name: (of["share"], of["low"], of["high"])
            for name, of in checked["types"].items()
        }
        return found, "Proportions by the spot check:"
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
    return found, f"Proportions {kind}, of {units}:"


def lines(shares: Shares) -> list[str]:
    """One line a type: share and 95 % interval."""
    return [
        f"  {name}: {100 * share:.1f} % "
        + (
            "(no interval)"
            if low is None or high is None
            else f"({100 * low:.1f} to {100 * high:.1f})"
        )
        for name, (share, low, high) in shares.items()
    ]
