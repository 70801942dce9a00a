from __future__ import annotations

import logging

import pytest

from muniment.diagnostics import Diagnostics


class _Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    """The clock that the diagnostics of a test go by."""
    return _Clock()


@pytest.fixture
def diagnostics(clock: _Clock, caplog: pytest.LogCaptureFixture) -> Diagnostics:
    """Diagnostics whose messages are captured, of every level."""
    caplog.set_level(logging.DEBUG, logger="muniment")
    return Diagnostics(clock=clock)


def test_the_first_of_its_kind_is_logged(
    diagnostics: Diagnostics, caplog: pytest.LogCaptureFixture
) -> None:
    """Trouble is logged at once, at its level, to the logger `muniment`, with its values."""
    diagnostics.report(logging.WARNING, "store", "the store %s: %s", "fails", "100% full")
    assert caplog.record_tuples == [
        ("muniment", logging.WARNING, "the store fails: 100% full"),
    ]


def test_the_same_kind_is_held_back_for_a_minute(
    diagnostics: Diagnostics, clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Within a minute one kind is logged once; the next message says how many were held back."""
    for seconds in (0, 1, 59.9, 60):
        clock.now = 1000 + seconds
        diagnostics.report(logging.ERROR, "lost", "event %d is lost", 7)
    assert caplog.messages == [
        "event 7 is lost",
        "event 7 is lost (and 2 more times since the last such message)",
    ]


def test_the_count_starts_over_with_each_message(
    diagnostics: Diagnostics, clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """What was counted once is not counted again."""
    for seconds in (0, 1, 60, 120):
        clock.now = 1000 + seconds
        diagnostics.report(logging.ERROR, "lost", "lost")
    assert [("more times" in message) for message in caplog.messages] == [False, True, False]


def test_kinds_do_not_hold_each_other_back(
    diagnostics: Diagnostics, caplog: pytest.LogCaptureFixture
) -> None:
    """A long outage of one thing hides no trouble of another."""
    diagnostics.report(logging.ERROR, "lost", "lost")
    diagnostics.report(logging.WARNING, "store", "down")
    assert caplog.messages == ["lost", "down"]


def test_info_is_logged_every_time(
    diagnostics: Diagnostics, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no trouble is not held back."""
    for _ in range(3):
        diagnostics.info("the spool is drained: %d events", 5)
    assert (
        caplog.record_tuples
        == [
            ("muniment", logging.INFO, "the spool is drained: 5 events"),
        ]
        * 3
    )


def test_the_rest_is_told_by_kind(
    diagnostics: Diagnostics, caplog: pytest.LogCaptureFixture
) -> None:
    """At the end nothing that was held back goes untold, and nothing is told twice."""
    for kind, times in (("lost", 4), ("store", 3), ("index", 1)):
        for _ in range(times):
            diagnostics.report(logging.ERROR, kind, kind)
    caplog.clear()
    diagnostics.tell_rest()
    diagnostics.tell_rest()
    assert caplog.messages == [
        "held back since the last message of the kind 'lost': 3 more",
        "held back since the last message of the kind 'store': 2 more",
    ]


def test_a_handler_that_raises_reaches_nobody_who_reports(
    diagnostics: Diagnostics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recording goes on, whatever an application's logging does."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError(record.getMessage())

    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger = logging.getLogger("muniment")
    handler = Broken()
    logger.addHandler(handler)
    try:
        diagnostics.report(logging.ERROR, "lost", "events are lost")
        diagnostics.info("the spool is drained")
        diagnostics.tell_rest()
    finally:
        logger.removeHandler(handler)
