"""The plug-in of napari."""
