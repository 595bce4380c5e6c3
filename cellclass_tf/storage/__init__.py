"""Atomic writing, digests, locks, ledgers, and safe reading of files."""
