"""Measures how well two images of one field are distinguished from two different fields.

    python -m experiments.benchmarks.near_duplicates --images=MERGED.png,MORE.png

Fields of 512 x 512 px are simulated, in dishes with different light and stain, and merged with
their dish's contrast. Every tenth field is imaged again with changes that are applied to the
camera counts. The table shows in how many of 256 bits the hashes differ. The same changes are
applied to the merged images in --images.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tqdm
from absl import app, flags

from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.microscopy import merge
from cellclass_tf.microscopy.channels import Channels
from cellclass_tf.splits import near_duplicates

SIZE_PX = 512
MARGIN_PX = 40
FIELDS_A_DISH = 15
OFFSET, TOP_COUNT = 100, 4095

_DISHES = flags.DEFINE_integer(
    "dishes", 30, "Number of simulated dishes, with 15 fields each."
)
_IMAGES = flags.DEFINE_list("images", [], "Merged images of real fields.")
_SPARSE = flags.DEFINE_integer(
    "sparse", 3000, "Number of fields with a few discs, per row."
)

# Function from (2, H, W) camera counts with a margin, and a random generator, to counts.
Retake = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def noise(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds the photon noise of a second image."""
    return pixels + rng.normal(size=pixels.shape) * np.sqrt(np.maximum(pixels, 1))


def gain(factor: float) -> Retake:
    """Multiplies the light by a factor."""
    return lambda pixels, rng: (pixels - OFFSET) * factor + OFFSET


def blur(sigma_px: float) -> Retake:
    """Blurs by a Gaussian."""
    from scipy import ndimage

    return lambda pixels, rng: ndimage.gaussian_filter(pixels, (0, sigma_px, sigma_px))


def drift(distance_px: float) -> Retake:
    """Shifts the field in a random direction."""

    def drifted(pixels, rng):
        angle = rng.uniform(0, 2 * np.pi)
        shift = distance_px * np.array([np.sin(angle), np.cos(angle)])
        return np.roll(pixels, np.rint(shift).astype(int), axis=(1, 2))

    return drifted


def moved_cells(rms_px: float) -> Retake:
    """Moves every part of the field differently, with a correlation length of some 40 px."""
    from scipy import ndimage

    def moved(pixels, rng):
        shape = pixels.shape[1:]
        way = ndimage.gaussian_filter(rng.normal(size=(2, *shape)), (0, 12, 12))
        way *= rms_px / np.sqrt((way**2).sum(axis=0).mean())
        places = np.indices(shape) + way
        return np.stack([ndimage.map_coordinates(p, places, order=1) for p in pixels])

    return moved


