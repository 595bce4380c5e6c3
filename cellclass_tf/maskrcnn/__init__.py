"""Training examples to a network that names cells."""
