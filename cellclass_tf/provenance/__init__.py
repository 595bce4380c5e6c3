"""From a cell back to the raw file: who made it of what, and whether that holds."""
