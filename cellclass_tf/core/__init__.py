"""Data types that all stages share: cells, micrographs, studies, manifests, predictions."""
