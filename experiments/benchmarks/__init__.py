"""What takes longer than a test may: programs, with their results in README.md."""

from cellclass_tf import process_state

process_state.begin_program()
