"""Turns cells into tables, proportions, scores, figures and reports."""
