"""Training and export binaries."""
