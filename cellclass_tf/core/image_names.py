"""Finds the image of a study or of predictions that a person names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from cellclass_tf.core.predictions import LABELS_FOLDER, OVERLAYS_FOLDER
from cellclass_tf.errors import InputError

# Folders below which an image's name begins.
_FOLDERS = (LABELS_FOLDER, OVERLAYS_FOLDER, "images", "cells")


def find_image(name: str, stems: Mapping[str, str], where: str) -> str:
    """Returns the stem of the image that a person names.

    Args:
      name: 'TYPE/NAME', or 'NAME' if only one image has it; with or without '.png' or
        '.tif', and with or without the folders above.
      stems: the stem of the image by each name that it is known by.
      where: the folder of the images, for the error message.

    Raises:
      InputError: if no image or several images have the name; the message lists similar
        names.
    """
    parts = name.removesuffix(".png").removesuffix(".tif").split("/")
    tails = [i for i in range(len(parts)) if i == 0 or parts[i - 1] in _FOLDERS]
    tried = ["/".join(parts[i:]) for i in tails]
    name = tried[-1]
    alike = [stem for stem in sorted(stems) if stem.endswith(f"/{name}")]
    found = [stem for stem in tried if stem in stems] or alike
    if found and (len(alike) < 2 or found is not alike):
        return stems[found[0]]
    near = alike or difflib.get_close_matches(name, sorted(stems), 5, cutoff=0.5)
    listed = f"similar names: {', '.join(near[:5])}" if near else "no name is similar"
    raise InputError(
        f"{name} is not one of the {len(stems)} images of {where}; {listed}. "
        "Expected a name as in the column image of cells.csv or images.csv."
    )
