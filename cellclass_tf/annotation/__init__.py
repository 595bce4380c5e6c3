"""Merged images to annotated cells."""
