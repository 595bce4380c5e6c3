"""Draws fields of cultures, with their exact ground truth."""
