"""Benchmarks: measurements that take too long for tests; README.md has their results."""

from cellclass_tf import process_state

process_state.begin_program()
