"""Plug-in for napari."""
