"""Versions of what makes the results that are kept on disk.

Raise a number when the same input gives another result: it is part of the fingerprint of
what was made, so that what an older version made is made again. Formats of files have
versions of their own, see `storage.records`; a dataset's is that of TFDS.
"""

# Outlines of the annotator `watershed`, and diameters that it estimates.
WATERSHED = 1
# What the first pass of `convert` measures of a raw file.
MEASUREMENT = 3
# Fields that `simulate` draws; a study that was drawn in another way is drawn again.
SIMULATION = 2
# What `dataset` finds when it checks a field.
FIELD_CHECK = 4
