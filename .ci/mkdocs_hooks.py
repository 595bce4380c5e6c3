"""Prepares pages for the site: links out of docs/, and the reference of the public names.

The site is built without the package's requirements, so its code is read and not imported.
"""

import ast
import pathlib
import re
import sys

from mkdocs.structure.files import File

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import message_list

ROOT = pathlib.Path(__file__).parents[1]
_BENCHMARKS = "experiments/benchmarks/README.md"
_OUTWARD = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(?:#[^)]*)?\)")
_LINK = re.compile(r"\]\((?!https?:|#)")
_MARK = re.compile(r"^ *<!-- (?:not run|only checked|output)\b.+ -->\n", re.MULTILINE)
_NAME = re.compile(r"^- `cc\.(\w+)`: .+\n", re.MULTILINE)


def on_files(files, config):
    """Adds the pages that are not files of docs/."""
    pages = {
        "contributing.md": _of_the_root("CONTRIBUTING.md"),
        "changes.md": _of_the_root("CHANGELOG.md"),
        "benchmarks.md": _benchmarks(),
        "messages.md": message_list.page(ROOT / "cellclass_tf"),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def _of_the_root(name):
    """A page beside docs/, with its links as pages of docs/ write them."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return _LINK.sub("](../", text).replace("](../docs/", "](")


def _benchmarks():
    text = (ROOT / _BENCHMARKS).read_text(encoding="utf-8")
    return re.sub(r"\[docs/[^]]*\]\(\.\./\.\./docs/([^)]*)\)", r"[\1](\1)", text)


def on_page_markdown(markdown, page, config, files):
    """Changes what a page says to people who read it in the checkout.

    A link to the benchmarks becomes one to their page, a link to another file of the repository
    becomes its text and the file's path, comments for the test of code blocks are left out, and
    each name that python.md lists becomes its reference.
    """

    def text_and_path(match):
        text, path = match.groups()
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to ../{path}: no file")
        return f"{text} (`{path}`)"

    markdown = markdown.replace(f"](../{_BENCHMARKS}", "](benchmarks.md")
    markdown = _MARK.sub("", _OUTWARD.sub(text_and_path, markdown))
    if page.file.src_uri == "python.md":
        markdown = _with_reference(markdown)
    return markdown


def _with_reference(markdown):
    modules = _public_names()
    listed = _NAME.findall(markdown)
    if sorted(listed) != sorted(modules):
        differing = sorted({*listed} ^ {*modules})
        raise ValueError(f"docs/python.md does not list each name once: {differing}")

    def reference(match):
        name = match[1]
        heading = f"\n::: cellclass_tf.{modules[name]}.{name}\n    options:\n"
        return f"{heading}      heading: cc.{name}\n      toc_label: {name}\n\n"

    return _NAME.sub(reference, markdown)


def _public_names():
    """The module of each public name, from `cellclass_tf/__init__.py`."""
    path = ROOT / "cellclass_tf/__init__.py"
    return next(
        ast.literal_eval(node.value)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "_MODULE_OF_NAME"
    )
