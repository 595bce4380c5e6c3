"""Finds the cells in merged images."""
