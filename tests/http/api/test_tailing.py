from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from muniment import Event
from muniment.http.access import Scope
from muniment.http.api import tailing
from tests.http.api.calling import Api, Stream, running
from tests.scripted import until

_NOBODY = "01956366-8510-7000-8b24-ea88ced69780"


async def _ids(stream: Stream, count: int) -> list[str]:
    """The event ids of the next messages, comments left out."""
    found: list[str] = []
    while len(found) < count:
        message = await stream.message()
        if message.startswith("id: "):
            found.append(message.partition("\n")[0].removeprefix("id: "))
    return found


async def test_events_come_as_they_are_recorded(api: Api) -> None:
    """From the first piece on nothing is missed; a message holds the stored body."""
    async with api.stream("/v1/tail?action=login") as stream:
        assert await stream.message() == "retry: 2000"
        receipt = await api.log.record("login", tenant_id="acme", details={"x": "a\nb"})
        body = await api.log.body(receipt.event_id)
        assert await stream.message() == f"id: {receipt.event_id}\nevent: event\ndata: {body}"
        assert stream.headers["content-type"].startswith("text/event-stream")


async def test_a_tail_resumes_behind_the_last_event(api: Api) -> None:
    """Who comes back with Last-Event-ID gets all that came after it, once each and in order."""
    receipts = await api.log.record_many([Event(action="login") for _ in range(5)])
    expected = [receipt.event_id for receipt in receipts[2:]]
    async with api.stream("/v1/tail", **{"Last-Event-ID": receipts[1].event_id}) as stream:
        assert await _ids(stream, 3) == expected
    async with api.stream(f"/v1/tail?after={receipts[1].event_id}") as stream:
        assert await _ids(stream, 3) == expected


async def test_a_tail_is_filtered(api: Api) -> None:
    """The filters are those of a search."""
    start = (await api.log.record("login")).event_id
    await api.log.record("logout")
    wanted = (await api.log.record("role_assign")).event_id
    async with api.stream(f"/v1/tail?q=action:role_*&after={start}") as stream:
        assert await _ids(stream, 1) == [wanted]


@pytest.mark.parametrize("header", [_NOBODY, "x", "a" * 200])
async def test_an_unknown_place_to_resume_is_told(api: Api, header: str) -> None:
    """A 404 says at once that there is no such event, in place of a stream with a gap."""
    found = await api.get("/v1/tail", headers={"Last-Event-ID": header})
    assert (found.status_code, found.headers["content-type"]) == (404, "application/problem+json")


async def test_another_tenants_event_is_no_place_to_resume(api: Api) -> None:
    """Not even its existence shows."""
    receipt = await api.log.record("login", tenant_id="acme")
    other = await api.token(Scope.READ, tenant_id="globex")
    found = await api.get("/v1/tail", headers={**other, "Last-Event-ID": receipt.event_id})
    assert found.status_code == 404


async def test_a_bound_token_follows_its_tenant_only(api: Api) -> None:
    """Events of other tenants pass it by."""
    bound = await api.token(Scope.READ, tenant_id="globex")
    async with api.stream("/v1/tail?action=login", **bound) as stream:
        await stream.message()
        await api.log.record("login", tenant_id="acme")
        own = await api.log.record("login", tenant_id="globex")
        assert await _ids(stream, 1) == [own.event_id]


async def test_an_idle_tail_is_kept_alive(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments go through when nothing happens, so that nobody takes it for dead."""
    monkeypatch.setattr(tailing, "_HEARTBEAT", 0.01)
    async with api.stream("/v1/tail?action=nothing") as stream:
        await stream.message()
        assert await stream.message() == ":"


async def test_only_so_many_tails_are_open(sqlite_url: str) -> None:
    """Beyond `max_tails` it is 503 with Retry-After; a tail that ends makes room."""
    async with running(sqlite_url, max_tails=1) as api:
        async with api.stream("/v1/tail"):
            full = await api.get("/v1/tail")
            assert (full.status_code, "Retry-After" in full.headers) == (503, True)
        async with api.stream("/v1/tail") as stream:
            assert stream.status == 200


async def test_a_refused_tail_takes_no_place(sqlite_url: str) -> None:
    """What ends before it began is not counted as open."""
    async with running(sqlite_url, max_tails=1) as api:
        await api.get(f"/v1/tail?after={_NOBODY}")
        assert not api.service.rooms.tails


async def test_a_tail_ends_when_its_token_is_revoked(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The credential is looked at again while the tail is open."""
    monkeypatch.setattr(tailing, "_LOOK_AGAIN", 0.01)
    headers = await api.token(Scope.READ)
    async with api.stream("/v1/tail?action=login", **headers) as stream:
        await stream.message()
        (known,) = [c for c in await api.log.store.credentials.listed() if c.scopes == ("read",)]
        await api.log.store.credentials.revoke(known.id, datetime.now(UTC))
        api.service.identifier.lookup.forget("token", headers["Authorization"].split()[1])
        assert await stream.piece() == b""


async def test_a_tail_ends_when_the_service_does(api: Api) -> None:
    """Shutting down waits for no client: the stream ends as a whole one."""
    async with api.stream("/v1/tail?action=nothing") as stream:
        await stream.message()
        api.service.closing.set()
        assert await stream.piece() == b""


async def test_a_slow_client_holds_up_nobody_else(api: Api) -> None:
    """One that takes nothing off the wire waits alone; what it has not taken is not fetched."""
    async with api.stream("/v1/tail?action=login") as slow, api.stream("/v1/tail") as quick:
        await api.log.record_many([Event(action="login") for _ in range(20)])
        assert len(await _ids(quick, 20)) == 20
        assert not slow.task.done()


async def test_a_client_that_leaves_is_forgotten(api: Api) -> None:
    """Its place is free at once, and nothing reads for it any longer."""
    async with api.stream("/v1/tail"):
        assert len(api.service.rooms.tails) == 1
    assert not api.service.rooms.tails
    await until(lambda: not [task for task in asyncio.all_tasks() if "_following" in repr(task)])
