"""Tenants are picked: by whoever may see all of them, and by nobody else."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from muniment.demo import day
from muniment.http.access import Scope
from tests.http.api.calling import Api, running

_DAY = {"since": "2025-03-04T00:00:00Z", "until": "2025-03-05T00:00:00Z"}
_CHOICE = re.compile(r'<a href="([^"]*)" title="([^"]*)"([^>]*) data-value')


@pytest.fixture
async def api(sqlite_url: str) -> AsyncIterator[Api]:
    """The service over the demo's day, which records no reading; the caller may do anything."""
    async with running(sqlite_url, record_reading=False) as api:
        await api.log.record_many(day())
        while await api.log.store.counts.count_pending(20_000):
            pass
        yield api


async def _facet(api: Api, path: str) -> list[tuple[str, str, bool]]:
    """The links of the facet, whose they are, and whether they are chosen."""
    text = (await api.get(path, headers={"Accept": "text/html"})).text
    part = text.partition('aria-labelledby="facet-tenant"')[2].partition("</section>")[0]
    return [
        (html.unescape(link), tenant, "aria-current" in rest)
        for link, tenant, rest in _CHOICE.findall(part)
    ]


async def test_each_tenant_leads_to_its_own_events(api: Api) -> None:
    """The one with the most events first; chosen once more, it leads back to all."""
    expected = Counter(event.tenant_id for event in day())
    start = await _facet(api, f"/?{urlencode(_DAY)}")
    assert [tenant for _, tenant, _ in start] == [t for t, _ in expected.most_common()]
    for link, tenant, is_chosen in start:
        assert not is_chosen
        twin = (await api.get(f"/trail.json?{urlsplit(link).query}")).json()
        assert twin["counts"]["events"] == expected[tenant]
        [(back, named, is_now)] = await _facet(api, link)
        assert (named, is_now) == (tenant, True)
        assert "tenant_id" not in parse_qs(urlsplit(back).query)


async def test_counts_of_tenants_are_exact(api: Api) -> None:
    """For what the kept counts answer, however little time there is."""
    counted = await api.log.count(since=_DAY["since"], until=_DAY["until"], budget=0)
    facet = counted.facets["tenant"]
    assert facet.exact
    assert {each.value: each.events for each in facet.values} == Counter(
        event.tenant_id for event in day()
    )


async def test_a_tenant_in_the_query_is_the_chosen_one(api: Api) -> None:
    """Taken away from there by a click."""
    [(back, tenant, is_chosen)] = await _facet(
        api, f"/?{urlencode({**_DAY, 'q': 'tenant:waha outcome:denied'})}"
    )
    assert (tenant, is_chosen) == ("waha", True)
    assert parse_qs(urlsplit(back).query)["q"] == ["outcome:denied"]


async def test_tenants_complete_a_query(api: Api) -> None:
    """All of them, in their order."""
    found = (await api.get("/complete.json")).json()["values"]["tenant"]
    assert found == sorted({event.tenant_id for event in day()})


async def test_a_tenants_reader_is_told_of_no_other(api: Api) -> None:
    """Neither by the facet, nor the counts, nor what completes a query."""
    api.headers = await api.token(Scope.READ, tenant_id="waha")
    assert await _facet(api, f"/?{urlencode(_DAY)}") == []
    for path in (f"/trail.json?{urlencode(_DAY)}", f"/v1/stats?{urlencode(_DAY)}"):
        answer = await api.get(path)
        assert answer.status_code == 200
        assert '"tenant":{' not in answer.text
        assert "nordlicht" not in answer.text
    assert (await api.get("/complete.json")).json()["values"]["tenant"] == []
