"""Finds cells by a watershed from the nuclei, without weights or downloads."""

from __future__ import annotations

import importlib.metadata

import numpy as np

from cellclass_tf import versions
from cellclass_tf.annotation.annotators.protocol import Outlines, check_diameter
from cellclass_tf.core.study import check_merged
from cellclass_tf.errors import InputError
from cellclass_tf.labels import components, noise, sizes
from cellclass_tf.storage import digests

_DEFAULT_DIAMETER_PX = 30.0
# Diameter of a cell over that of its nucleus: the median of hand-drawn cells.
_CELL_TO_NUCLEUS = 1.4
# Width in pixels of the Gaussian that reduces noise before the scale is known.
_FIRST_SIGMA_PX = 2.0
# Added before taking logarithms, which would amplify the noise of dark pixels.
_DARK = 8.0


class WatershedAnnotator:
    """Finds nuclei, splits them where they touch, and grows cells from them.

    Seeded watershed after Beucher and Meyer, "The morphological approach to
    segmentation" (1993); nuclei are split as in Malpica et al., Cytometry 28 (1997),
    by distance transform, here together with blob contrast and bright cell borders. All
    scales follow the cell diameter.

    Attributes:
      name: 'watershed'.
      weights_sha256: '', since there are no weights.
      fingerprint: hash of the parameters and versions that the labels depend on.
      size_fingerprint: hash of everything that an estimate of the diameter depends on.
      settings: the parameters and versions in words.
    """

    name = "watershed"
    weights_sha256 = ""

    def __init__(
        self,
        diameter_px: float | None = None,
        *,
        split_depth: float = 0.1,
        mask_level: float = 0.5,
        min_area: float = 0.1,
    ) -> None:
        """Sets the parameters.

        Args:
          diameter_px: diameter of a typical cell; None to estimate it from the nuclei of
            each image.
          split_depth: depth of the saddle between two maxima of the seed map above which
            they are two nuclei; a lower value splits more.
          mask_level: pixels above this share of Li's threshold belong to cells; a lower
            value gives larger cells.
          min_area: area of the smallest cell, as a share of the disc of the diameter.

        Raises:
          InputError: if a number is out of range.
        """
        check_diameter(diameter_px)
        if min(split_depth, mask_level, min_area) < 0:
            raise InputError(
                "Expected split_depth, mask_level and min_area from 0 on; got "
                f"{split_depth}, {mask_level} and {min_area}."
            )
        self._diameter_px = diameter_px
        self._split_depth = split_depth
        self._mask_level = mask_level
        self._min_area = min_area
        libraries = [importlib.metadata.version(n) for n in ("scikit-image", "scipy")]
        self.size_fingerprint = digests.fingerprint(
            self.name, versions.WATERSHED, libraries
        )
        parameters = [diameter_px, split_depth, mask_level, min_area]
        self.fingerprint = digests.fingerprint(
            self.name, versions.WATERSHED, parameters, libraries
        )
        self.settings = (
            f"scikit-image {libraries[0]}, split_depth {split_depth}, mask_level "
            f"{mask_level}, min_area {min_area}"
        )

    def estimate_diameter_px(self, image: np.ndarray) -> float:
        """Estimates the diameter of a typical cell from the nuclei of a merged image.

        Raises:
          InputError: if the image is not a merged image.
        """
        check_merged(image)
        return estimate_diameter_px(image[..., 2].astype(np.float32))

    def encoder_weights(self) -> None:
        """Returns None: a watershed has no network."""

    def annotate(self, image: np.ndarray, diameter_px: float | None = None) -> Outlines:
        """Finds the cells in a merged image.

        Args:
          image: (H, W, 3) uint8; green is cytoplasm and blue nuclei.
          diameter_px: diameter of a typical cell; None for that of the annotator, or an
            estimate.

        Returns:
          The labels and the cell diameter that was used. A watershed has no
          probabilities.

        Raises:
          InputError: if the image is not a merged image.
        """
        check_merged(image)
        diameter = float(
            diameter_px or self._diameter_px or self.estimate_diameter_px(image)
        )
        nuclei, cytoplasm = (image[..., c].astype(np.float32) for c in (2, 1))
        if not _has_nuclei(nuclei):
            return Outlines(np.zeros(nuclei.shape, np.int32), diameter)
        nuclei = _smooth(nuclei, diameter / 30)
        mask = _nuclei_mask(nuclei, 0.6 * diameter, max(1, round(diameter / 25)))
        seed_map = _seed_map(nuclei, cytoplasm, mask, diameter)
        seeds = _deep_maxima(seed_map, mask, self._split_depth)
        nuclei_labels = _flood(-seed_map, seeds, mask)
        del seed_map, seeds
        mask |= _cell_mask(nuclei, cytoplasm, diameter, self._mask_level)
        labels = _flood(
            _landscape(nuclei_labels, cytoplasm, diameter),
            nuclei_labels,
            _tidy(mask, diameter),
        )
        smallest = self._min_area * sizes.disc_area(diameter)
        return Outlines(_without_small(labels, smallest), diameter)


def estimate_diameter_px(nuclei: np.ndarray) -> float:
    """Estimates the diameter of a typical cell from its nuclei.

    The radius of a nucleus is its largest distance to the background; touching nuclei
    count one by one. If all nuclei of an image are in one dense clump, the clump counts as
    one nucleus; give the diameter for such images.

    Args:
      nuclei: (H, W) float32, grey levels from 0 to 255.

    Returns:
      The diameter in pixels; 30 if no nucleus is found.
    """
    if not _has_nuclei(nuclei):
        return _DEFAULT_DIAMETER_PX
    smooth = _smooth(nuclei, _FIRST_SIGMA_PX)
    # The size of a nucleus's neighbourhood is only known from the second round on; in the
    # first, a higher threshold separates clumps. In the third, most clumps are separated.
    mask, nucleus = _nuclei_mask(smooth, None, 2, level=0.8), None
    for _ in range(3):
        radii = _nucleus_radii_px(mask)
        if radii.size == 0:
            break
        nucleus = 2 * float(np.median(radii))
        mask = _nuclei_mask(smooth, 0.4 * _CELL_TO_NUCLEUS * nucleus, 2)
    return _CELL_TO_NUCLEUS * nucleus if nucleus else _DEFAULT_DIAMETER_PX


