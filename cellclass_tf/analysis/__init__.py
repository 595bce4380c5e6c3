"""Cells to tables, scores and pictures."""
