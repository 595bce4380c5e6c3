"""Import and export of cells as COCO instances files."""
