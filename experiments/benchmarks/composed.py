"""Draws a composed field beside its sources, and compares backgrounds.

python -m experiments.benchmarks.composed --study=STUDY --output=composed_field.png
"""

from __future__ import annotations

import io

import numpy as np
from absl import app, flags
from PIL import Image

from cellclass_tf.core.study import Study
from cellclass_tf.drawing import caption, picture
from cellclass_tf.storage import png
from cellclass_tf.workflows import copy_paste

_STUDY = flags.DEFINE_string(
    "study", None, "Study of annotated pure cultures.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "Picture to write.", required=True)
_PAIR = flags.DEFINE_integer(
    "pair", 0, "Number of the pair that is drawn, counted from 0."
)
_PAIRS = flags.DEFINE_integer(
    "pairs", 6, "Number of pairs whose backgrounds are compared."
)


def main(_) -> None:
    """Writes the picture, and prints the median grey levels between the cells."""
    study = Study.open(_STUDY.value)
    couples = copy_paste.pairs(study.accepted_rows())
    print(
        "| field | background of nuclei: pure | composed "
        "| background of cytoplasm: pure | composed |"
    )
    print("|---|---|---|---|---|")
    for one, other in couples[: _PAIRS.value]:
        example = copy_paste.composed_example(study, one, other)
        if example is not None:
            image, cells = study.read_field(one)
            before = np.median(image[cells.labels == 0], axis=0)
            now = np.median(_array(example["image"])[_array(example["labels"]) == 0], 0)
            print(
                f"| {example['image_name']} | {before[2]:g} | {now[2]:g} | "
                f"{before[1]:g} | {now[1]:g} |"
            )
    one, other = couples[_PAIR.value]
    example = copy_paste.composed_example(study, one, other)
    if example is None:
        raise app.UsageError(f"A field of pair {_PAIR.value} has no cells; set --pair.")
    panels = {
        one.cell_type: study.read_image(one),
        f"{one.cell_type} and {other.cell_type}, composed": _array(example["image"]),
        other.cell_type: study.read_image(other),
    }
    png.write_png(_OUTPUT.value, _side_by_side(panels))


def _side_by_side(panels: dict[str, np.ndarray]) -> np.ndarray:
    drawn = []
    for title, image in panels.items():
        bright = (np.sqrt(image / 255) * 255).astype(np.uint8)
        drawn.append(np.concatenate([caption.title(image.shape[1], title), bright]))
    return picture.side_by_side(drawn)


def _array(encoded: io.BytesIO) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded.getvalue())))


if __name__ == "__main__":
    app.run(main)
