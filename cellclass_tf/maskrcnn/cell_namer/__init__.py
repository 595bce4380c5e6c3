"""A second network that names cells by small crops around their nuclei."""
