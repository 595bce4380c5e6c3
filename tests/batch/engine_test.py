"""Tests of cellclass_tf.batch.engine."""

import inspect

import pytest

from cellclass_tf.batch.engine import IN_THIS_PROCESS, Engine, takes_engine
from cellclass_tf.batch.jobs import Job
from cellclass_tf.errors import InputError


@takes_engine
def stage(study, output="out", *, engine: Engine = IN_THIS_PROCESS, dry: bool = False):
    """Returns its arguments."""
    return study, output, engine, dry


def test_a_stage_gets_its_keywords_as_one_engine():
    assert stage("a") == ("a", "out", Engine(), False)
    assert stage("a", "b", processes=3, dry=True) == (
        "a",
        "b",
        Engine("local", 3),
        True,
    )
    found = stage("a", engine="beam", processes=2, beam_options=["--x=1"])[2]
    assert found == Engine("beam", 2, ("--x=1",))
    with pytest.raises(InputError, match="'spark'"):
        stage("a", engine="spark")


def test_an_engine_is_passed_to_the_stage_unchanged():
    engine = Engine(processes=2)
    assert stage("a", engine=engine)[2] is engine


def test_help_shows_the_three_keywords_in_place_of_the_engine():
    parameters = inspect.signature(stage).parameters
    own, added = ["study", "output", "dry"], ["processes", "engine", "beam_options"]
    assert list(parameters) == own + added
    defaults = {name: one.default for name, one in parameters.items()}
    assert defaults["processes"] == 1
    assert (defaults["engine"], defaults["beam_options"]) == ("local", ())
    assert (stage.__name__, stage.__doc__) == ("stage", "Returns its arguments.")


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        ("", ()),
        ("--runner=FlinkRunner", ("--runner=FlinkRunner",)),
        # Values may contain commas too.
        ("--a=1,2,--b=x,-y,--c", ("--a=1,2", "--b=x,-y", "--c")),
        # Flags in a sequence are not split.
        (["--a=1,--b", "--c"], ("--a=1,--b", "--c")),
    ],
)
def test_options_of_beam_are_split_at_the_commas_before_flags(given, flags):
    engine = Engine("beam", beam_options=given)
    assert engine.beam_options == flags
    assert engine == Engine("beam", beam_options=flags)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"name": "spark"}, "Unknown engine 'spark'; known are local, beam"),
        ({"processes": 0}, "1 process or more, got 0"),
        ({"name": "beam", "processes": -1}, "1 process or more, got -1"),
        ({"beam_options": "--a,--b"}, "beam_options=--a,--b have no effect without"),
    ],
)
def test_invalid_settings_are_rejected(settings, told):
    with pytest.raises(InputError, match=told):
        Engine(**settings)


def test_one_process_yields_each_job_before_it_begins_the_next():
    begun = []

    def halve(number):
        begun.append(number)
        return 12 / number

    jobs = [Job(str(number), number) for number in (4, 0, 3)]
    attempts = Engine().execute(halve, jobs, None)
    assert next(attempts) == (jobs[0], 3.0, None)
    assert begun == [4]
    assert list(attempts) == [
        (jobs[1], None, "division by zero"),
        (jobs[2], 4.0, None),
    ]
