"""The nouns that everything speaks: cells, micrographs, a study and its manifest, predictions."""
