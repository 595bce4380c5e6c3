"""Draws cell types and dishes from wide ranges, to train on a variety of appearances."""

import numpy as np

from cellclass_tf.datasets.culture.looks import CellTypeLook, Dish


def random_look(rng: np.random.Generator) -> CellTypeLook:
    """Draws the look of an imaginary cell type.

    Types are round or elongated, small or large, smooth or spiky, flat or domed, alone or
    in colonies; their nuclei are small or large, dim or bright, with or without
    chromocentres. Few features depend on each other, so most types resemble no real one.

    Args:
      rng: the only source of randomness.
    """
    in_colonies = rng.random() < 0.5
    is_spiky = rng.random() < 0.3
    has_processes = rng.random() < 0.6
    has_cortex = rng.random() < 0.5
    has_chromocentres = rng.random() < 0.5
    # Longer cells would extend beyond the square in which `placement` draws outlines.
    aspect_max = rng.uniform(1.05, 1.4) if rng.random() < 0.4 else rng.uniform(1.4, 2.6)
    return CellTypeLook(
        area_um2=_log_uniform(110, 600, rng),
        area_log_sd=rng.uniform(0.15, 0.45),
        aspect_max=aspect_max,
        outline_roughness=rng.uniform(0.01, 0.13),
        colony_cells=_log_uniform(2.5, 15, rng) if in_colonies else 1.2,
        packing=rng.uniform(0.8, 1.05),
        spread=rng.uniform(1, 1.13),
        cohesion=rng.uniform(0, 1) if in_colonies else 0.0,
        brightness=_log_uniform(0.35, 1.4, rng),
        brightness_log_sd=rng.uniform(0.1, 0.45),
        edge_gain=rng.uniform(0.3, 2) if has_cortex else rng.uniform(0, 0.2),
        edge_width_um=rng.uniform(0.3, 0.9),
        dome=rng.uniform(0, 0.8),
        granularity=rng.uniform(0.05, 0.45),
        puncta=rng.exponential(6),
        ruffle=rng.uniform(0.2, 1.2) if is_spiky else 0.0,
        spikes_per_um=rng.uniform(0.1, 1) if is_spiky else 0.01,
        neurite_odds=_neurite_odds(has_processes, rng),
        neurite_um=_log_uniform(4, 30, rng),
        nucleus_share=rng.uniform(0.15, 0.6),
        nucleus_brightness=_log_uniform(0.3, 1.5, rng),
        nucleus_mottle=rng.uniform(0.03, 0.3),
        chromocentres=rng.uniform(3, 14) if has_chromocentres else 0.0,
        chromocentre_gain=rng.uniform(0.5, 2.2) if has_chromocentres else 0.0,
        nucleus_shadow=rng.uniform(0, 0.8),
    )


def random_dish(rng: np.random.Generator, area_um2: float) -> Dish:
    """Draws growth and imaging conditions that differ far more than those of `Dish.random`.

    The cells cover 15 to 75 % of the field if all of them find room. In one dish of four
    one channel is dim.

    Args:
      rng: the only source of randomness.
      area_um2: median area of the cells that grow in the dish.
    """
    gain_counts = np.clip(700 * rng.lognormal(0, 0.5, 2), 200, 2200)
    if rng.random() < 0.25:
        gain_counts[rng.integers(2)] *= rng.uniform(0.1, 0.4)
    return Dish(
        illumination_centre_yx=tuple(rng.uniform(0.2, 0.8, 2).tolist()),
        illumination_falloff=rng.uniform(0, 0.45),
        stain_gain_counts=tuple(gain_counts.tolist()),
        background_counts=tuple(rng.uniform([4, 10], [60, 150]).tolist()),
        offset_counts=rng.uniform(90, 110),
        read_noise_counts=rng.uniform(1, 10),
        electrons_per_count=_log_uniform(0.15, 3, rng),
        blur_um=_log_uniform(0.2, 1, rng),
        haze=rng.uniform(0.05, 0.55),
        cells_per_mm2=rng.uniform(0.15, 0.75) / area_um2 * 1e6,
        debris_per_mm2=_log_uniform(5, 150, rng),
    )


def _neurite_odds(
    has_processes: bool, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    if not has_processes:
        return (1.0, 0.0, 0.0, 0.0)
    return tuple(rng.dirichlet([1, 1, 0.7, 0.4]).tolist())


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    """Draws a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
