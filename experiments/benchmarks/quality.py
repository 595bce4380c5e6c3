"""Measures how well blurred, saturated, empty and otherwise bad fields are recognised.

    python -m experiments.benchmarks.quality

The fields are simulated: HEK, N2a and both, each field from a dish of its own (light, stain,
focus, 300 to 1500 cells per mm²). Each kind of damage is applied to --fields of them. AUC is the
area under the ROC curve of the measurement behind the verdict, damaged against good fields.
*Rejected* is the fraction of fields that the verdict rejects for that reason, with each field
judged alone. No field of this run was used to choose the limits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tqdm
from absl import app, flags

from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.datasets import simulation
from cellclass_tf.datasets.culture import field, looks
from cellclass_tf.microscopy.quality import criteria, figures
from cellclass_tf.microscopy.quality.figures import Figures

SIZE_PX = 512
FIRST_SEED = 10_000
CULTURES = ({"HEK": 1.0}, {"N2a": 1.0}, {"HEK": 1.0, "N2a": 1.0})
# Largest count of the simulated camera, which has 12 bits.
TOP_COUNT = 4095

_FIELDS = flags.DEFINE_integer("fields", 60, "Number of fields per row.")

Change = Callable[[looks.Dish], looks.Dish]
Damage = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def nothing(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the pixels unchanged."""
    return pixels


def figures_of(
    first_seed: int,
    change: Change = lambda dish: dish,
    damage: Damage = nothing,
    cells: int | None = None,
) -> list[Figures]:
    """Simulates fields, damages them, and measures them."""
    found = []
    for number in tqdm.trange(_FIELDS.value, leave=False):
        rng = np.random.default_rng([FIRST_SEED, first_seed, number])
        dish = looks.Dish.random(rng)
        dish = dataclasses.replace(dish, cells_per_mm2=float(rng.uniform(300, 1500)))
        drawn = field.simulate_field(
            CULTURES[number % len(CULTURES)],
            size_px=SIZE_PX,
            rng=rng,
            dish=change(dish),
            cells=cells,
        )
        pixels = damage(drawn.pixels.astype(np.uint16), rng)
        found.append(figures.measure(Micrograph(pixels, ("n", "c")), (0, 1)))
    return found


def blurred_dish(sigma_px: float) -> Change:
    """Blurs before the camera's noise is added, as optics do."""
    sigma_um = sigma_px * simulation.PIXEL_SIZE_UM
    return lambda dish: dataclasses.replace(
        dish, blur_um=float(np.hypot(dish.blur_um, sigma_um))
    )


def blurred_picture(sigma_px: float) -> Damage:
    """Blurs the image including its noise."""
    from scipy import ndimage

    return lambda pixels, rng: ndimage.gaussian_filter(
        pixels, (0, sigma_px, sigma_px), output=np.uint16
    )


def overexposed(share: float) -> Damage:
    """Brightens until this fraction of the worse channel's pixels is saturated."""

    def damage(pixels, rng):
        levels = np.quantile(pixels, 1 - share, axis=(1, 2), keepdims=True)
        gain = TOP_COUNT / levels.max()
        return np.minimum(pixels * gain, TOP_COUNT).astype(np.uint16)

    return damage


def glowing(strength: float) -> Damage:
    """Adds a hazy spot, a sixth of the field wide, as a fraction of a nucleus's light."""

    def damage(pixels, rng):
        y, x = np.mgrid[:SIZE_PX, :SIZE_PX]
        centre = rng.uniform(0.2, 0.8, 2) * SIZE_PX
        distance = np.hypot(y - centre[0], x - centre[1])
        light = np.percentile(pixels[0], 98) - np.median(pixels[0])
        haze = strength * light * np.exp(-0.5 * (distance / (SIZE_PX / 6)) ** 2)
        return np.minimum(pixels + haze, TOP_COUNT).astype(np.uint16)

    return damage


def with_cytoplasm(make: Callable[[np.ndarray, np.random.Generator], Any]) -> Damage:
    """Replaces the cytoplasm by one that `make` computes of both channels, (2, H, W)."""

    def damage(pixels, rng):
        cytoplasm = np.clip(make(pixels, rng), 0, TOP_COUNT).astype(np.uint16)
        return np.stack([pixels[0], cytoplasm])

    return damage


def noise(level: float) -> Damage:
    """Replaces the cytoplasm by photon noise."""
    return with_cytoplasm(lambda pixels, rng: rng.poisson(level, pixels[1].shape))


