"""Readings of the trail are left out of its pages, said so, and one click away."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import pytest

from muniment.event import Actor
from tests.http.api.calling import Api, running

_PAGE = {"Accept": "text/html"}
_NOTE = re.compile(r'<p class="hint readings">(.*?) <a href="([^"]*)">(.*?)</a>')


@pytest.fixture
async def read(sqlite_url: str) -> AsyncIterator[Api]:
    """The service over a log with two logins, whose page was looked at three times."""
    async with running(sqlite_url) as api:
        for user in ("u1", "u2"):
            await api.log.record("login", tenant_id="acme", actor=Actor.user(user))
        for q in ("a", "b", "c"):
            await api.log.record(
                "audit.view", tenant_id="acme", actor=Actor.user("u1"), details={"q": q}
            )
        yield api


async def _shown(api: Api, path: str) -> tuple[set[str], str]:
    """The actions in the list of a page, and the page."""
    answer = await api.get(path, headers=_PAGE)
    assert answer.status_code == 200, answer.text
    return set(re.findall(r'<code class="of-action"><bdi>([^<]*)<', answer.text)), answer.text


async def test_the_page_shows_everything_else(read: Api) -> None:
    """A reader does not find their own looking at the top."""
    actions, text = await _shown(read, "/")
    assert actions == {"login"}
    assert "2 events" in text


async def test_the_page_says_how_many_are_left_out(read: Api) -> None:
    """And leads to them."""
    _, text = await _shown(read, "/?tenant_id=acme")
    note = _NOTE.search(text)
    assert note
    assert re.fullmatch(r"[345] readings of this trail are left out\.", note[1])
    actions, everything = await _shown(read, html.unescape(note[2]))
    assert actions == {"login", "audit.view"}
    back = _NOTE.search(everything)
    assert back
    assert "shown too" in back[1]
    assert (await _shown(read, html.unescape(back[2])))[0] == {"login"}


@pytest.mark.parametrize(
    "q", ["activity:reading", "category:reading", "action:audit.*", "action:audit.view"]
)
async def test_who_asks_for_readings_gets_them(read: Api, q: str) -> None:
    """By activity, category or action, without anything being left out."""
    actions, text = await _shown(read, f"/?q={q}")
    assert actions == {"audit.view"}
    assert "left out" not in text


async def test_text_does_not_find_the_search_for_it(read: Api) -> None:
    """What was looked for stands in the event of that look."""
    for _ in range(2):
        actions, text = await _shown(read, "/?q=zebra")
        assert actions == set()
    assert "left out" in text


async def test_the_tabs_count_each_activity(read: Api) -> None:
    """The same numbers whichever of them is shown."""
    for q in ("", "activity:people", "activity:reading"):
        answer = await read.get(f"/trail.json?tenant_id=acme&q={q}")
        facet = answer.json()["counts"]["facets"]["activity"]
        counts = {each["value"]: each["events"] for each in facet["values"]}
        assert facet["exact"]
        assert counts["people"] == 2
        assert counts["reading"] >= 3


async def test_the_twin_says_what_it_leaves_out(read: Api) -> None:
    """As the page does."""
    default = (await read.get("/trail.json")).json()
    assert default["leaves_readings_out"]
    assert {each["event"]["action"] for each in default["events"]} == {"login"}
    asked = (await read.get("/trail.json?q=category:reading")).json()
    assert not asked["leaves_readings_out"]


async def test_an_export_holds_what_is_shown(read: Api) -> None:
    """The filters that the page hands to it leave readings out, too."""
    _, text = await _shown(read, "/")
    assert '"activity": ["people", "background"]' in html.unescape(text)


async def test_the_api_shows_everything(read: Api) -> None:
    """Nothing goes without saying for programs."""
    found = (await read.get("/v1/events")).json()["events"]
    assert {each["action"] for each in found} == {"login", "audit.view"}


async def test_the_event_beside_is_one_that_is_shown(read: Api) -> None:
    """From the newest login there is nothing newer: readings are passed over."""
    newest = (await read.log.search(action="login")).events[0]
    answer = await read.get(f"/events/{newest.event_id}/newer", headers=_PAGE)
    location = urlsplit(answer.headers["location"])
    assert location.path.endswith(newest.event_id)
    assert parse_qs(location.query)["end"] == ["newer"]


async def test_the_live_page_leaves_them_out(read: Api) -> None:
    """And leads to the same page with them."""
    text = (await read.get("/live", headers=_PAGE)).text
    assert text.count("<li class=") == 2
    link = re.search(r'left out\. <a href="([^"]*)"', text)
    assert link
    whole = (await read.get(html.unescape(link[1]), headers=_PAGE)).text
    assert whole.count("<li class=") > 2
    assert re.search(r"left out\. <a", whole) is None


async def test_the_stream_leaves_them_out(read: Api) -> None:
    """What comes after a reading comes first."""
    async with read.stream("/live/stream") as stream:
        await stream.message()
        await read.log.record("audit.view", tenant_id="acme", actor=Actor.user("u1"))
        event = await read.log.record("logout", tenant_id="acme", actor=Actor.user("u1"))
        assert event.event_id in await stream.message()
