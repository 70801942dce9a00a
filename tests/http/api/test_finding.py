from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import count

import msgspec
import pytest
from litestar.exceptions import LitestarException

from muniment import Actor, Event, Outcome, searching
from muniment.errors import StoreUnavailable
from muniment.http import streaming
from muniment.http.access import Scope
from muniment.http.api import finding
from tests.http.api.calling import Api
from tests.scripted import until

_START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _events(count: int, *, tenant_id: str = "acme", action: str = "login") -> Iterable[Event]:
    return (
        Event(
            action=action,
            tenant_id=tenant_id,
            occurred_at=_START + timedelta(seconds=n),
            actor=Actor.user(f"u{n % 3}"),
            outcome=Outcome.SUCCESS if n % 2 else Outcome.DENIED,
            details={"n": n},
        )
        for n in range(count)
    )


async def test_a_page_holds_the_stored_bodies(api: Api) -> None:
    """What a page shows of an event is byte for byte what was hashed."""
    event = Event(
        action="login", tenant_id="acme", details={"b": 1e17, "a": "é", "\U0001f600": -0.0}
    )
    await api.log.record_many([event])
    page = await api.get("/v1/events?tenant_id=acme")
    assert (await api.log.body(event.event_id)).encode() in page.content


async def test_pages_lead_to_each_other(api: Api) -> None:
    """Following `next_cursor` gives every event once, in order, and ends with null."""
    await api.log.record_many(_events(7))
    found, cursor = [], None
    while True:
        query = (
            f"/v1/events?action=login&order=oldest&limit=3{f'&cursor={cursor}' if cursor else ''}"
        )
        page = (await api.get(query)).json()
        found += [event.get("details", {})["n"] for event in page["events"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == list(range(7))


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("action=log*&action=nothing", 6),
        ("action=login", 6),
        ("outcome=denied", 3),
        ("outcome=denied&outcome=success", 6),
        ("actor_id=u1", 2),
        ("q=outcome:denied%20actor:user:u0", 1),
        ("q=outcome:denied&actor_id=u0", 1),
        ("since=2026-03-01T12:00:04Z", 2),
        ("until=2026-03-01T12:00:01%2B00:00", 1),
        ("activity=people", 6),
        ("activity=reading&activity=people", 6),
        ("text=U2", 2),
    ],
)
async def test_every_filter_narrows_the_search(api: Api, query: str, count: int) -> None:
    """Parameters and the filter language mean what they mean in `search`."""
    await api.log.record_many(_events(6))
    found = await api.get(f"/v1/events?tenant_id=acme&{query}")
    assert len(found.json()["events"]) == count


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("actoin=login", "actoin"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("actor_id=a&actor_id=b", "actor_id"),
        ("actor_id=", "actor_id"),
        ("outcome=good", "outcome[0]"),
        ("category=x", "category"),
        ("since=yesterday", "since"),
        ("cursor=abc", "cursor"),
        ("q=colour:red", "colour"),
        ("q=actor:a&actor_id=b", "actor_id"),
        ("order=random", "order"),
        ("text=%ff", "query"),
    ],
)
async def test_a_query_that_is_wrong_is_refused_by_name(api: Api, query: str, field: str) -> None:
    """A misspelt or impossible parameter is a 400 that names it; it never widens the search."""
    found = await api.get(f"/v1/events?{query}")
    assert (found.status_code, found.json()["field"]) == (400, field)


