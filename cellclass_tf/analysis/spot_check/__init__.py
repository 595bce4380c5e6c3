"""Spot check: a person labels a random sample of cells, which corrects the proportions."""
