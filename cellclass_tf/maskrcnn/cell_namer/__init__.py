"""The namer: a second network, which classifies cells by small crops around their nuclei."""
