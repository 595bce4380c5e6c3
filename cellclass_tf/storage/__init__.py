"""Files that appear whole or not at all, their digests, and what is safe to open."""
