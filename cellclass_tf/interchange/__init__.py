"""Import and export of cells in the formats of other programs, one module per format."""
