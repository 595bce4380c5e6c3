"""Which fields belong together, and which split each of them is in."""
