"""Computes how colours look to people with a colour vision deficiency."""

import numpy as np
from skimage import color

# Full dichromacy (severity 1.0) in linear RGB, from table 1 of Machado, Oliveira & Fernandes
# 2009, "A physiologically-based model for simulation of color vision deficiency", IEEE TVCG
# 15(6):1291-1298.
_MATRICES = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
VISIONS = tuple(_MATRICES)


def seen(rgb, vision):
    """Returns colours (..., 3), 0 to 255, as they look: (..., 3) float in sRGB, 0 to 1."""
    linear = np.clip(_linear(rgb) @ np.transpose(_MATRICES[vision]), 0, 1)
    return np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )


def differences(first, second, vision):
    """Returns the (M, N) CIEDE2000 of colours as they look; 2 is just visible."""
    one, other = (color.rgb2lab(seen(colours, vision)) for colours in (first, second))
    return color.deltaE_ciede2000(one[:, None], other[None])


def contrast(first, second):
    """Returns the contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    luminances = sorted(color.rgb2gray(_linear(c)) for c in (first, second))
    return (luminances[1] + 0.05) / (luminances[0] + 0.05)


def _linear(rgb):
    encoded = np.asarray(rgb, float) / 255
    return np.where(
        encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4
    )
