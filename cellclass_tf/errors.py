"""Errors that a user can do something about."""

from __future__ import annotations


class InputError(ValueError):
    """Input that cannot be used: the message says what, where and what to do."""


def one_line(text: str) -> str:
    """Returns a text with its line breaks and control characters spelt out.

    Names of files may hold them, and a list of failures has one line each.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
