"""Tests of cellclass_tf.batch.jobs."""

import numpy as np
import pytest

from cellclass_tf.batch import jobs


def fail_with(error):
    raise error


def test_a_result_equals_the_one_read_from_a_journal():
    def count(argument):
        return {argument: (1, 2), 3: None}

    assert jobs.attempt(count, "a") == ({"a": [1, 2], "3": None}, None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("one\ntwo\x07"), r"one\ntwo\x07"),
        # Some errors have no message.
        (MemoryError(), "MemoryError"),
        # A library may try to end the program.
        (SystemExit("no licence"), "no licence"),
        (SystemExit(), "SystemExit"),
    ],
    ids=repr,
)
def test_an_exception_becomes_an_error_of_one_line(error, reason):
    result, found = jobs.attempt(fail_with, error)
    assert result is None
    assert found == reason


def test_a_result_that_is_not_json_is_a_failure():
    result, reason = jobs.attempt(np.zeros, 2)
    assert result is None
    assert "ndarray is not JSON serializable" in reason


def test_ctrl_c_is_not_a_failure_of_the_job():
    with pytest.raises(KeyboardInterrupt):
        jobs.attempt(fail_with, KeyboardInterrupt())
