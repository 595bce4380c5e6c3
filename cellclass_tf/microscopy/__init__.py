"""Raw microscope files to merged images."""