def all_together(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Applies several changes, one after the other."""
    for retake in (drift(5), moved_cells(5), blur(2), gain(0.7), noise):
        pixels = retake(pixels, rng)
    return pixels


def retakes() -> dict[str, Retake]:
    """Returns the changes by name."""
    found: dict[str, Retake] = {"other noise": noise}
    found |= {f"gain {factor}": gain(factor) for factor in (0.5, 0.7, 1.4, 2)}
    found |= {f"blur of {sigma} px": blur(sigma) for sigma in (2, 4)}
    found |= {f"drift of {d} px": drift(d) for d in (5, 10, 15, 20, 40)}
    found |= {f"cells moved by {d} px (rms)": moved_cells(d) for d in (3, 5, 10, 15)}
    return found | {"drift 5, moved 5, blur 2, gain 0.7, noise": all_together}


def merged(pixels: np.ndarray, limits: Any) -> np.ndarray:
    """Merges camera counts without their margin; `limits` are contrast limits."""
    inner = (slice(None), slice(MARGIN_PX, -MARGIN_PX), slice(MARGIN_PX, -MARGIN_PX))
    counts = np.clip(np.rint(pixels[inner]), 0, 65535).astype(np.uint16)
    micrograph = Micrograph(counts, ("nuclei", "cytoplasm"))
    return merge.merged_image(micrograph, Channels(0, 1, "benchmark"), limits)


def as_jpeg(image: np.ndarray) -> np.ndarray:
    """Compresses an image as JPEG of quality 50."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=50)
    return np.asarray(Image.open(buffer))


def limits_of(fields: Iterable[np.ndarray]) -> Any:
    """Returns the contrast limits of the fields of a dish."""
    counts = [[np.bincount(c.ravel(), minlength=1 << 16) for c in f] for f in fields]
    return merge.contrast_limits([np.array(c) for c in counts])


def dishes() -> Iterator[np.ndarray]:
    """Yields the fields of each dish: (N, 2, H, W) uint16, with a margin."""
    from cellclass_tf.datasets.culture import field, looks

    cultures = ({"HEK": 1.0}, {"N2a": 1.0})
    for number in tqdm.trange(_DISHES.value):
        rng = np.random.default_rng([7, number])
        dish = looks.Dish.random(rng)
        fields = [
            field.simulate_field(
                cultures[number % 2],
                size_px=SIZE_PX + 2 * MARGIN_PX,
                rng=rng,
                dish=dish,
            ).pixels
            for _ in range(FIELDS_A_DISH)
        ]
        yield np.stack(fields)


def signs(text: str) -> np.ndarray:
    """Returns the bits of a hash, 0 and 1."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)).astype(int)


def distance(one: str, other: str) -> int:
    """Returns the number of bits that differ; -1 if a hash is missing."""
    return int((signs(one) != signs(other)).sum()) if one and other else -1


def distances(hashes: list[str]) -> np.ndarray:
    """Returns the number of bits that differ for all pairs, (N, N)."""
    values = np.stack([signs(text) for text in hashes]) * 2 - 1
    return (near_duplicates.BITS - values @ values.T) // 2


def report(name: str, distances_: Sequence[int] | np.ndarray) -> None:
    """Prints a row of the table."""
    bits = np.asarray(distances_)
    near = bits[bits >= 0]
    share = ((bits >= 0) & (bits <= near_duplicates.LIMIT)).mean()
    if near.size:
        low, middle, high = np.percentile(near, (0, 50, 100))
        print(
            f"| {name} | {bits.size} | {low:.0f} | {middle:.0f} | {high:.0f} "
            f"| {near.std():.1f} | {100 * share:.1f} % |",
            flush=True,
        )


def simulated() -> None:
    """Prints the rows of simulated fields."""
    hashes, dish_of = [], []
    again: dict[str, list[int]] = {}
    rng = np.random.default_rng(0)
    for number, fields in enumerate(dishes()):
        limits = limits_of(fields)
        for place, pixels in enumerate(fields):
            image = merged(pixels, limits)
            hashes.append(near_duplicates.scene_hash(image))
            dish_of.append(number)
            if place % 10:
                continue
            for name, retake in retakes().items():
                taken = merged(retake(pixels.astype(float), rng), limits)
                again.setdefault(name, []).append(
                    distance(hashes[-1], near_duplicates.scene_hash(taken))
                )
            others = {
                "the field's own contrast": merged(pixels, limits_of([pixels])),
                "JPEG of quality 50": as_jpeg(image),
                "every second pixel": image[::2, ::2],
            }
            for name, taken in others.items():
                again.setdefault(name, []).append(
                    distance(hashes[-1], near_duplicates.scene_hash(taken))
                )
    known = np.array([bool(text) for text in hashes])
    print(f"{len(hashes)} fields, {np.sum(~known)} of them without a hash")
    bits = distances([text for text in hashes if text])
    same = np.equal.outer(dish_of, dish_of)[np.ix_(known, known)]
    pairs = np.triu(np.ones_like(same), 1)
    report("two fields of one dish", bits[pairs & same])
    report("two fields of two dishes", bits[pairs & ~same])
    for name, found in again.items():
        report(name, found)


def real() -> None:
    """Prints the rows of real fields."""
    from cellclass_tf.core.study import read_merged

    rng = np.random.default_rng(0)
    images = [read_merged(path) for path in _IMAGES.value]
    hashes = [near_duplicates.scene_hash(image) for image in images]
    print(f"{len(images)} real fields, {hashes.count('')} of them without a hash")
    known = [text for text in hashes if text]
    report("two real fields", distances(known)[np.triu_indices(len(known), 1)])
    kept = ((0.0, 255.0), (0.0, 255.0))
    for name, retake in retakes().items():
        found = []
        for image in images:
            pixels = image[..., (2, 1)].transpose(2, 0, 1).astype(float)
            first = near_duplicates.scene_hash(merged(pixels, kept))
            # Merged images have no margin and no camera offset.
            taken = merged(retake(pixels + OFFSET, rng) - OFFSET, kept)
            found.append(distance(first, near_duplicates.scene_hash(taken)))
        report(f"real: {name}", found)


def sparse() -> None:
    """Prints the rows of fields with a few discs at random places."""
    rows, columns = np.mgrid[:128, :128]
    for cells in (2, 4, 6, 8, 12):
        rng = np.random.default_rng(cells)
        hashes = []
        for _ in range(_SPARSE.value):
            image = np.full((128, 128, 3), 4, np.uint8)
            for row, column in rng.uniform(0, 128, (cells, 2)):
                far = np.hypot(rows - row, columns - column)
                image[far < 5, 1], image[far < 3, 2] = 90, 120
            hashes.append(near_duplicates.scene_hash(image))
        known = [text for text in hashes if text]
        print(f"{cells} discs: {len(known)} of {len(hashes)} have a hash")
        if len(known) > 1:
            bits = distances(known)[np.triu_indices(len(known), 1)]
            report(f"two fields of {cells} discs", bits)


def main(_) -> None:
    """Prints the table."""
    print(
        "| pair of fields, or change to a field | pairs | minimum | median | maximum | sd "
        f"| at most {near_duplicates.LIMIT} bits |"
    )
    print("|---|---|---|---|---|---|---|")
    sparse()
    simulated()
    if _IMAGES.value:
        real()


if __name__ == "__main__":
    app.run(main)
