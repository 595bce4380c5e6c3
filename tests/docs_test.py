"""Runs or checks every block of code of the READMEs, CONTRIBUTING.md and docs/.

Blocks of Python are executed. In blocks of bash, every command of cellclass is executed on a
small simulated study, except for those in NOT_HERE, which gives the reasons. The flags of all
commands are checked, those of experiments too, and the files and extras of `pip install`. A
comment on the line before a block says that it is only checked, or not run at all, and why:
`<!-- only checked: reason -->` or `<!-- not run: reason -->`. The output of a block of Python
is compared with the next block if that one has `<!-- output of the block above -->`.
"""

import ast
import csv
import importlib.util
import itertools
import re
import shutil

import pytest
from markdown.extensions.toc import slugify

import cellclass_tf as cc
from cellclass_tf.analysis.spot_check import labels
from cellclass_tf.cli import commands, main, signatures
from cellclass_tf.core.predictions import Predictions
from tests import commands_page
from tests.code_blocks import NO_CODE, PAGES, ROOT, Block, blocks_of
from tests.fake_model import save_model
from tests.spot_check import rows_of, write_table

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
CODE = [block for block in BLOCKS if block.language not in NO_CODE]
# Flags that make a command do more than a test has the time, data or machines for.
NOT_HERE = {
    "demo": {"": "trains for minutes"},
    "run": {"": "trains for minutes"},
    "train": {"": "trains for minutes"},
    "export-model": {"": "needs a training run"},
    "finetune": {"": "needs cellpose's weights"},
    "annotate": {
        "--annotator=cellpose": "needs its weights",
        "--model": "needs weights",
    },
    "predict": {"--outlines=cellpose": "needs its weights"},
    # One engine is enough to see that the command is right.
    "convert": {"--engine=beam": "takes a Beam runner"},
    "dataset": {"--engine=beam": "takes a Beam runner"},
}
# Values that replace those on the pages, which are for real fields.
SMALL = {"processes": 1, "cells": 20, "size": 128, "images_per_type": 2, "mixed": 1}
# Commands that take seconds and are on several pages; each runs once.
ONCE = {"package-model"}
# Other programs, of whose commands only files and extras are checked.
OTHERS = ("cd", "python3", "pip", "ruff", "pytest", "cellpose", "tensorboard")


def pages():
    return sorted({block.page for block in CODE})


