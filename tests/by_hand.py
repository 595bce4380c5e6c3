"""Edits a study as a person does."""

import csv
import io

from cellclass_tf.core.study import Study


def edit(study, image, /, **values):
    """Writes values into the row of an image, and saves images.csv, as a spreadsheet does.

    Args:
      study: the study, or its folder.
      image: name of the image.
      **values: the values by column.
    """
    path = Study.open(study).manifest_path
    lines = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    for line in lines:
        if line["image"] == image:
            line.update(values)
    columns = list(dict.fromkeys(name for line in lines for name in line))
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(lines)
