"""The range that the page of the trail is of: what is listed, counted, linked and exported."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from muniment.demo import day
from muniment.event import Event
from tests.http.api.calling import Api, running

_PAGE = {"Accept": "text/html"}
# No bar begins or ends here, and events happen just outside.
_SINCE, _UNTIL = "2025-03-04T09:07:13.250000Z", "2025-03-04T16:51:09.500000Z"
_BETWEEN = {"since": _SINCE, "until": _UNTIL}


@pytest.fixture
async def busy(sqlite_url: str) -> AsyncIterator[Api]:
    """The service over a log with the demo's day in it, that records no reading."""
    async with running(sqlite_url, record_reading=False) as api:
        await api.log.record_many(day())
        while await api.log.store.counts.count_pending(20_000):
            pass
        yield api


async def _text(api: Api, **query: str) -> str:
    answer = await api.get(f"/?{urlencode(query)}", headers=_PAGE)
    assert answer.status_code == 200, answer.text
    return answer.text


async def _twin(api: Api, query: str) -> dict[str, Any]:
    answer = await api.get(f"/trail.json?{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _inside() -> list[Event]:
    since, until = datetime.fromisoformat(_SINCE), datetime.fromisoformat(_UNTIL)
    return [event for event in day() if since <= event.occurred_at < until]


async def test_an_export_is_of_what_is_shown(busy: Api) -> None:
    """Not of the whole bars at the ends of the range."""
    text = await _text(busy, **_BETWEEN)
    found = re.search(r'<script type="application/json">(\{"since.*?|\{.*?)</script>', text)
    assert found
    assert f'"since": "{_SINCE.replace("Z", "+00:00")}"' in found[1]
    assert f'"until": "{_UNTIL.replace("Z", "+00:00")}"' in found[1]
    twin = await _twin(busy, urlencode(_BETWEEN))
    assert (twin["since"], twin["until"]) == (_SINCE, _UNTIL)
    assert twin["counts"]["events"] == len(_inside())


async def test_the_bars_at_the_ends_lead_to_what_they_count(busy: Api) -> None:
    """That is, to the part of them that is in the range."""
    text = await _text(busy, **_BETWEEN)
    bars = (await _twin(busy, urlencode(_BETWEEN)))["counts"]["bars"]
    links = re.findall(r'<a href="/\?([^"]*)" tabindex="-1" class="bar"', text)
    assert len(links) == len(bars)
    for place in (0, -1):
        counted = sum(bars[place]["outcomes"].values())
        twin = await _twin(busy, html.unescape(links[place]))
        assert twin["counts"]["events"] == counted


async def test_a_range_ends_now_unless_it_says(busy: Api) -> None:
    """Not where its last bar does, in the future."""
    twin = await _twin(busy, "since=7d")
    since, until = datetime.fromisoformat(twin["since"]), datetime.fromisoformat(twin["until"])
    assert until - since == timedelta(days=7)
    assert until <= datetime.now(UTC)


async def test_a_typed_range_goes_before_the_one_of_the_page(busy: Api) -> None:
    """Who types `since:` in the search box has not to undo what was chosen above it."""
    q = f"since:{_SINCE} until:{_UNTIL}"
    for beside in ({}, {"since": "30d"}, {"since": "1h", "until": "2025-01-01"}):
        twin = await _twin(busy, urlencode({"q": q, **beside}))
        assert (twin["since"], twin["until"]) == (_SINCE, _UNTIL)


@pytest.mark.parametrize(
    "query",
    [
        {"since": "1970-01-01", "until": "9999-12-31T23:59:59.999999Z"},
        {"since": "0001-01-01T00:00:00Z"},
        {"since": "9999-12-31T23:59:59Z", "until": "9999-12-31T23:59:59.5Z"},
        {"since": "1970-01-01", "until": "1970-01-01T00:00:01Z"},
    ],
)
async def test_a_range_may_reach_the_ends_of_time(busy: Api, query: dict[str, str]) -> None:
    """There is a page of it, with links to zoom out, as far as there are times."""
    assert "Zoom out" in await _text(busy, **query)


async def test_what_a_page_calls_takes_its_parameters(busy: Api) -> None:
    """In a language that was asked for, completion and exports still work, and forms keep it."""
    text = await _text(busy, **_BETWEEN, lang="zh")
    [complete] = re.findall(r'data-complete="([^"]*)"', text)
    assert (await busy.get(html.unescape(complete))).status_code == 200
    [exports] = re.findall(r'data-exports-url="([^"]*)"', text)
    assert "?" not in exports
    forms = re.findall(r'<form[^>]*method="get".*?</form>', text, re.DOTALL)
    assert len(forms) == 2
    for form in forms:
        assert '<input type="hidden" name="lang" value="zh">' in form
