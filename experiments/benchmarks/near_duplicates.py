"""How well a field that was photographed twice is told from two different fields.

    python -m experiments.benchmarks.near_duplicates --images=MERGED.png,MORE.png

Simulated fields of 512 x 512 px of dishes of their own light and stain, merged with
their dish's contrast; every tenth is photographed again in other ways, which are applied
to the camera's counts. Printed are the bits of 256 in which hashes differ. IMAGES are
merged images whose second photographs are measured too.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

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

_DISHES = flags.DEFINE_integer("dishes", 30, "Simulated dishes, of 15 fields each.")
_IMAGES = flags.DEFINE_list("images", [], "Merged images of real fields.")
_SPARSE = flags.DEFINE_integer("sparse", 3000, "Fields with a few discs, of each row.")

# (2, H, W) camera counts with a margin, and random numbers, to counts.
Retake = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def noise(pixels, rng):
    return pixels + rng.normal(size=pixels.shape) * np.sqrt(np.maximum(pixels, 1))


def gain(factor: float) -> Retake:
    return lambda pixels, rng: (pixels - OFFSET) * factor + OFFSET


def blur(sigma_px: float) -> Retake:
    from scipy import ndimage

    return lambda pixels, rng: ndimage.gaussian_filter(pixels, (0, sigma_px, sigma_px))


def drift(distance_px: float) -> Retake:
    def drifted(pixels, rng):
        angle = rng.uniform(0, 2 * np.pi)
        shift = distance_px * np.array([np.sin(angle), np.cos(angle)])
        return np.roll(pixels, np.rint(shift).astype(int), axis=(1, 2))

    return drifted


def moved_cells(rms_px: float) -> Retake:
    """Each part goes its own way, correlated over some 40 px."""
    from scipy import ndimage

    def moved(pixels, rng):
        shape = pixels.shape[1:]
        way = ndimage.gaussian_filter(rng.normal(size=(2, *shape)), (0, 12, 12))
        way *= rms_px / np.sqrt((way**2).sum(axis=0).mean())
        places = np.indices(shape) + way
        return np.stack([ndimage.map_coordinates(p, places, order=1) for p in pixels])

    return moved


def all_together(pixels, rng):
    for retake in (drift(5), moved_cells(5), blur(2), gain(0.7), noise):
        pixels = retake(pixels, rng)
    return pixels


def retakes() -> dict[str, Retake]:
    found = {"other noise": noise}
    found |= {f"gain {factor}": gain(factor) for factor in (0.5, 0.7, 1.4, 2)}
    found |= {f"blur of {sigma} px": blur(sigma) for sigma in (2, 4)}
    found |= {f"drift of {d} px": drift(d) for d in (5, 10, 15, 20, 40)}
    found |= {f"cells moved by {d} px": moved_cells(d) for d in (3, 5, 10, 15)}
    return found | {"drift 5, moved 5, blur 2, gain 0.7, noise": all_together}


def merged(pixels: np.ndarray, limits) -> np.ndarray:
    inner = (slice(None), slice(MARGIN_PX, -MARGIN_PX), slice(MARGIN_PX, -MARGIN_PX))
    counts = np.clip(np.rint(pixels[inner]), 0, 65535).astype(np.uint16)
    micrograph = Micrograph(counts, ("nuclei", "cytoplasm"))
    return merge.merged_image(micrograph, Channels(0, 1, "benchmark"), limits)


def as_jpeg(image: np.ndarray) -> np.ndarray:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=50)
    return np.asarray(Image.open(buffer))


def limits_of(fields: np.ndarray):
    counts = [[np.bincount(c.ravel(), minlength=1 << 16) for c in f] for f in fields]
    return merge.contrast_limits([np.array(c) for c in counts])


def dishes() -> Iterator[np.ndarray]:
    """Yields the fields of a dish: (N, 2, H, W) uint16, with a margin."""
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
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)).astype(int)


def distance(one: str, other: str) -> int:
    """Bits that differ; -1 where a hash is missing."""
    return int((signs(one) != signs(other)).sum()) if one and other else -1


def distances(hashes: list[str]) -> np.ndarray:
    """(N, N) bits that differ."""
    values = np.stack([signs(text) for text in hashes]) * 2 - 1
    return (near_duplicates.BITS - values @ values.T) // 2


def report(name: str, bits: np.ndarray) -> None:
    bits, near = np.asarray(bits), np.asarray(bits)[np.asarray(bits) >= 0]
    share = ((bits >= 0) & (bits <= near_duplicates.LIMIT)).mean()
    if near.size:
        low, middle, high = np.percentile(near, (0, 50, 100))
        print(
            f"| {name} | {bits.size} | {low:.0f} | {middle:.0f} | {high:.0f} "
            f"| {near.std():.1f} | {100 * share:.1f} % |",
            flush=True,
        )


def simulated() -> None:
    hashes, dish_of, again = [], [], {}
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
    print(f"{len(hashes)} fields, {np.sum(~known)} without a hash")
    bits = distances([text for text in hashes if text])
    same = np.equal.outer(dish_of, dish_of)[np.ix_(known, known)]
    pairs = np.triu(np.ones_like(same), 1)
    report("two fields of one dish", bits[pairs & same])
    report("two fields of two dishes", bits[pairs & ~same])
    for name, found in again.items():
        report(name, found)


def real() -> None:
    from cellclass_tf.core.study import read_merged

    rng = np.random.default_rng(0)
    images = [read_merged(path) for path in _IMAGES.value]
    hashes = [near_duplicates.scene_hash(image) for image in images]
    print(f"{len(images)} real fields, {hashes.count('')} without a hash")
    known = [text for text in hashes if text]
    report("two real fields", distances(known)[np.triu_indices(len(known), 1)])
    kept = ((0.0, 255.0), (0.0, 255.0))
    for name, retake in retakes().items():
        found = []
        for image in images:
            pixels = image[..., (2, 1)].transpose(2, 0, 1).astype(float)
            first = near_duplicates.scene_hash(merged(pixels, kept))
            # These have no margin, and no counts of a camera below the grey values.
            taken = merged(retake(pixels + OFFSET, rng) - OFFSET, kept)
            found.append(distance(first, near_duplicates.scene_hash(taken)))
        report(f"real: {name}", found)


def sparse() -> None:
    """Fields with a few discs at random places, as far as they have a hash."""
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
    print("| hashes of | pairs | least | median | most | sd | within the limit |")
    print("|---|---|---|---|---|---|---|")
    sparse()
    simulated()
    if _IMAGES.value:
        real()


if __name__ == "__main__":
    app.run(main)
