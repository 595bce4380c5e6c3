"""Tests of cellclass_tf.messages."""

import io
import logging

from cellclass_tf import messages


def test_messages_and_bars_are_shown_on_the_stream_inside_the_block_alone(caplog):
    stream = io.StringIO()
    with messages.shown_on(stream):
        messages.logger.info("read %d files", 3)
        messages.logger.warning("one is broken")
        messages.logger.debug("details")
        logging.getLogger("other").warning("of a library")
        for _ in messages.progress_bar(range(2), "convert", unit="file"):
            pass
    shown = stream.getvalue()
    assert shown.startswith("read 3 files\nWarning: one is broken\n")
    assert "convert: 100%" in shown
    assert "files/s" in shown
    assert "details" not in shown
    assert "library" not in shown
    before = stream.getvalue()
    messages.logger.warning("afterwards")
    assert stream.getvalue() == before
    assert "afterwards" in caplog.text


def test_a_block_within_a_block_leaves_the_outer_one_as_it_was(caplog):
    outer, inner = io.StringIO(), io.StringIO()
    with messages.shown_on(outer):
        with messages.shown_on(inner):
            pass
        messages.logger.info("after the inner block")
    assert outer.getvalue() == "after the inner block\n"
    # The outer block still keeps messages from other handlers.
    assert "inner" not in caplog.text
    assert messages.logger.propagate


def test_bars_can_be_left_out(capsys):
    with messages.shown_on(bars=False):
        assert [*messages.progress_bar("ab")] == ["a", "b"]
    assert capsys.readouterr().err == ""
    assert [*messages.progress_bar("ab", "letters")] == ["a", "b"]
    assert "letters" in capsys.readouterr().err
