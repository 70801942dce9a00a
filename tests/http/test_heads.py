"""HEAD is answered on every route that has GET: with the head of that answer, and no body."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest
import pytest_asyncio

from muniment import AuditLog, Event
from muniment.http.access import Scope
from tests.http.api.calling import Api, running
from tests.http.api.exported import once_ended
from tests.http.auth.routes import routes_of
from tests.scripted import LONG
from tests.servers.muniment import Served

_ENDLESS: Final = {"/v1/tail", "/live/stream"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """The application over a SQLite log, shared by these tests: none minds what others record."""
    async with running(f"sqlite:///{tmp_path_factory.mktemp('heads') / 'audit.db'}") as found:
        yield found


async def _paths(api: Api) -> list[str]:
    """Every path with GET, with the ids of an event and of an export that is done."""
    receipt = await api.log.record("login", tenant_id="acme")
    begun = await api.call("POST", "/v1/exports", json={"format": "csv", "filters": {}})
    export_id = begun.json()["export_id"]
    await once_ended(api, f"/v1/exports/{export_id}")
    public = ["/schema", "/healthz", "/readyz", "/metrics", "/sign-in", "/enter?code=x", "/nowhere"]
    guarded = {route.path for route in routes_of(api.app) if route.method == "GET"}
    ids = {
        "{event_id:str}": receipt.event_id,
        "{name:str}": receipt.event_id,
        "{export_id:str}": export_id,
    }
    for name, found in ids.items():
        guarded = {path.replace(name, found) for path in guarded}
    return [*public, *sorted(guarded - _ENDLESS)]


def _shape(answer: httpx.Response) -> dict[str, str]:
    """The headers. What is read grows by being read, so the length is just there, or not."""
    return {k: "some" if k == "content-length" else v for k, v in answer.headers.items()}


async def test_it_has_the_status_and_headers_of_get(api: Api) -> None:
    """And no byte of the body, also where that is a problem, a page, a file or a stream."""
    differ = {}
    for path in await _paths(api):
        for accept in ("*/*", "text/html", "text/csv"):
            headers = {"Accept": accept}
            found = await api.get(path, headers=headers)
            head = await api.call("HEAD", path, headers=headers)
            assert head.content == b""
            if (head.status_code, _shape(head)) != (found.status_code, _shape(found)):
                differ[f"{path} {accept}"] = (head.status_code, _shape(head), _shape(found))
    assert differ == {}


async def test_a_live_tail_ends_at_once(api: Api) -> None:
    """It says what a GET would be answered, and holds nothing open."""
    for path in sorted(_ENDLESS):
        async with asyncio.timeout(LONG):
            head = await api.call("HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Type"].startswith("text/event-stream")
    assert len(api.service.rooms.tails) == 0


async def test_a_stream_is_not_read_to_its_end(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all the events that a GET would bring, the first page at most is fetched."""
    await api.log.record_many([Event(action="many", tenant_id="many") for _ in range(1_000)])
    pages = 0
    search = api.log.search

    async def counted(**given: object) -> object:
        nonlocal pages
        pages += 1
        return await search(**given)  # type: ignore[arg-type]

    monkeypatch.setattr(api.log, "search", counted)
    headers = {"Accept": "application/x-ndjson"}
    head = await api.call("HEAD", "/v1/events?tenant_id=many", headers=headers)
    assert (head.status_code, head.headers["Content-Type"]) == (200, "application/x-ndjson")
    assert pages <= 2


@pytest.mark.parametrize(
    ("accept", "action"),
    [("application/json", "audit.view"), ("application/x-ndjson", "audit.export")],
)
async def test_it_is_recorded_as_the_reading_that_it_asks_about(
    api: Api, accept: str, action: str
) -> None:
    """Whether something is there is worth knowing too."""
    path = f"/v1/events?tenant_id=recorded&action={action}"
    await api.call("HEAD", path, headers={"Accept": accept})
    found = await _events(api.log, action)
    assert [event.action for event in found] == [action]


async def _events(log: AuditLog, action: str) -> list[Event]:
    return list((await log.search(tenant_id="recorded", action=action)).events)


async def test_it_takes_the_credential_and_scope_of_get(api: Api) -> None:
    """It is no way around either."""
    writer = await api.token(Scope.WRITE)
    for headers, status in (({"Authorization": ""}, 401), (writer, 403)):
        head = await api.call("HEAD", "/v1/events", headers=headers)
        assert (head.status_code, head.content) == (status, b"")


async def test_where_there_is_no_get_there_is_no_head(api: Api) -> None:
    """405, with the methods that there are."""
    head = await api.call("HEAD", "/v1/events/batch")
    assert (head.status_code, head.content) == (405, b"")
    assert head.headers["Allow"] == "OPTIONS, POST"


async def test_it_has_the_limits_of_get(api: Api) -> None:
    """Such as that of the headers."""
    head = await api.call("HEAD", "/v1/events", headers={"X-Long": "x" * 40_000})
    assert (head.status_code, head.content) == (431, b"")


async def test_over_a_connection_that_goes_on(served: Served) -> None:
    """Several in a row, streams and tails among them: no byte of a body comes between."""
    paths = ("/v1/events", "/v1/tail", "/healthz", "/", "/nowhere", "/v1/events")
    with socket.create_connection(("127.0.0.1", served.port), timeout=LONG) as connection:
        reader = connection.makefile("rb")
        for path in paths:
            lines = [f"HEAD {path} HTTP/1.1", "Host: here", f"Authorization: Bearer {served.token}"]
            lines += ["Accept: application/x-ndjson", "", ""]
            await asyncio.to_thread(connection.sendall, "\r\n".join(lines).encode())
            status = await asyncio.to_thread(reader.readline)
            assert status.startswith(b"HTTP/1.1 "), (path, status)
            while (await asyncio.to_thread(reader.readline)).strip():
                pass
