"""Classifies cells by the features that a network of cellpose computes for them."""
