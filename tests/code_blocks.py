"""Finds the blocks of code in the pages of the documentation, and the commands in them."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shlex
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "experiments" / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
# Output, tables and other text that is shown and not run.
NO_CODE = ("text", "json", "csv", "yaml", "bibtex")
_FENCE = re.compile(r"( *)```(\S*)")
_MARK = re.compile(r"<!-- (not run|only checked|output)(?:: | of )(.+) -->")
_VARIABLE = re.compile(r"[A-Z_]+=.*")
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
      page: path of the page from the root of the checkout.
      line: number of the line with the opening fence, from 1.
      language: language behind the opening fence, such as "bash"; empty if there is none.
      text: the lines between the fences.
      mark: "not run", "only checked", "output" or empty, from an HTML comment on the line
        before the block.
      reason: the rest of that comment.
    """

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """Yields the words of each command of a block of bash.

        Comments, and variables that are set before a command, are left out.

        Raises:
          ValueError: if a quotation is not closed.
        """
        text = _COMMENT.sub("", self.text.replace("\\\n", " "))
        lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
        lexer.commenters = ""
        lexer.whitespace_split = True
        lexer.whitespace = " \t\r"
        words: list[str] = []
        for word in lexer:
            if set(word) <= set("();&\n"):
                if words:
                    yield words
                words = []
            elif words or not _VARIABLE.fullmatch(word):
                words.append(word)
        if words:
            yield words


def blocks_of(path: pathlib.Path) -> list[Block]:
    """Returns the fenced blocks of a page, in their order.

    Raises:
      ValueError: if code is indented in place of fenced, or a fence is not closed.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    name, found, i = path.relative_to(ROOT).as_posix(), [], 0
    while i < len(lines):
        fence = _FENCE.match(lines[i])
        if not fence:
            if re.match(r" {4,}(cellclass|python|pip|import|from) ", lines[i]):
                raise ValueError(f"{name}:{i + 1}: put code between fences (```bash).")
            i += 1
            continue
        indent, language = fence.groups()
        end = i + 1
        while not lines[end].startswith(f"{indent}```"):
            end += 1
            if end == len(lines):
                raise ValueError(f"{name}:{i + 1}: this fence is not closed.")
        mark = _MARK.fullmatch(lines[i - 1].strip()) if i else None
        text = "\n".join(line.removeprefix(indent) for line in lines[i + 1 : end])
        found.append(
            Block(name, i + 1, language, text, *(mark.groups() if mark else ()))
        )
        i = end + 1
    return found
