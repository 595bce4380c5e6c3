"""Groups of related fields, and the split of each group."""
