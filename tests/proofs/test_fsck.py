from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from muniment import AuditLog, Event
from muniment.fsck import Finding, FindingKind, Summary, fsck
from muniment.merkle import leaf_hash
from tests.proofs.live import extend
from tests.proofs.rewriting import rewrite
from tests.proofs.tampering import KEY, Tampered, forged, opened
from tests.servers.postgres import Postgres
from tests.stores.secured import Secured, secured


async def _fsck(url: str, **options: Any) -> tuple[Summary, list[Finding]]:
    found: list[Finding] = []
    async with opened(url) as store:
        return await fsck(store, tell=found.append, **options), found


async def test_a_log_that_went_on_is_clean(copy: Tampered) -> None:
    """Events that were recorded behind the others have leaves too."""
    async with AuditLog.open(copy.url, signing_keys=[KEY], sequence_interval=0.02) as log:
        await log.await_published(await log.record("login", tenant_id="acme"))
    summary, found = await copy.fsck()
    assert found == []
    assert (summary.events, summary.leaves) == (61, 61)


async def test_an_erased_event_is_erased_not_tampered_with(copy: Tampered) -> None:
    """Its leaf is as it was, so it is counted and no more."""
    copy.erase(copy.honest.events["acme"][5])
    summary, found = await copy.fsck()
    assert found == []
    assert summary.erased == 1


async def test_events_without_a_leaf_yet_are_pending(log_url: str) -> None:
    """Nobody has sequenced them, so nobody can miss their leaves."""
    await extend(log_url, 3)
    async with AuditLog.open(log_url, sequence=False) as log:
        await log.record("login", tenant_id="acme")
    summary, found = await _fsck(log_url)
    assert found == []
    assert (summary.events, summary.pending) == (3, 1)


async def test_an_empty_log_is_clean(log_url: str) -> None:
    """Nothing is looked at, and nothing is wrong."""
    async with AuditLog.open(log_url, sequence=False):
        pass
    assert await _fsck(log_url) == (Summary(), [])


async def test_an_event_that_waits_for_its_leaf_is_compared_too(sqlite_url: str) -> None:
    """With its own column: there is no leaf to compare it with."""
    await extend(sqlite_url, 3)
    async with AuditLog.open(sqlite_url, sequence=False) as log:
        receipt = await log.record("login", tenant_id="acme")
    rewrite(sqlite_url, "UPDATE muniment_events SET body = body || ' ' WHERE seq = 4")
    _, (found,) = await _fsck(sqlite_url)
    assert (found.kind, found.event_id) == (FindingKind.BODY, receipt.event_id)


async def test_a_log_that_is_recorded_in_meanwhile_is_clean(log_url: str) -> None:
    """What comes while fsck looks is looked at the next time."""
    async with AuditLog.open(log_url, signing_keys=[KEY], sequence_interval=0.01) as log:

        async def record() -> None:
            for n in range(40):
                await log.record_many(
                    [Event(action="login", tenant_id=f"t{(n + i) % 5}") for i in range(20)]
                )

        recording = asyncio.create_task(record())
        rounds = 0
        while not recording.done() or rounds < 3:
            _, found = await _fsck(log_url, keys=[KEY.verifier])
            assert found == []
            rounds += 1
        await recording


def test_a_reader_of_all_tenants_is_enough(postgres_server: Postgres) -> None:
    """Nothing is written; one tenant's reader looks at that tenant."""

    async def look(place: Secured) -> None:
        async with AuditLog.open(place.url(), signing_keys=[KEY], sequence_interval=0.02) as log:
            await log.await_published(await log.record("login", tenant_id="acme"))
            await log.await_published(await log.record("login", tenant_id="globex"))
        keys = [KEY.verifier]
        summary, found = await _fsck(place.url(place.all_reader), keys=keys)
        assert (summary.tenants, summary.events, found) == (2, 10, [])
        summary, found = await _fsck(place.url(place.acme_reader), tenant_id="acme", keys=keys)
        assert (summary.tenants, summary.events, found) == (1, 5, [])

    with secured(postgres_server) as place:
        asyncio.run(look(place))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (lambda body: body.replace(b'":', b'": ', 1), "is not canonical"),
        (lambda _: b"nothing of the kind", "is no event"),
    ],
)
async def test_a_body_that_no_muniment_recorded_is_found(
    log_url: str, body: Callable[[bytes], bytes], problem: str
) -> None:
    """Its leaf is its own, so it was recorded so: by a writer with SQL of its own."""
    sealed = forged("acme")
    other = body(sealed.body)
    async with opened(log_url) as store:
        await store.append([structs.replace(sealed, body=other, leaf_hash=leaf_hash(other))])
    await extend(log_url, 1)
    _, (found,) = await _fsck(log_url)
    assert (found.kind, found.event_id) == (FindingKind.FORM, sealed.event_id)
    assert problem in found.message
