"""Searches that take longer than a page may: it says how far they came, and leads on."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count
from urllib.parse import urlencode

import pytest

from muniment import Event, searching
from tests.http.api.calling import Api, running

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_RANGE = {"since": "2026-03-01T12:00:00Z", "until": "2026-03-01T13:00:00Z"}
_NEXT = re.compile(r'<a [^>]*rel="next" href="([^"]*)">([^<]*)</a>')


@pytest.fixture
async def slow(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """The service over 40 events, the oldest of which says "needle": a search looks at ten."""
    async with running(sqlite_url, record_reading=False) as api:
        await api.log.record_many(
            [
                Event(
                    action="login",
                    tenant_id="acme",
                    occurred_at=_NOON + timedelta(seconds=n),
                    details={"note": "hay" if n else "needle"},
                )
                for n in range(40)
            ]
        )
        seconds = count(0, 600)
        monkeypatch.setattr(searching, "_LOOKED_AT_FIRST", 10)
        monkeypatch.setattr(api.log._searcher, "_monotonic", lambda: next(seconds))
        yield api


async def _text(api: Api, path: str, **query: str) -> str:
    answer = await api.get(
        path + (f"?{urlencode(query)}" if query else ""), headers={"Accept": "text/html"}
    )
    assert answer.status_code == 200, answer.text
    return answer.text


def _next(text: str) -> tuple[str, str]:
    """Where the link to the next page leads, and what it says."""
    (found,) = _NEXT.findall(text)
    return html.unescape(found[0]), found[1]


@pytest.mark.parametrize(
    ("order", "says"), [("newest", "Search further back"), ("oldest", "Search further on")]
)
async def test_a_page_whose_time_is_up_says_how_far_it_searched(
    slow: Api, order: str, says: str
) -> None:
    """It does not say that there is nothing, and has a link to go on."""
    text = await _text(slow, "/", q="action:login nosuchword", order=order, **_RANGE)
    assert "Nothing was found yet" in text
    assert "Searched so far" in text
    assert "Nothing of that kind" not in text
    assert "No event is like that" not in text
    assert _next(text)[1] == says


async def test_the_link_leads_on_to_what_is_far_back(slow: Api) -> None:
    """Page after page, until the event is listed."""
    text = await _text(slow, "/", q="action:login needle", **_RANGE)
    pages = 1
    while 'data-event="' not in text:
        text = await _text(slow, _next(text)[0])
        pages += 1
    assert pages > 1


async def test_the_last_page_does_not_say_that_there_was_nothing_before(slow: Api) -> None:
    """An empty page behind others is the end of the search, no more."""
    text = await _text(slow, "/", q="action:login nosuchword", **_RANGE)
    for _ in range(40):
        if not _NEXT.search(text):
            break
        text = await _text(slow, _next(text)[0])
    assert "Nothing more was found" in text
    assert "No event is like that" not in text


async def test_a_hint_that_takes_long_says_how_far_it_was_looked_for(slow: Api) -> None:
    """Where a range holds nothing, and the time is up before all others were searched."""
    text = await _text(slow, "/", q="action:login needle", since="2026-03-02", until="2026-03-03")
    assert "the search came back to 2026-03-01 12:00 UTC" in text
    assert "Search all of the trail" in text
    assert "No event is like that" not in text


async def test_the_twin_says_how_far_was_searched(slow: Api) -> None:
    """As the API does: a time, and a cursor with it."""
    query = urlencode({"q": "action:login nosuchword", **_RANGE})
    found = (await slow.get(f"/trail.json?{query}")).json()
    assert _NOON <= datetime.fromisoformat(found["searched_to"]) < _NOON + timedelta(seconds=40)
    assert found["next_cursor"]
