"""Acquisition groups (dish, well, slide) that a regular expression finds in names."""

from __future__ import annotations

import re

from cellclass_tf.errors import InputError


class GroupPattern:
    """A regular expression that names a group: its first group, or all that it matches."""

    def __init__(self, pattern: str) -> None:
        """Compiles the expression.

        Raises:
          InputError: if it is none.
        """
        try:
            self._pattern = re.compile(pattern)
        except re.error as error:
            raise InputError(
                f"--group={pattern}: no regular expression ({error})."
            ) from error

    def group_in(self, text: str, source: str) -> str:
        """Returns the group that a name or path tells of, by the last match.

        Args:
          text: to search in.
          source: what it is the name of, for messages.

        Raises:
          InputError: if nothing matches.
        """
        matches = list(self._pattern.finditer(text))
        found = matches and matches[-1].group(1 if self._pattern.groups else 0)
        if not found:
            raise InputError(
                f"{source}: --group={self._pattern.pattern} matches nothing in it."
            )
        return found


def pattern_of(group: str | None) -> GroupPattern | None:
    """Compiles a pattern; None for none."""
    return GroupPattern(group) if group else None