@pytest.mark.parametrize("block", CODE, ids=str)
def test_a_block_is_of_a_known_kind_and_its_commands_exist(block):
    if block.mark == "not run":
        return
    assert block.language in ("bash", "python"), "mark the block, or name its language"
    if block.language == "python":
        ast.parse(block.text)
        return
    for words in block.commands():
        check(words)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").rglob("*.py")), ids=lambda path: path.stem
)
def test_commands_in_docstrings_of_experiments_exist(path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    found = re.findall(r"^ *python -m experiments\..*?[^\\]$", text, re.M | re.S)
    for words in Block(str(path), 1, "bash", "\n".join(found)).commands():
        check(words)


@pytest.mark.parametrize("page", pages())
def test_the_blocks_of_a_page_run_one_after_the_other(
    page, folder, monkeypatch, capsys, has_run
):
    monkeypatch.chdir(folder)
    names = {}
    for block in (b for b in CODE if b.page == page and not b.mark):
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
            after = BLOCKS[BLOCKS.index(block) + 1 :]
            if after and after[0].page == page and after[0].mark == "output":
                assert capsys.readouterr().out.strip() == after[0].text, str(after[0])
            continue
        for words in block.commands():
            if program(words) != "cellclass" or reason_not_here(words[1:]):
                continue
            if words[1] in ONCE & has_run:
                continue
            has_run.add(words[1])
            status = main.run(words[1:])
            shown = capsys.readouterr()
            assert status == main.DONE, f"{block}: {words}\n{shown.out}\n{shown.err}"
            act_as_a_person(words[1])


def test_the_page_of_commands_agrees_with_the_code():
    page = commands_page.PAGE.read_text(encoding="utf-8")
    assert page == commands_page.page(), "run: python -m tests.commands_page"


def test_the_page_on_python_lists_every_public_name_once():
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- `cc\.(\w+)`: ", page, re.MULTILINE)
    assert sorted(listed) == sorted(cc.__all__)


def test_the_page_of_messages_has_those_of_every_unit():
    path = ROOT / ".ci/message_list.py"
    spec = importlib.util.spec_from_file_location("message_list", path)
    message_list = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(message_list)
    code = (
        "raise InputError(f'{path}: no *cell* in <it>. ' + what)\nraise InputError(x)"
    )
    found = [*message_list.messages_of(ast.parse(code))]
    assert found == [r"…: no \*cell\* in &lt;it>. …"]
    page = message_list.page(ROOT / "cellclass_tf")
    assert page.count("\n## ") > 10
    assert page.count("\n- ") > 200


def without_blocks(path):
    return re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(path):
    """The anchors of a page: those of its headings, and those that are written out."""
    text = without_blocks(path)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {slugify(heading.replace("`", ""), "-") for heading in headings} | {
        *re.findall(r'id="([^"]+)"', text)
    }


def test_every_link_leads_to_a_section_and_every_page_is_in_the_navigation():
    navigation = (ROOT / ".ci/mkdocs.yml").read_text(encoding="utf-8")
    sections = 0
    for path in PAGES:
        links = re.findall(
            r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", without_blocks(path)
        )
        for target, section in links:
            page = path.parent / target if target else path
            assert page.exists(), f"{path.name}: {target}"
            if section and page.suffix == ".md":
                sections += 1
                assert section in anchors(page), f"{path.name}: {target}#{section}"
        if path.parent == ROOT / "docs":
            assert f"- {path.name}\n" in navigation, path.name
    assert sections > 20


def test_blocks_are_found_with_their_marks_and_commands():
    here = blocks_of(ROOT / "README.md")
    assert {block.language for block in here} >= {"bash", "python"}
    block = Block("", 1, "bash", "X=y a 'b c' \\\n d,e # f\n(g --h=i && j)\n")
    assert [*block.commands()] == [["a", "b c", "d,e"], ["g", "--h=i"], ["j"]]
    marks = {(b.mark, bool(b.reason)) for b in BLOCKS}
    kinds = {"not run", "only checked", "output"}
    assert marks == {("", False), *((kind, True) for kind in kinds)}


@pytest.mark.parametrize(
    "line",
    [
        "cellclass convrt --input=a --study=b",
        "cellclass convert --input=a --stdy=b",
        "cellclass convert --input=a",
        "python -m experiments.benchmarks.coverage --mixture=3",
        "python -m experiments.benchmarks.no_such",
        "python -m experiments.train --stdy=a",
        "pip install 'cellclass_tf[no_such]'",
        "pip install -r .ci/no_such.lock",
        "no_such_program",
    ],
)
def test_commands_flags_and_files_that_do_not_exist_are_found(line):
    (words,) = Block("", 1, "bash", line).commands()
    with pytest.raises(AssertionError):
        check(words)


def program(words):
    """Returns the name of the program that a command starts."""
    name = words[0].rpartition("/")[2]
    if name in ("python", "python3") and words[1:2] == ["-m"]:
        return words[2].partition(".")[0]
    return name


def check(words):
    """Asserts that a command exists, and its flags, files and extras."""
    name = program(words)
    if name == "cellclass":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(commands.Command, "__call__", lambda self, **values: None)
            assert main.run(words[1:]) == main.DONE, words
    elif name == "experiments":
        check_experiment(words[2], words[3:])
    else:
        assert name in OTHERS or words[1:2] == ["-m"], words
    for extras in re.findall(r"cellclass_tf\[(.+?)\]", " ".join(words)):
        declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", declared, re.MULTILINE), extra
    for flag, value in itertools.pairwise(words):
        if flag in ("-r", "-c"):
            assert (ROOT / value).exists(), value


def check_experiment(module, rest):
    """Asserts that a module exists and defines the flags that are given to it."""
    if module == "experiments.benchmarks":
        module, rest = f"{module}.{rest[0]}", rest[1:]
    found = importlib.util.find_spec(module)
    assert found, module
    known = {"help", *defined(found.origin)}
    if found.submodule_search_locations:
        known = {"help"}
        for path in sorted((ROOT / module.replace(".", "/")).glob("*.py")):
            known |= {*defined(path)}
    if module in ("experiments.train", "experiments.export"):
        function = cc.train if module.endswith("train") else cc.export_model
        known |= {flag.name for flag in signatures.flags_of(function)}
        garden = importlib.util.find_spec("official.common.flags").origin
        known |= {*defined(garden)} | {"namer", "no-calibration"}
    for word in rest:
        name = word.removeprefix("--").partition("=")[0]
        given = {name, name.removeprefix("no")}
        assert word.startswith("--"), f"{module} takes no {word}"
        assert given & known, f"{module} has no flag {word}"


def defined(path):
    """Yields the names of the flags that a file defines with absl."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and "DEFINE_" in ast.unparse(node.func):
            given = [
                *node.args[:1],
                *(k.value for k in node.keywords if k.arg == "name"),
            ]
            yield from (v.value for v in given if isinstance(v, ast.Constant))


def reason_not_here(words):
    """Returns why a command of cellclass is only checked; empty if it runs."""
    for flag, reason in NOT_HERE.get(words[0], {}).items():
        if not flag or any(word.startswith(flag) for word in words[1:]):
            return reason
    if words[0] == "annotate" and "--annotator=watershed" not in words:
        return "needs cellpose's weights"
    return ""


def act_as_a_person(command):
    """Does between two commands what the pages ask a person to do."""
    if command == "spotcheck":
        drawn = labels.current_sample(Predictions("predictions"))
        write_table("spotcheck_Ana.csv", rows_of(drawn))
    if command == "conditions":
        dishes = {f"mixed_dish{i}": ("control", "drug")[i % 2] for i in range(1, 5)}
        fill_in(
            "study/conditions.csv", "condition", lambda row: dishes.get(row["group"])
        )


def fill_in(path, column, value):
    """Fills in a column of a table, as a person does with a spreadsheet program."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [row | {column: value(row)} for row in csv.DictReader(file)]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """Makes raw/, study/, masks/, model/ and predictions/, the names used on the pages."""
    root = tmp_path_factory.mktemp("pages") / "made"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        cc.simulate("study", images_per_type=3, mixed=4, size=128)
        shutil.move("study/raw", "raw")
        # The files of a demo stay in its study.
        shutil.copytree("raw", "study/raw")
        cc.convert("raw", "study", group=r"[^/]+_dish\d+")
        # Such small fields may hold only half a nucleus, but are needed here.
        fill_in("study/images.csv", "verdict", lambda row: "accepted")
        shutil.move("study/truth", "masks")
        cc.annotate("study", annotator="watershed")
        shutil.copytree("masks/mixed", "masks_of_mixed/mixed")
        cc.import_masks("study", "masks_of_mixed")
        # For pages that prepare the dataset, it is up to date.
        cc.dataset("study")
        save_model(root / "model")
        cc.predict("model", "study", "predictions")
        shutil.copy("raw/mixed/mixed_dish1_0001.ome.tif", "field.ome.tif")
    # Recorded absolute paths do not exist then, so that the copies are searched.
    return root.rename(root.with_name("moved"))


@pytest.fixture(scope="session")
def has_run():
    """Returns the set to which tests add the names of the commands that ran."""
    return set()


@pytest.fixture
def folder(template, tmp_path, monkeypatch):
    """Returns a copy of the template, in which commands do little work."""
    root = shutil.copytree(template, tmp_path / "here", symlinks=True)
    (root / "demo").symlink_to(root)
    call = commands.Command.__call__

    def small(self, **values):
        return call(self, **{k: SMALL.get(k, v) for k, v in values.items()})

    monkeypatch.setattr(commands.Command, "__call__", small)
    return root