def _nucleus_radii_px(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage
    from skimage import feature

    distance = _distance(ndimage.binary_fill_holes(mask))
    peaks = feature.peak_local_max(
        _smooth(distance, 1.5), min_distance=6, threshold_abs=4, exclude_border=False
    )
    return distance[tuple(peaks.T)]


def _has_nuclei(nuclei: np.ndarray) -> bool:
    """Whether anything in the channel is brighter than its noise."""
    from skimage import filters

    smooth = _smooth(nuclei, _FIRST_SIGMA_PX)
    above = smooth > filters.threshold_otsu(smooth)
    if not above.any():
        return False
    contrast = smooth[above].mean() - smooth[~above].mean()
    # A Gaussian leaves this share of white noise.
    share = 1 / (2 * np.pi**0.5 * _FIRST_SIGMA_PX)
    return noise.stands_out(contrast, share * noise.noise_sd(nuclei))


def _nuclei_mask(
    smooth: np.ndarray, window_px: float | None, opening: int, level: float = 0.5
) -> np.ndarray:
    """Returns the pixels above a share of Otsu's threshold and above their surroundings."""
    from scipy import ndimage
    from skimage import filters

    mask = smooth > level * filters.threshold_otsu(smooth)
    if window_px is not None:
        mask &= smooth > _smooth(smooth, window_px)
    return ndimage.binary_opening(mask, iterations=opening)


def _seed_map(
    nuclei: np.ndarray, cytoplasm: np.ndarray, mask: np.ndarray, diameter: float
) -> np.ndarray:
    """Returns (H, W) float32, high in the middle of nuclei and low between them.

    It is the sum of the distance to the background and the contrast to the surroundings
    (on a logarithmic scale, which treats dim and bright nuclei alike), minus bright lines
    of the cytoplasm, which are borders of cells.
    """
    log = np.log(nuclei + _DARK)
    seed_map = _smooth(log, 0.15 * diameter) - _smooth(log, 0.25 * diameter)
    del log
    seed_map += _smooth(_distance(mask), diameter / 20) / diameter
    lines = _smooth(cytoplasm, diameter / 40) - _smooth(cytoplasm, diameter / 8)
    lines = np.maximum(lines, 0) / (_smooth(cytoplasm, diameter / 4) + 5)
    seed_map -= _smooth(lines, diameter / 25)
    seed_map[~mask] = seed_map.min()
    return seed_map


def _deep_maxima(values: np.ndarray, mask: np.ndarray, depth: float) -> np.ndarray:
    """Labels the maxima that rise more than `depth` above their saddles.

    Clumps of nuclei are processed one by one, since reconstruction needs about ten times
    the memory of its image. Each clump has at least one maximum, and so a seed.
    """
    from scipy import ndimage
    from skimage import measure, morphology

    maxima = np.zeros(mask.shape, bool)
    clumps, _ = ndimage.label(mask)
    floor = values.min() - depth - 1
    for number, box in enumerate(ndimage.find_objects(clumps), start=1):
        inside = np.pad(clumps[box] == number, 1)
        surface = np.where(inside, np.pad(values[box], 1), floor)
        lowered = np.where(inside, surface - depth, floor)
        filled = morphology.reconstruction(lowered, surface)
        found = morphology.local_maxima(filled) & inside
        maxima[box] |= found[1:-1, 1:-1]
    return measure.label(maxima).astype(np.int32)


def _cell_mask(
    nuclei: np.ndarray, cytoplasm: np.ndarray, diameter: float, level: float
) -> np.ndarray:
    from skimage import filters

    light = _smooth(cytoplasm + nuclei, diameter / 30)
    return light > level * filters.threshold_li(light)


def _tidy(mask: np.ndarray, diameter: float) -> np.ndarray:
    """Removes spikes thinner than a tenth of a cell, and fills small holes."""
    from scipy import ndimage
    from skimage import morphology

    disk = morphology.disk(max(1, round(diameter / 20)))
    mask = ndimage.binary_opening(mask, disk)
    holes, _ = ndimage.label(~mask)
    small = np.bincount(holes.ravel()) <= diameter**2 / 10
    return mask | small[holes]


def _landscape(
    nuclei_labels: np.ndarray, cytoplasm: np.ndarray, diameter: float
) -> np.ndarray:
    """Returns a plane that rises away from nuclei and on the bright borders of cells."""
    relative = _smooth(cytoplasm, diameter / 40)
    relative /= _smooth(cytoplasm, diameter / 3) + 5
    return _distance(nuclei_labels == 0) * (4 / diameter) + 0.3 * relative


def _without_small(labels: np.ndarray, smallest_px: float) -> np.ndarray:
    return components.keep_labels(labels, np.bincount(labels.ravel()) >= smallest_px)


def _flood(landscape: np.ndarray, seeds: np.ndarray, mask: np.ndarray) -> np.ndarray:
    from skimage import segmentation

    return segmentation.watershed(landscape, seeds, mask=mask).astype(np.int32)


def _distance(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.distance_transform_edt(mask).astype(np.float32)


def _smooth(plane: np.ndarray, sigma_px: float) -> np.ndarray:
    from scipy import ndimage

    return ndimage.gaussian_filter(plane, sigma_px)
