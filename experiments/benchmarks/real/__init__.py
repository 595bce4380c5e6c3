"""Compares this package with other programs on real fields."""
