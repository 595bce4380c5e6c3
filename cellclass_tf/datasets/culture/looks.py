"""Parameters of how HEK and N2a cells look, and how dishes differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

# Qualities of a dish that can be confounded with its cell type, see `Dish.random`. They are
# applied in this order, since the lamp multiplies the light of the stain.
QUALITIES = ("stain", "illumination", "focus", "density")

# A confounded quality takes its values from these ranges, of which each type has a part of
# its own. They are the ranges of unconfounded dishes; for the stain, two standard deviations
# on each side. Unconfounded dishes all have the same strength of the lamp.
_LAMP_STRENGTH = (0.6, 1.6)
_FALLOFF = (0.05, 0.3)
_STAIN_GAIN_COUNTS = (470, 1040)
_BLUR_UM = (0.28, 0.45)
_HAZE = (0.2, 0.35)
_CELLS_PER_MM2 = (600, 1000)
# Share of a type's part that stays unused at each end, so that types do not overlap.
_GAP = 0.1


@dataclasses.dataclass(frozen=True)
class CellTypeLook:
    """How one cell type looks; the ranges of two types are meant to overlap.

    Lengths are in µm. Brightnesses are in units of `Dish.stain_gain_counts`, so 1 is a
    typical cell body or nucleus.

    Attributes:
      area_um2: median cell area.
      area_log_sd: standard deviation of log area.
      aspect_max: greatest ratio of long to short axis; drawn uniformly from 1.
      outline_roughness: relative amplitude of the outline's low harmonics.
      colony_cells: mean number of cells that settle together.
      packing: distance of neighbours' centres over the sum of their radii.
      spread: how far the outline reaches beyond the radius; > 1 fills a colony.
      cohesion: weight of the cell in bridging pockets of a colony's outline; 0 for
        cells that leave gaps, 1 for an epithelium under tension.
      brightness: median brightness of the cell body.
      brightness_log_sd: standard deviation of log brightness (either channel).
      edge_gain: brightness added at cortex and cell-cell border, in body units.
      edge_width_um: Gaussian width of that edge.
      dome: share of the body's brightness that is missing at its rim.
      granularity: relative amplitude of the cytoplasm's grain.
      puncta: mean number of bright granules a cell.
      ruffle: brightness of the grainy membrane folds along the free rim.
      spikes_per_um: spikes per µm of free rim; they stand in tufts.
      neurite_odds: probabilities of 0, 1, 2 and 3 processes.
      neurite_um: mean length of a process.
      nucleus_share: median nucleus area over cell area.
      nucleus_brightness: median brightness of the nucleus.
      nucleus_mottle: relative amplitude of the smooth mottling of chromatin.
      chromocentres: mean number of bright chromatin spots.
      chromocentre_gain: brightness of such a spot, in nucleus units.
      nucleus_shadow: share of cytoplasm brightness missing over the nucleus.
    """

    area_um2: float
    area_log_sd: float
    aspect_max: float
    outline_roughness: float
    colony_cells: float
    packing: float
    spread: float
    cohesion: float
    brightness: float
    brightness_log_sd: float
    edge_gain: float
    edge_width_um: float
    dome: float
    granularity: float
    puncta: float
    ruffle: float
    spikes_per_um: float
    neurite_odds: tuple[float, float, float, float]
    neurite_um: float
    nucleus_share: float
    nucleus_brightness: float
    nucleus_mottle: float
    chromocentres: float
    chromocentre_gain: float
    nucleus_shadow: float


HEK = CellTypeLook(
    area_um2=250,
    area_log_sd=0.35,
    aspect_max=1.7,
    outline_roughness=0.07,
    colony_cells=6,
    packing=0.82,
    spread=1.12,
    cohesion=1,
    brightness=0.72,
    brightness_log_sd=0.33,
    edge_gain=1.7,
    edge_width_um=0.4,
    dome=0.25,
    granularity=0.22,
    puncta=7,
    ruffle=0.9,
    spikes_per_um=0.5,
    neurite_odds=(0.65, 0.27, 0.08, 0),
    neurite_um=6,
    nucleus_share=0.5,
    nucleus_brightness=1,
    nucleus_mottle=0.1,
    chromocentres=0,
    chromocentre_gain=0,
    nucleus_shadow=0.12,
)
N2A = CellTypeLook(
    area_um2=270,
    area_log_sd=0.35,
    aspect_max=1.35,
    outline_roughness=0.035,
    colony_cells=2.2,
    packing=0.98,
    spread=1.03,
    cohesion=0,
    brightness=1.3,
    brightness_log_sd=0.33,
    edge_gain=0.05,
    edge_width_um=0.5,
    dome=0.55,
    granularity=0.3,
    puncta=3,
    ruffle=0,
    spikes_per_um=0.01,
    neurite_odds=(0.12, 0.38, 0.35, 0.15),
    neurite_um=18,
    nucleus_share=0.5,
    nucleus_brightness=0.7,
    nucleus_mottle=0.12,
    chromocentres=9,
    chromocentre_gain=1.9,
    nucleus_shadow=0.4,
)
LOOKS: Mapping[str, CellTypeLook] = {"HEK": HEK, "N2a": N2A}


@dataclasses.dataclass(frozen=True)
class Dish:
    """How one dish was grown and imaged, independent of its cell type.

    Pairs hold the value of the nuclei channel first, then that of the cytoplasm channel.

    Attributes:
      illumination_centre_yx: brightest point, as fractions of height and width.
      illumination_falloff: share of light lost half a field's diagonal from it.
      stain_gain_counts: camera counts of brightness 1.
      background_counts: fluorescence of medium and plastic.
      offset_counts: camera offset.
      read_noise_counts: standard deviation of the camera's read noise.
      electrons_per_count: conversion that sets the shot noise.
      blur_um: standard deviation of the Gaussian focus blur.
      haze: share of the light that out-of-focus planes spread around cells.
      cells_per_mm2: mean density.
      debris_per_mm2: mean density of out-of-focus bright spots.
    """

    illumination_centre_yx: tuple[float, float]
    illumination_falloff: float
    stain_gain_counts: tuple[float, float]
    background_counts: tuple[float, float]
    offset_counts: float
    read_noise_counts: float
    electrons_per_count: float
    blur_um: float
    haze: float
    cells_per_mm2: float
    debris_per_mm2: float

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        *,
        confounded: Collection[str] = (),
        culture: int = 0,
        cultures: int = 1,
    ) -> Dish:
        """Draws the properties of a dish.

        Args:
          rng: the only source of randomness. Qualities that are not confounded are the
            same, whichever others are confounded.
          confounded: those of QUALITIES that depend on the cell type in the dish: strength
            and evenness of the lamp (illumination), stain of both channels (stain), blur
            and haze (focus), cells per mm² (density). The range of each is divided into
            as many parts as there are cultures, with gaps between them.
          culture: index of this dish's culture, from 0.
          cultures: number of cultures.
        """
        dish = cls(
            illumination_centre_yx=tuple(rng.uniform(0.35, 0.65, 2).tolist()),
            illumination_falloff=rng.uniform(*_FALLOFF),
            stain_gain_counts=tuple((700 * rng.lognormal(0, 0.2, 2)).tolist()),
            background_counts=tuple(rng.uniform([4, 25], [15, 70]).tolist()),
            offset_counts=rng.uniform(90, 110),
            read_noise_counts=rng.uniform(1, 4),
            electrons_per_count=rng.uniform(0.8, 3),
            blur_um=rng.uniform(*_BLUR_UM),
            haze=rng.uniform(*_HAZE),
            cells_per_mm2=rng.uniform(*_CELLS_PER_MM2),
            debris_per_mm2=rng.uniform(20, 80),
        )
        if not confounded:
            return dish
        # One number is drawn for each quality, confounded or not, so that confounding one
        # does not change the others.
        for quality, within in zip(
            QUALITIES, rng.uniform(_GAP, 1 - _GAP, 4), strict=True
        ):
            if quality in confounded:
                dish = dish._confounded_by(quality, (culture + within) / cultures)
        return dish

    def _confounded_by(self, quality: str, place: float) -> Dish:
        """Returns this dish with a quality at `place`, 0 to 1, of its range."""
        changes: dict[str, Any]
        if quality == "stain":
            changes = {"stain_gain_counts": (_at(_STAIN_GAIN_COUNTS, place),) * 2}
        elif quality == "illumination":
            lamp = _at(_LAMP_STRENGTH, place)
            changes = {
                "illumination_falloff": _at(_FALLOFF, 1 - place),
                "stain_gain_counts": tuple(lamp * n for n in self.stain_gain_counts),
                "background_counts": tuple(lamp * n for n in self.background_counts),
            }
        elif quality == "focus":
            changes = {"blur_um": _at(_BLUR_UM, place), "haze": _at(_HAZE, place)}
        else:
            changes = {"cells_per_mm2": _at(_CELLS_PER_MM2, place)}
        return dataclasses.replace(self, **changes)


def _at(span: tuple[float, float], place: float) -> float:
    """Returns the value at `place`, 0 to 1, between the ends of a range."""
    return span[0] + (span[1] - span[0]) * place
