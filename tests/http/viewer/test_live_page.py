"""The page of the live tail, its stream and its twin."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from muniment.event import Actor, Event
from muniment.http.access import Scope
from tests.http.api.calling import Api, running
from tests.scripted import until

PAGE = {"Accept": "text/html"}


@pytest.fixture
async def viewer(sqlite_url: str) -> AsyncIterator[Api]:
    """The service over an empty log, which records no reading."""
    async with running(sqlite_url, record_reading=False) as api:
        yield api


def _event(action: str = "login", tenant_id: str = "acme", name: str = "Ann") -> Event:
    return Event(action=action, tenant_id=tenant_id, actor=Actor.user("u1", name=name))


def _data(message: str) -> tuple[str, str]:
    """The id of a message, and the row that it brings."""
    fields = dict(line.split(": ", 1) for line in message.splitlines())
    assert fields["event"] == "event"
    return fields["id"], json.loads(fields["data"])["row"]


async def test_the_page_begins_with_the_newest_events(viewer: Api) -> None:
    """What was recorded before is there at once, newest on top."""
    first, second = _event("login"), _event("logout")
    await viewer.log.record_many([first, second])
    page = (await viewer.get("/live", headers=PAGE)).text
    assert page.index(second.event_id) < page.index(first.event_id)


async def test_an_empty_trail_says_what_will_come(viewer: Api) -> None:
    """Nothing there is no blank page."""
    page = (await viewer.get("/live", headers=PAGE)).text
    assert "Nothing yet. Events appear here" in page


async def test_the_stream_brings_rows(viewer: Api) -> None:
    """Each event comes as the row that the page shows of it, under its id."""
    async with viewer.stream("/live/stream") as stream:
        assert await stream.message() == "retry: 2000"
        event = _event()
        await viewer.log.record(event)
        event_id, row = _data(await stream.message())
    assert event_id == event.event_id
    assert row.strip().startswith("<li")
    assert f'data-event="{event.event_id}"' in row
    page = (await viewer.get("/live", headers=PAGE)).text
    assert "".join(row.split()) in "".join(page.split())


async def test_rows_are_in_the_pages_language(viewer: Api) -> None:
    """The stream of a Chinese page speaks Chinese, and its links keep to it."""
    async with viewer.stream("/live/stream?lang=zh") as stream:
        await stream.message()
        await viewer.log.record(_event())
        _, row = _data(await stream.message())
    assert "登录" in row
    assert "lang=zh" in row


async def test_hostile_rows_stay_text(viewer: Api) -> None:
    """A script puts rows into the page as markup, so nothing of an event may be any."""
    async with viewer.stream("/live/stream") as stream:
        await stream.message()
        await viewer.log.record(_event("<img src=x>", name="<script>\u202e</script>"))
        _, row = _data(await stream.message())
    assert "<script>" not in row
    assert "<img" not in row
    assert "\u202e" not in row


async def test_the_stream_takes_the_pages_filter(viewer: Api) -> None:
    """Only what the query asks for comes."""
    async with viewer.stream("/live/stream?q=action%3Alogout") as stream:
        await stream.message()
        wanted = _event("logout")
        await viewer.log.record_many([_event("login"), wanted])
        event_id, _ = _data(await stream.message())
    assert event_id == wanted.event_id


@pytest.mark.parametrize("by", ["header", "parameter"])
async def test_the_stream_goes_on_behind_the_last_event(viewer: Api, by: str) -> None:
    """Who lost the connection misses nothing, whether the browser or the page comes back."""
    first, second = _event(), _event("logout")
    await viewer.log.record_many([first])
    await viewer.log.record_many([second])
    query = f"?after={first.event_id}" if by == "parameter" else ""
    headers = {"Last-Event-ID": first.event_id} if by == "header" else {}
    async with viewer.stream(f"/live/stream{query}", **headers) as stream:
        await stream.message()
        event_id, _ = _data(await stream.message())
    assert event_id == second.event_id


async def test_a_tenants_reader_sees_its_own(viewer: Api) -> None:
    """The events of another tenant are on no page and in no stream."""
    headers = await viewer.token(Scope.READ, tenant_id="acme")
    await viewer.log.record_many([_event(tenant_id="other", name="Mallory"), _event()])
    page = (await viewer.get("/live", headers={**headers, **PAGE})).text
    async with viewer.stream("/live/stream", **headers) as stream:
        await stream.message()
        own = _event()
        await viewer.log.record_many([_event(tenant_id="other"), own])
        event_id, _ = _data(await stream.message())
    assert "Mallory" not in page
    assert event_id == own.event_id


@pytest.mark.parametrize("path", ["/live", "/live.json", "/live/stream"])
async def test_another_tenant_is_refused(viewer: Api, path: str) -> None:
    """Asked for by parameter or in the query, it is not the caller's."""
    headers = await viewer.token(Scope.READ, tenant_id="acme")
    for query in ("tenant_id=other", "q=tenant%3Aother"):
        answer = await viewer.get(f"{path}?{query}", headers=headers)
        assert answer.status_code == 403


async def test_tails_are_bounded(sqlite_url: str) -> None:
    """A stream of the page takes the place of a tail, and gives it back."""
    async with running(sqlite_url, record_reading=False, max_tails=1) as viewer:
        async with viewer.stream("/live/stream"):
            refused = await viewer.get("/live/stream")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        await until(lambda: not viewer.service.rooms.tails)


async def test_the_twin_holds_bodies_and_sentences(viewer: Api) -> None:
    """What the page begins with, as JSON, and where the rest comes from."""
    event = _event()
    await viewer.log.record(event)
    twin = (await viewer.get("/live.json", params={"q": "action:login"})).json()
    (found,) = twin["events"]
    assert found["event"]["event_id"] == event.event_id
    assert found["sentence"] == "Ann logged in"
    assert twin["stream_url"] == "/live/stream?q=action%3Alogin"


async def test_looking_on_is_recorded(sqlite_url: str) -> None:
    """Page and stream together are one view of the reader's."""
    async with running(sqlite_url) as viewer:
        await viewer.get("/live?q=action%3Alogin", headers=PAGE)
        async with viewer.stream("/live/stream?q=action%3Alogin") as stream:
            await stream.message()
        views = (await viewer.log.search(action="audit.view")).events
    assert [view.details["filters"] for view in views] == [{"action": ["login"]}]
