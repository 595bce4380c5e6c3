"""Finds doubtful cells, and the fields that a person should correct first."""
