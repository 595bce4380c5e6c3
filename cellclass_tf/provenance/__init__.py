"""Traces a cell back to its raw file, and verifies the recorded hashes."""