@pytest.fixture
def slow_search(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every search has time for ten events."""
    seconds = count(0, 600)
    monkeypatch.setattr(searching, "_LOOKED_AT_FIRST", 10)
    monkeypatch.setattr(api.log._searcher, "_monotonic", lambda: next(seconds))


@pytest.mark.usefixtures("slow_search")
async def test_a_search_that_takes_long_says_how_far_it_came(api: Api) -> None:
    """A page may be empty and not the last: `searched_to` is a time, and the cursor leads on."""
    await api.log.record_many(_events(25))
    found: list[int] = []
    ends: list[str | None] = []
    cursor = None
    while not ends or cursor:
        query = f"tenant_id=acme&text=2026-03-01T12:00:01{f'&cursor={cursor}' if cursor else ''}"
        page = (await api.get(f"/v1/events?{query}&until=2026-03-02")).json()
        found.append(len(page["events"]))
        ends.append(page["searched_to"])
        cursor = page["next_cursor"]
    assert (found, ends) == ([0, 0, 1], ["2026-03-01T12:00:15Z", "2026-03-01T12:00:05Z", None])


@pytest.mark.usefixtures("slow_search")
async def test_a_stream_goes_through_everything(api: Api) -> None:
    """However long a search takes, a stream ends where there is nothing left to look through."""
    await api.log.record_many(_events(25))
    found = await api.get(
        "/v1/events?tenant_id=acme&text=2026-03-01T12:00:01",
        headers={"Accept": "application/x-ndjson"},
    )
    assert [json.loads(line)["details"] for line in found.text.splitlines()] == [{"n": 1}]


async def test_a_stream_holds_everything_found(api: Api) -> None:
    """As NDJSON every event that matches comes, in lines of its stored body, page after page."""
    await api.log.record_many(_events(1_201))
    found = await api.get(
        "/v1/events?tenant_id=acme&action=login&order=oldest",
        headers={"Accept": "application/x-ndjson"},
    )
    lines = found.text.splitlines()
    assert [json.loads(line).get("details")["n"] for line in lines] == list(range(1_201))


async def test_a_stream_ends_at_its_limit(api: Api) -> None:
    """`limit` is at most so many events in all, and a cursor goes on where a page ended."""
    await api.log.record_many(_events(9))
    page = (await api.get("/v1/events?action=login&order=oldest&limit=2")).json()
    found = await api.get(
        f"/v1/events?action=login&order=oldest&limit=5&cursor={page['next_cursor']}",
        headers={"Accept": "application/x-ndjson"},
    )
    assert [json.loads(line)["details"]["n"] for line in found.text.splitlines()] == [2, 3, 4, 5, 6]


async def test_a_csv_stream_is_safe_for_spreadsheets(api: Api) -> None:
    """CSV has a header, a row an event, and no cell that a spreadsheet takes for a formula."""
    await api.log.record("login", tenant_id="acme", actor=Actor.user("=cmd|'/C calc'!A0"))
    found = await api.get("/v1/events?action=login", headers={"Accept": "text/csv"})
    (row,) = csv.DictReader(io.StringIO(found.text))
    assert row["actor_id"] == "'=cmd|'/C calc'!A0"


async def test_a_stream_needs_the_scope_export(api: Api) -> None:
    """Who may look at pages may not carry everything away."""
    reader = await api.token(Scope.READ)
    found = await api.get("/v1/events", headers={**reader, "Accept": "text/csv"})
    assert found.status_code == 403


async def test_an_error_in_a_stream_is_noticed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the store fails in the middle, the body does not end as a whole one does."""
    await api.log.record_many(_events(1_700))
    async with api.stream("/v1/events?action=login", accept="application/x-ndjson") as stream:
        await stream.piece()

        async def fail(**_: object) -> None:
            raise StoreUnavailable

        monkeypatch.setattr(api.log, "search", fail)
        with pytest.raises(LitestarException):
            await stream.rest()


async def test_a_stream_stops_when_its_client_leaves(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read for a client that went away, and no more than a page ahead of one."""
    await api.log.record_many(_events(3_000))
    search, reads = api.log.search, []

    async def counted(**given: object) -> object:
        reads.append(given)
        return await search(**given)  # type: ignore[arg-type]

    monkeypatch.setattr(api.log, "search", counted)
    async with api.stream("/v1/events?action=login", accept="application/x-ndjson") as stream:
        await stream.piece()
    assert len(reads) <= 3


async def test_what_is_read_is_recorded(api: Api) -> None:
    """A page is an `audit.view`, a stream an `audit.export` that was durable before it began."""
    await api.log.record_many(_events(1))
    await api.get("/v1/events?tenant_id=acme")
    await api.get("/v1/events?tenant_id=acme", headers={"Accept": "application/x-ndjson"})
    read = await api.log.search(tenant_id="acme", action="audit.*", order="oldest")
    assert [event.action for event in read.events] == ["audit.view", "audit.export"]


async def test_an_event_is_its_stored_body(api: Api) -> None:
    """One event is answered byte for byte as it was hashed."""
    receipt = await api.log.record("login", tenant_id="acme", details={"x": 2.0})
    found = await api.get(f"/v1/events/{receipt.event_id}")
    assert found.text == await api.log.body(receipt.event_id)


async def test_another_tenants_event_is_not_there(api: Api) -> None:
    """A token of one tenant gets for another's event what it gets for none at all."""
    receipt = await api.log.record("login", tenant_id="acme")
    other = await api.token(Scope.READ, tenant_id="globex")
    found = await api.get(f"/v1/events/{receipt.event_id}", headers=other)
    none = await api.get("/v1/events/01956366-8510-7000-8b24-ea88ced69780", headers=other)
    assert found.status_code == none.status_code == 404
    assert found.json()["type"] == none.json()["type"]


async def test_a_bound_token_sees_its_tenant_only(api: Api) -> None:
    """Without `tenant_id` it searches its own tenant; asking for another's is a 403."""
    await api.log.record_many([*_events(2), *_events(3, tenant_id="globex")])
    bound = await api.token(Scope.READ, tenant_id="globex")
    own = await api.get("/v1/events?action=login", headers=bound)
    other = await api.get("/v1/events?q=tenant:acme", headers=bound)
    assert ({e["tenant_id"] for e in own.json()["events"]}, other.status_code) == ({"globex"}, 403)


async def test_a_media_type_that_is_not_there_is_refused(api: Api) -> None:
    """What the client does not accept is not sent: a 406 says what there is."""
    found = await api.get("/v1/events", headers={"Accept": "application/xml"})
    assert (found.status_code, "text/csv" in found.json()["detail"]) == (406, True)


async def test_large_events_make_a_page_shorter(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page ends before the memory is full, and its cursor leads on: nothing is left out."""
    monkeypatch.setattr(finding, "_PAGE_BYTES", 30_000)
    events = list(_events(60))
    await api.log.record_many(
        [msgspec.structs.replace(event, details={"x": "y" * 1000}) for event in events]
    )
    counts: list[int] = []
    ids: list[str] = []
    cursor = None
    while not counts or cursor:
        query = f"/v1/events?action=login&limit=60{f'&cursor={cursor}' if cursor else ''}"
        page = (await api.get(query)).json()
        counts.append(len(page["events"]))
        ids += [event["event_id"] for event in page["events"]]
        cursor = page["next_cursor"]
    assert (counts, ids) == ([50, 10], [event.event_id for event in reversed(events)])


async def test_a_large_page_is_taken_in_pieces(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same page; whoever does not take it is cut off, as from a stream."""
    await api.log.record_many(_events(60))
    query = "/v1/events?action=login&tenant_id=acme&limit=60"
    whole = await api.get(query)
    monkeypatch.setattr(finding, "_PAGE_PIECE_BYTES", 1_000)
    async with api.stream(query) as stream:
        assert await stream.piece() == whole.content[:1_000]
    cut = await api.get(query)
    assert (cut.content, cut.headers["content-length"]) == (whole.content, str(len(whole.content)))


async def test_a_stream_ends_when_its_token_is_revoked(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not read any longer gets no further page; the break says that it is no whole."""
    monkeypatch.setattr(finding, "_PIECE_BYTES", 100)
    await api.log.record_many(_events(120))
    headers = await api.token(Scope.READ, Scope.EXPORT)
    query = "/v1/events?action=login"
    async with api.stream(query, **headers, Accept="application/x-ndjson") as stream:
        secret = headers["Authorization"].removeprefix("Bearer ")
        caller = await api.service.identifier.lookup.caller("token", secret)
        assert caller is not None
        await api.log.store.credentials.revoke(caller.id, datetime.now(UTC))
        api.service.identifier.lookup.forget("token", secret)
        with pytest.raises(LitestarException):
            await stream.rest()


async def test_a_client_that_takes_nothing_loses_its_place(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks and does not read would else keep the room of others for ever."""
    monkeypatch.setattr(streaming, "_PATIENCE", 0.05)
    await api.log.record_many(_events(300))
    monkeypatch.setattr(finding, "_PIECE_BYTES", 100)
    async with api.stream("/v1/events?action=login", Accept="text/csv") as stream:
        await until(stream.task.done)
