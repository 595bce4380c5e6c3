"""Cells in other programs' formats, a module each."""
