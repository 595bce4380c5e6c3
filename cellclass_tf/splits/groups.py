"""Finds acquisition groups (dish, well, slide) in names by a regular expression."""

from __future__ import annotations

import re
import unicodedata

from cellclass_tf.errors import InputError


def normalized(name: str) -> str:
    """Returns the name of a group in Unicode's normal form C.

    Files that were copied from a Mac may have names in normal form D, in which an umlaut is
    two characters. They look the same, and are the same group.
    """
    return unicodedata.normalize("NFC", name)


class GroupPattern:
    """A regular expression for names of groups: its first group, or the whole match.

    Names are normalized, see `normalized`.
    """

    def __init__(self, pattern: str) -> None:
        """Compiles the expression.

        Raises:
          InputError: if it is not a valid regular expression.
        """
        try:
            self._pattern = re.compile(normalized(pattern))
        except re.error as error:
            raise InputError(
                f"--group={pattern}: not a valid regular expression ({error})."
            ) from error

    def group_in(self, text: str, source: str) -> str:
        """Returns the group in a name or path, according to the last match.

        Args:
          text: the name or path.
          source: description of the file, for messages.

        Raises:
          InputError: if nothing matches.
        """
        matches = list(self._pattern.finditer(normalized(text)))
        found = matches and matches[-1].group(1 if self._pattern.groups else 0)
        if not found:
            raise InputError(
                f"{source}: --group={self._pattern.pattern} does not match this name."
            )
        return found


def pattern_of(group: str | None) -> GroupPattern | None:
    """Returns the compiled pattern, or None if no pattern was given."""
    return GroupPattern(group) if group else None
