"""Stores that take connections and don't answer, answer late, or fail now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.engine import make_url

from muniment.stores import open_store
from tests.faults.commanding import commanded, judged
from tests.faults.proxy import Proxy
from tests.faults.tally import Rounds, Tally
from tests.servers.postgres import Postgres

pytestmark = pytest.mark.timeout(600)

_DEADLINE = 0.5
_SOON = 5.0
"""Seconds that a caller may wait at most, with the spool's own time and a busy machine in it."""
_AT_ONCE = 40

_FAIL_EVERY_THIRD = """
CREATE SEQUENCE public.statements;
CREATE FUNCTION public.fail_every_third() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    n bigint := nextval('public.statements');
    states text[] := ARRAY['53200', '57014', '40001'];
BEGIN
    IF n % 3 = 0 THEN
        RAISE EXCEPTION 'statement % fails', n USING ERRCODE = states[1 + n / 3 % 3];
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER fail_every_third BEFORE INSERT ON muniment.events
    FOR EACH STATEMENT EXECUTE FUNCTION public.fail_every_third();
"""


@pytest.fixture
async def proxy(postgres_log_url: str) -> AsyncIterator[Proxy]:
    """A proxy before a PostgreSQL database that is ready to be recorded in."""
    async with Proxy(postgres_log_url) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def _own_spool(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes spool into the test's own directory."""
    monkeypatch.setenv("MUNIMENT_SPOOL_DIR", f"{tmp_path}/spool")


async def test_a_store_that_never_answers_holds_nobody_up(
    proxy: Proxy, postgres_log_url: str, tally: Tally
) -> None:
    """Callers get their answer from the spool, soon; it is drained once the store answers.

    What the store was sent before and carries out only then is stored once, too.
    """
    async with commanded(proxy.url, deadline=_DEADLINE) as process:
        await process.record(_AT_ONCE)
        proxy.never_answer()
        places, longest = await process.record(_AT_ONCE)
        proxy.pass_on()
        await process.drained()
        await process.record(_AT_ONCE)
        await process.end()

    verdict, oracle = await judged(postgres_log_url, process)
    tally.add("store never answers", "postgresql", verdict)
    assert set(places) == {"spool"}
    assert longest < _SOON
    assert (process.lost, oracle.losses) == ([], [])


async def test_a_store_that_never_answers_keeps_no_log_from_opening(
    proxy: Proxy, postgres_log_url: str, tally: Tally
) -> None:
    """A process that starts then records into the spool, which drains once the store answers."""
    proxy.never_answer()
    options = {"connect_timeout": _DEADLINE}
    async with commanded(proxy.url, deadline=_DEADLINE, store_options=options) as process:
        places, longest = await process.record(_AT_ONCE)
        proxy.pass_on()
        await process.drained()
        await process.end()

    verdict, _ = await judged(postgres_log_url, process)
    tally.add("store never answers from the start", "postgresql", verdict)
    assert set(places) == {"spool"}
    assert longest < _SOON


async def test_a_log_closes_over_a_store_that_never_answers(
    proxy: Proxy, postgres_log_url: str, tally: Tally
) -> None:
    """A process can end although its store hangs; the next one drains what it left."""
    options = {"connect_timeout": _DEADLINE}
    async with commanded(proxy.url, deadline=_DEADLINE, store_options=options) as process:
        await process.record(_AT_ONCE)
        proxy.never_answer()
        await process.record(_AT_ONCE)
        await process.end()
    proxy.pass_on()
    async with commanded(proxy.url) as following:
        await following.drained()
        await following.end()

    verdict, _ = await judged(postgres_log_url, process)
    tally.add("log closed while the store hangs", "postgresql", verdict)
    assert process.lost == []


async def test_a_call_that_is_cancelled_in_a_hang_ends_as_cancelled(proxy: Proxy) -> None:
    """Not as one that failed, although the server confirms nothing: who cancels must be heard."""
    store = open_store(proxy.url, connect_timeout=_DEADLINE)
    await store.open()
    await store.stats()
    proxy.never_answer()
    hung = asyncio.create_task(store.stats())
    await asyncio.wait({hung}, timeout=_DEADLINE / 10)
    hung.cancel()
    await asyncio.wait({hung})
    proxy.pass_on()
    await store.close()

    assert hung.cancelled()


async def test_a_store_that_answers_late_holds_nobody_up(
    proxy: Proxy, postgres_log_url: str, rounds: Rounds, tally: Tally
) -> None:
    """Callers get their answer long before it, and what was stored although it was late is once."""
    delay = rounds(2, 30)
    slowest = 0.0
    async with commanded(proxy.url, deadline=_DEADLINE) as process:
        await process.record(_AT_ONCE)
        proxy.delay(delay)
        for _ in range(delay + 2):
            slowest = max(slowest, (await process.record(_AT_ONCE))[1])
            await asyncio.sleep(1)  # until the late answers are in, whatever they are worth
        spooled = [place for place in process.told.values() if place == "spool"]
        proxy.pass_on()
        await process.drained()
        await process.end()

    verdict, oracle = await judged(postgres_log_url, process)
    tally.add(f"store answers after {delay} s", "postgresql", verdict)
    assert spooled
    assert slowest < _SOON
    assert (process.lost, oracle.losses) == ([], [])


async def test_a_postgres_whose_every_third_statement_fails_costs_nothing(
    postgres_server: Postgres, postgres_log_url: str, rounds: Rounds, tally: Tally
) -> None:
    """Out of memory, cancelled or not serializable: events are all stored, once each."""
    done = postgres_server.psql(_FAIL_EVERY_THIRD, make_url(postgres_log_url).database or "")
    assert done.returncode == 0, done.stderr
    async with commanded(postgres_log_url) as process:
        for _ in range(rounds(5, 50)):
            await process.record(_AT_ONCE)
            await process.drained()
        await process.end()

    verdict, oracle = await judged(postgres_log_url, process)
    tally.add("every third statement fails", "postgresql", verdict)
    assert "spool" in process.told.values()
    assert (process.lost, oracle.losses) == ([], [])


async def test_a_sqlite_whose_every_third_append_fails_costs_nothing(
    sqlite_url: str, rounds: Rounds, tally: Tally
) -> None:
    """Whether or not an append that fails has stored its batch, events are stored once each."""
    async with commanded(sqlite_url, every_third_fails=True) as process:
        for _ in range(rounds(5, 50)):
            await process.record(_AT_ONCE)
            await process.drained()
        await process.end()

    verdict, oracle = await judged(sqlite_url, process)
    tally.add("every third statement fails", "sqlite", verdict)
    assert "spool" in process.told.values()
    assert (process.lost, oracle.losses) == ([], [])
