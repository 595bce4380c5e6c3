"""Examples to batches: reading, crops, geometry and targets."""
