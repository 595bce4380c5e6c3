"""A simulated area that is recorded as overlapping tiles, for tests."""

import functools

import numpy as np
import tifffile

from cellclass_tf.datasets.culture import field, looks

PIXEL_SIZE_UM = 0.65
TILE_PX, STEP_PX = 320, 288
AREA_PX = TILE_PX + STEP_PX
# The rows and columns of four tiles, which overlap by 10 %.
CORNERS = tuple((y, x) for y in (0, STEP_PX) for x in (0, STEP_PX))


@functools.cache
def area(seed=0, cells=150):
    """A field of 608 x 608 px, with its labels; the larger cells are some 30 px wide."""
    rng = np.random.default_rng(seed)
    return field.simulate_field(
        {"HEK": 1, "N2a": 1},
        size_px=AREA_PX,
        rng=rng,
        dish=looks.Dish.random(rng),
        pixel_size_um=PIXEL_SIZE_UM,
        cells=cells,
    )


def cut(image, corner, size=TILE_PX):
    """The part (..., size, size) of an image from a corner (y, x) on."""
    y, x = corner
    return image[..., y : y + size, x : x + size]


def recorded(pixels, corner, rng):
    """A tile as the camera records it: with noise and a lamp of its own."""
    tile = cut(pixels, corner).astype(float)
    y, x = np.mgrid[-1 : 1 : 1j * TILE_PX, -1 : 1 : 1j * TILE_PX]
    tile = tile * (1 - 0.15 * (y**2 + x**2)) + rng.normal(0, 10, tile.shape)
    return tile.clip(0, 4095).astype(np.uint16)


def stage_um(corner, axes=(1, 0, 1, 1), off_px=(0, 0), pixel_size_um=PIXEL_SIZE_UM):
    """The stage's (x, y) of a tile.

    Args:
      corner: its first row and column in the area.
      axes: which of them x and y are, and their signs; x is the column if not given.
      off_px: error of the position, in rows and columns.
      pixel_size_um: of the tile.
    """
    place = (np.array(corner) + off_px) * pixel_size_um
    x, y, sign_x, sign_y = axes
    return 31_000 + sign_x * place[x], -2_000 + sign_y * place[y]


def write_ome(path, scenes):
    """Writes an OME-TIFF of scenes, each (pixels (T, 2, Y, X), stage (x, y) or None)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path, ome=True) as file:
        for pixels, stage in scenes:
            metadata = {
                "axes": "TCYX",
                "Channel": {"Name": ["DAPI", "GFP"]},
                "PhysicalSizeX": PIXEL_SIZE_UM,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": PIXEL_SIZE_UM,
                "PhysicalSizeYUnit": "µm",
            }
            if stage is not None:
                planes = len(pixels) * 2
                metadata["Plane"] = {
                    # In mm, so that the unit matters.
                    "PositionX": [stage[0] / 1000] * planes,
                    "PositionY": [stage[1] / 1000] * planes,
                    "PositionXUnit": ["mm"] * planes,
                    "PositionYUnit": ["mm"] * planes,
                }
            file.write(pixels, metadata=metadata, photometric="minisblack")
    return path
