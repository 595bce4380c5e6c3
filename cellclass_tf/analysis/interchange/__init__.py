"""Cells for other programs: ImageJ, QuPath, OME, COCO."""
