"""Tests of cellclass_tf.cli.signatures."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import pytest
from absl import flags

from cellclass_tf.cli import signatures

Colour = Literal["red", "green"]


def draw(
    path: str | int,
    *,
    width: float = 2.0,
    count: int | None = None,
    closed: bool = False,
    colour: Colour | None = None,
    edges: Unknown | Literal["round", "flat"] = "round",  # noqa: F821
    words: str | tuple[str, ...] = (),
):
    """Draws.

    Args:
      path: where the
        lines go.
      width: of a line; see: nothing.
      count, closed: two at once.
      colour: of the line.
      edges: of the line.
      words: below it.

    Returns:
      text: this is no parameter.
    """


def test_annotations_and_docstring_become_flags():
    found = {flag.name: flag for flag in signatures.flags_of(draw)}
    assert [*found] == [
        *["path", "width", "count", "closed", "colour", "edges", "words"]
    ]
    assert found["path"].required
    assert found["path"].help == "where the lines go."
    assert found["width"].kind is float
    assert found["width"].default == 2.0
    assert found["width"].help == "of a line; see: nothing."
    assert found["count"].kind is int
    assert found["count"].default is None
    assert found["closed"].kind is bool
    assert found["count"].help == found["closed"].help == "two at once."
    assert found["colour"].choices == ("red", "green")
    # A name that only type checkers load is ignored.
    assert found["edges"].choices == ("round", "flat")
    assert found["words"].default == ""
    assert found["words"].kind is str
    forms = [flag.form for flag in found.values()]
    assert forms[:3] == ["--path=TEXT", "--width=NUMBER", "--count=INTEGER"]
    assert forms[3:5] == ["--[no]closed", "--colour=red|green"]
    assert found["width"].note == " (default: 2.0)"
    assert not found["closed"].note


def test_flags_parse_to_the_types_of_the_annotations():
    values = flags.FlagValues()
    for flag in signatures.flags_of(draw, former={"count": "number"}):
        flag.define(values)
    values(["x", "--path=p", "--width=3", "--number=4", "--closed", "--colour=red"])
    assert (values.width, values.count, values.closed) == (3.0, 4, True)
    with pytest.raises(flags.Error, match="blue"):
        values(["x", "--colour=blue"])


def test_parameters_can_be_chosen_left_out_and_described_elsewhere():
    class Elsewhere:
        """Holds.

        Attributes:
          size: of it.
          path: not asked for.
        """

    def make(path: str, size: int = 1):
        """Makes.

        Args:
          path: its own words.
        """

    with pytest.raises(ValueError, match="docstring of make lacks size"):
        signatures.flags_of(make)
    found = signatures.flags_of(make, described_by=[Elsewhere], defaults={"size": 5})
    assert [(f.name, f.help, f.default) for f in found] == [
        ("path", "its own words.", None),
        ("size", "of it.", 5),
    ]
    assert [f.name for f in signatures.flags_of(draw, names=("width",))] == ["width"]
    assert len(signatures.flags_of(draw, leave_out=("width",))) == 6
    with pytest.raises(ValueError, match="no parameter"):
        signatures.flags_of(draw, defaults={"widht": 1})


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("train", ("--study", "--precision", "--[no]namer")),
        ("export", ("--checkpoint", "--outlines", "--views")),
    ],
)
def test_the_help_of_a_program_lists_flags_that_are_made_here(program, names):
    found = subprocess.run(
        [sys.executable, "-m", f"experiments.{program}", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    for name in names:
        assert f"  {name}:" in found.stdout, found.stdout
