from __future__ import annotations

import logging
import threading

import pytest

from muniment import AuditLog
from muniment.testing import FaultyStore


async def test_a_flood_of_trouble_is_no_flood_of_messages(
    log: AuditLog, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Drops from many threads are one message; when the log closes, a second says how many more."""
    store.hang()
    for _ in range(10):
        log.emit("tick", tenant_id="acme")

    def emit() -> None:
        for _ in range(250):
            log.emit("tick", tenant_id="acme")

    # One after the other: together they might both be the first.
    for _ in range(4):
        thread = threading.Thread(target=emit)
        thread.start()
        thread.join()
    store.heal()
    with caplog.at_level(logging.WARNING, logger="muniment"):
        await log.close()
    assert [message for message in caplog.messages if "lost" in message] == [
        "events are lost: the queue was full",
        "held back since the last message of the kind 'lost': 999 more",
    ]
    assert log.health().state == "failing"


async def test_an_outage_is_one_message_however_much_is_recorded(
    log: AuditLog, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Each kind of trouble in an outage is told once, not for each event."""
    store.fail()
    for n in range(50):
        await log.record(f"tick.{n}", tenant_id="acme")
    assert [message for message in caplog.messages if "go to the spool" in message] == [
        "the store fails, events go to the spool: the store was told to fail"
    ]
    assert len([message for message in caplog.messages if "draining waits" in message]) <= 1
