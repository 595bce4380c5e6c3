"""Converts raw microscope files to merged images."""
