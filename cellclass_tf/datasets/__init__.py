"""Annotated images to training examples."""
