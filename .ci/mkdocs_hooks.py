"""Prepares pages for the site: links out of docs/, and pages made from the code.

The site is built without the package's requirements, so commands are read from the source.
"""

import ast
import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
_OUTWARD = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(?:#[^)]*)?\)")


def on_files(files, config):
    """Adds the pages that are not files of docs/."""
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    pages = {
        "commands.md": _commands(),
        "contributing.md": contributing.replace("](docs/", "]("),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Replaces a link to a file of the repository by its text and the file's path."""

    def text_and_path(match):
        text, path = match.groups()
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to ../{path}: no file")
        return f"{text} (`{path}`)"

    return _OUTWARD.sub(text_and_path, markdown)


def _commands():
    tree = ast.parse(
        (ROOT / "cellclass_tf/cli/commands.py").read_text(encoding="utf-8")
    )
    table = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMMANDS"
    )
    rows = [
        f"| `{key.value}` | {ast.literal_eval(call.args[0])} |"
        for key, call in zip(table.keys, table.values, strict=True)
    ]
    head = "# Commands\n\n`cellclass COMMAND --help` lists the flags of a command.\n\n"
    return head + "| command | what it does |\n|---|---|\n" + "\n".join(rows) + "\n"
