"""Which raw files there are, and what their images are called."""
