"""Programs for training and export, and benchmarks."""
