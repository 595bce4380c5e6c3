"""Functions that run several stages."""