def black_from(share: float) -> Damage:
    """Makes the cytoplasm black from a fraction of the height on."""

    def make(pixels, rng):
        rows = np.arange(len(pixels[1]))[:, np.newaxis]
        return pixels[1] * (rows < share * len(rows))

    return with_cytoplasm(make)


def with_bar(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws a scale bar into both channels."""
    drawn = pixels.copy()
    drawn[:, -30:-24, -100:-20] = np.iinfo(pixels.dtype).max
    return drawn


def changed(**values: Any) -> Change:
    """Changes attributes of a dish."""
    return lambda dish: dataclasses.replace(dish, **values)


def rejected_share(figures: list[Figures], reason: str) -> float:
    """Returns the fraction of fields rejected for a reason, each judged alone."""
    return float(np.mean([reason in criteria.judge([f])[0] for f in figures]))


def badness(figures: Figures, reason: str) -> float:
    """Returns the measurement behind a verdict, relative to its limit; the worst of several."""
    tests = [test for test in criteria.CRITERIA if test.reason == reason]
    return max(test.value(figures) - test.limit for test in tests)


def area_under_curve(good: list[float], bad: list[float]) -> float:
    """Returns the probability that a bad field has the larger value; ties count half."""
    of_bad, of_good = np.array(bad)[:, np.newaxis], np.array(good)
    return float(np.mean((of_bad > of_good) + 0.5 * (of_bad == of_good)))


ROWS: list[tuple[str, str, dict[str, Any]]] = [
    *[
        (f"blur {s} px, then noise", "out of focus", {"change": blurred_dish(s)})
        for s in (1, 2, 3, 4, 6, 8)
    ],
    *[
        (f"noise, then blur {s} px", "out of focus", {"damage": blurred_picture(s)})
        for s in (1, 2, 3, 4, 6, 8)
    ],
    *[
        (
            f"{share:.1%} of pixels at the top",
            "saturated",
            {"damage": overexposed(share)},
        )
        for share in (0.002, 0.005, 0.012, 0.02, 0.05)
    ],
    ("no cells", "empty", {"cells": 0}),
    (
        "no cells, debris",
        "empty",
        {"cells": 0, "change": changed(debris_per_mm2=500.0)},
    ),
    *[(f"{count} cells", "empty", {"cells": count}) for count in (1, 2, 3, 5)],
    *[
        (f"debris, {n} spots per mm²", "debris", {"change": changed(debris_per_mm2=n)})
        for n in (1000.0, 3000.0)
    ],
    *[(f"haze {s:.0%}", "glow", {"damage": glowing(s)}) for s in (0.5, 1.0, 2.0)],
    *[
        (
            f"{s:.0%} of light lost",
            "uneven light",
            {"change": changed(illumination_falloff=s)},
        )
        for s in (0.5, 0.7, 0.9)
    ],
    (
        "cytoplasm of one value",
        "no cytoplasm",
        {"damage": with_cytoplasm(lambda pixels, rng: 0 * pixels[1] + 100)},
    ),
    *[
        (f"cytoplasm of noise, {n} counts", "no cytoplasm", {"damage": noise(n)})
        for n in (10, 100, 1000)
    ],
    (
        "nuclei twice",
        "one channel twice",
        {"damage": with_cytoplasm(lambda pixels, rng: pixels[0])},
    ),
    (
        "nuclei twice, in another contrast",
        "one channel twice",
        {"damage": with_cytoplasm(lambda pixels, rng: 40 * np.sqrt(pixels[0]))},
    ),
    *[
        (f"cytoplasm black from {s:.0%} on", "cut off", {"damage": black_from(s)})
        for s in (0.5, 0.8)
    ],
    ("a scale bar of 80 x 6 px", "scale bar", {"damage": with_bar}),
]


def main(_) -> None:
    """Prints the table."""
    good = figures_of(0)
    print("| damage | reason | AUC | rejected |\n|---|---|---|---|")
    for reason in criteria.REASONS:
        print(f"| none | {reason} | | {rejected_share(good, reason):.1%} |")
    for seed, (name, reason, options) in enumerate(ROWS, start=1):
        bad = figures_of(seed, **options)
        score = area_under_curve(
            *[[badness(f, reason) for f in fs] for fs in (good, bad)]
        )
        print(
            f"| {name} | {reason} | {score:.3f} | {rejected_share(bad, reason):.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
