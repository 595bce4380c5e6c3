"""Readers of file formats, one module each, which read files plane by plane."""
