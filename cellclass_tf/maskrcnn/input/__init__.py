"""Makes training batches of examples: reading, crops, augmentation and targets."""
