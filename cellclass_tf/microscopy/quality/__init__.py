"""Which fields are good enough."""
