"""Versions of the algorithms whose results are kept on disk.

Increase a number when the same input gives another result. The number is part of the
fingerprint of results, so that results of an older version are computed again. File
formats have their own versions, see `storage.records`; datasets have the version of TFDS.
"""

# Outlines of the annotator `watershed`, and the diameters that it estimates.
WATERSHED = 1
# Measurements of raw files in the first pass of `convert`.
MEASUREMENT = 5
# Merged images, which the second pass of `convert` writes.
MERGING = 1
# Properties of fields with one file per channel. (Earlier versions had no number.)
JOINING = 1
# Cells, tables and pictures of a field that `predict` writes.
PREDICTION = 2
# Places of tiles that overlap.
OVERLAPS = 1
# Fields that `simulate` draws; a study of another version is drawn again.
SIMULATION = 2
# Checks of fields by `dataset`.
FIELD_CHECK = 4
