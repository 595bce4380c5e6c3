"""Annotators, which outline cells: a watershed, and cellpose."""
