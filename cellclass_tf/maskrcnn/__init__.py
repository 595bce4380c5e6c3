"""Trains and applies the network that outlines and classifies cells."""
