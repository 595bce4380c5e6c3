"""Measures the quality of fields and decides which are good enough."""
