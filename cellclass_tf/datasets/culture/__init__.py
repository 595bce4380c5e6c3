"""Drawn fields of cultures, with the exact truth."""
