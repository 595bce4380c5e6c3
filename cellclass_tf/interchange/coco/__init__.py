"""Cells to COCO instances files, and back."""
