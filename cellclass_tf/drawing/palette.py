"""Colours of cell types, chosen so that readers with any colour vision can use them."""

from __future__ import annotations

Colour = tuple[int, int, int]

# Two colours of similar hue per type: the first for outlines on dark images with green
# cytoplasm and blue nuclei, the second for charts on white. tests/drawing/palette_test.py
# measures their differences for protanopia, deuteranopia and tritanopia. Outlines are not
# orange, yellow or red, since with deuteranopia these look like the green channel.
_PAIRS: tuple[tuple[Colour, Colour], ...] = (
    ((238, 85, 153), (204, 34, 102)),  # pink
    ((85, 170, 255), (0, 85, 170)),  # sky blue
    ((255, 255, 187), (119, 102, 0)),  # cream; olive on white
    ((136, 85, 255), (51, 0, 119)),  # violet
    ((238, 170, 153), (102, 17, 0)),  # apricot; brown on white
    ((238, 204, 255), (187, 119, 204)),  # lilac
    # The following four can be distinguished from those above with normal colour vision only.
    ((153, 255, 255), (0, 136, 136)),  # pale cyan; teal on white
    ((255, 119, 255), (221, 0, 204)),  # magenta
    ((153, 136, 119), (119, 102, 85)),  # taupe
    ((51, 119, 255), (34, 119, 238)),  # blue
)
# Number of types that can be distinguished with any colour vision.
SAFE_TYPES = 6
ON_DARK = tuple(dark for dark, _ in _PAIRS)
ON_WHITE = tuple(white for _, white in _PAIRS)
PINK, SKY_BLUE, CREAM, VIOLET, APRICOT, LILAC = ON_DARK[:SAFE_TYPES]

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
# Cells without a type, and cells that a picture is not about.
UNKNOWN, UNMARKED = (116, 116, 116), (96, 96, 96)

# Colours of conditions and other groups in charts, which are not types: Okabe and Ito
# (https://jfly.uni-koeln.de/color).
GROUPS_ON_WHITE: tuple[Colour, ...] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
)


def colour_of_type(type_id: int) -> Colour:
    """Returns the (red, green, blue) of a type on dark images; 0 is unknown.

    Colours repeat after ten types.
    """
    return ON_DARK[(type_id - 1) % len(ON_DARK)] if type_id else UNKNOWN


def colour_on_white(type_id: int) -> Colour:
    """Returns the (red, green, blue) of a type in charts and on pages; 0 is unknown."""
    return ON_WHITE[(type_id - 1) % len(ON_WHITE)] if type_id else UNKNOWN


def hex_of(colour: Colour) -> str:
    """Returns a colour as '#rrggbb'."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
