"""The page of the trail, its JSON twin, and what completes a query."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from muniment.demo import DAY, day
from muniment.event import Actor, Event, Outcome, Target
from muniment.http.access import Scope
from muniment.sealing import utc_now
from tests.http.api.calling import Api, running

_PAGE = {"Accept": "text/html"}
_DAY = {"since": "2025-03-04T00:00:00Z", "until": "2025-03-05T00:00:00Z"}
_EVIL = "\"'><img src=x onerror=harm()>{{7*7}}\x1b[31m\u202e"
_A = re.compile(r"<a ([^>]*)>(.*?)</a>", re.DOTALL)


@pytest.fixture
async def viewer(sqlite_url: str) -> AsyncIterator[Api]:
    """The service over an empty log that records no reading; the caller may do anything."""
    async with running(sqlite_url, record_reading=False) as api:
        yield api


@pytest.fixture
async def busy(viewer: Api) -> Api:
    """The same, with the demo's day in it."""
    await viewer.log.record_many(day())
    while await viewer.log.store.counts.count_pending(20_000):
        pass
    return viewer


async def _text(api: Api, path: str, **query: str) -> str:
    answer = await api.get(path + (f"?{urlencode(query)}" if query else ""), headers=_PAGE)
    assert answer.status_code == 200, answer.text
    return answer.text


async def _twin(api: Api, page: str) -> dict[str, Any]:
    """The twin of a page, by its link."""
    query = urlsplit(html.unescape(page)).query
    answer = await api.get(f"/trail.json?{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _links(text: str, marked: str) -> list[str]:
    """Where the links lead that have this in their tag."""
    found = []
    for tag, _ in _A.findall(text):
        address = re.search(r'href="([^"]*)"', tag)
        if marked in tag and address:
            found.append(html.unescape(address[1]))
    return found


def _ids(text: str) -> list[str]:
    return re.findall(r'<li data-event="([^"]+)"', text)


def _number(text: str) -> int:
    found = re.search(r'id="overview-title">(?:at least )?([\d,]+) event', text)
    assert found
    return int(found[1].replace(",", ""))


# --- what is shown


async def test_events_are_told_newest_first(viewer: Api) -> None:
    """Each by a sentence that leads to its page."""
    now, ann = utc_now(), Actor.user("u1", name="Ann")
    older = Event(action="login", tenant_id="a", actor=ann, occurred_at=now - timedelta(hours=1))
    newer = Event(
        action="user_delete",
        tenant_id="a",
        actor=ann,
        targets=(Target("user", "u2", "Ben"),),
        outcome=Outcome.DENIED,
        reason="not an administrator",
        occurred_at=now,
    )
    await viewer.log.record_many([older, newer])
    text = await _text(viewer, "/")
    assert _ids(text) == [newer.event_id, older.event_id]
    assert [urlsplit(link).path for link in _links(text, 'class="told"')] == [
        f"/events/{newer.event_id}",
        f"/events/{older.event_id}",
    ]
    plain = re.sub(r"<[^>]+>", "", text)
    assert "Ann was not allowed to delete user Ben" in plain
    assert "not an administrator" in plain


async def test_whatever_an_event_holds_is_shown_as_text(viewer: Api) -> None:
    """In the sentence, the facets, and the search box alike."""
    await viewer.log.record(
        "<b>bold</b>",
        tenant_id="<i>tenant</i>",
        actor=Actor.user("<u>id</u>", name=_EVIL),
        targets=[Target("<s>type</s>", "<q>id</q>", _EVIL)],
        reason=_EVIL,
    )
    for query in ({}, {"q": '"<mark>text</mark>"'}, {"tenant_id": "<i>tenant</i>"}):
        text = await _text(viewer, "/", **query)
        for tag in ("<b>", "<i>", "<u>", "<s>", "<q>", "<mark>", "<img src=x"):
            assert tag not in text
        assert "\x1b" not in text
        assert "\u202e" not in text


async def test_the_page_and_its_twin_show_the_same(busy: Api) -> None:
    """For any reader of JSON: events, sentences, counts, and what comes next."""
    query = urlencode({**_DAY, "q": "outcome:denied"})
    text = (await busy.get(f"/?{query}", headers=_PAGE)).text
    twin = await _twin(busy, f"/?{query}")
    assert [each["event"]["event_id"] for each in twin["events"]] == _ids(text)
    assert twin["counts"]["events"] == _number(text)
    assert twin["conditions"] == {"outcome": ["denied"]}
    plain = html.unescape(re.sub(r"<[^>]+>", "", text))
    assert all(each["sentence"] in plain for each in twin["events"])


async def test_the_page_speaks_chinese(busy: Api) -> None:
    """Its own words, and the sentences."""
    text = await _text(busy, "/", **_DAY, lang="zh", q="action:login")
    assert "登录" in text
    assert "logged in" not in text


# --- the state is the URL


async def test_following_the_pages_shows_every_event_once(busy: Api) -> None:
    """In the order asked for, with the same filter, to the end."""
    wanted = [e.event_id for e in day() if e.tenant_id == "waha" and e.outcome != "success"]
    for order in ("newest", "oldest"):
        query = {**_DAY, "q": "outcome:failure outcome:denied", "tenant_id": "waha"}
        text = await _text(busy, "/", **query, order=order)
        seen = _ids(text)
        while more := _links(text, 'rel="next"'):
            text = await _text(busy, more[0])
            seen += _ids(text)
        assert seen == sorted(wanted, reverse=order == "newest")


async def test_each_bar_leads_to_what_it_counts(busy: Api) -> None:
    """A bar's link is a page with as many events as the bar stands for."""
    twin = await _twin(busy, f"/?{urlencode(_DAY)}")
    text = await _text(busy, "/", **_DAY)
    bars = _links(text, 'class="bar"')
    counts = [sum(bar["outcomes"].values()) for bar in twin["counts"]["bars"]]
    assert len(bars) == len(counts)
    for link, count in [*zip(bars, counts, strict=True)][8:12]:
        assert (await _twin(busy, link))["counts"]["events"] == count


async def test_each_facet_leads_to_what_it_counts(busy: Api) -> None:
    """The first value of each, and its removal leads back."""
    start = await _text(busy, "/", **_DAY)
    for name in ("outcome", "category", "action"):
        part = start.partition(f'aria-labelledby="facet-{name}"')[2].partition("</section>")[0]
        link = _links(part, "data-value")[0]
        number = re.search(r'class="number">(?:<[^>]*>≥ </span>)?([\d,]+)<', part)
        assert number
        narrowed = await _text(busy, link)
        assert _number(narrowed) == int(number[1].replace(",", ""))
        chosen = [each for each in _links(narrowed, "data-value") if "q=" not in each]
        assert _number(await _text(busy, chosen[0])) == _number(start)


@pytest.mark.parametrize(("name", "argument"), [("actor", "actor_id"), ("target", "target_id")])
async def test_facets_of_names_lead_to_events_with_them(
    busy: Api, name: str, argument: str
) -> None:
    """Whoever or whatever it is, each event of the page it leads to has it."""
    start = await _text(busy, "/", **_DAY, tenant_id="nordlicht")
    part = start.partition(f'aria-labelledby="facet-{name}"')[2].partition("</section>")[0]
    for link in _links(part, "data-value")[:3]:
        twin = await _twin(busy, link)
        wanted = twin["conditions"][argument]
        for each in twin["events"]:
            event = each["event"]
            ids = [event["actor"]["id"], *(t["id"] for t in event.get("targets", []))]
            assert wanted in ids


async def test_people_and_background_are_told_apart(busy: Api) -> None:
    """Together they are all."""
    counts = {}
    for name in ("people", "background"):
        found = await _twin(busy, f"/?{urlencode({**_DAY, 'q': f'activity:{name}'})}")
        counts[name] = found["counts"]["events"]
    assert counts["people"] + counts["background"] == len(day())
    text = await _text(busy, "/", **_DAY)
    for count in counts.values():
        assert f'<span class="number">{count:,}</span>' in text


async def test_links_keep_what_they_do_not_change(busy: Api) -> None:
    """The tenant, the filter, the range, the order, the language."""
    query = {**_DAY, "q": "login", "tenant_id": "waha", "order": "oldest", "lang": "zh"}
    text = await _text(busy, "/", **query)
    for link in _links(text.partition('id="facet-outcome"')[2], "data-value"):
        asked = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
        assert "login" in asked.pop("q")
        assert asked == {k: v for k, v in query.items() if k != "q"}


async def test_the_live_page_goes_on_with_the_search(busy: Api) -> None:
    """Of the same tenant and language, without a range."""
    query = {**_DAY, "q": "login since:2025-03-04", "tenant_id": "waha", "lang": "zh"}
    text = await _text(busy, "/", **query)
    [link] = [each for each in _links(text, "href") if urlsplit(each).path == "/live"]
    asked = parse_qs(urlsplit(link).query)
    assert asked == {"q": ["login"], "tenant_id": ["waha"], "lang": ["zh"]}


async def test_a_tenant_can_be_picked_from_an_event(busy: Api) -> None:
    """Where several are shown, each says whose it is, and leads to that tenant alone."""
    text = await _text(busy, "/", **_DAY)
    link = next(each for each in _links(text, 'class="tag"') if "waha" in each)
    twin = await _twin(busy, link)
    assert {each["event"]["tenant_id"] for each in twin["events"]} == {"waha"}


async def test_a_range_can_be_typed_without_a_zone(busy: Api) -> None:
    """As the form of a custom range sends it: that is UTC."""
    query = {"since": "2025-03-04T00:00:00", "until": "2025-03-05T00:00"}
    text = await _text(busy, "/", **query)
    assert _number(text) == len(day())
    assert 'type="datetime-local" step="1" value="2025-03-04T00:00:00"' in text


async def test_an_event_knows_the_way_back(busy: Api) -> None:
    """Its link carries the search along."""
    text = await _text(busy, "/", **_DAY, q="outcome:denied")
    [link, *_] = _links(text, 'class="told"')
    assert parse_qs(urlsplit(link).query)["q"] == ["outcome:denied"]


# --- when there is nothing to show


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("colour:red", "colour"),
        ("outcome:purple", "outcome"),
        ('"open', "q"),
        ("since:yesterday", "since"),
        ("actor:a actor:b", "actor"),
    ],
)
async def test_a_query_that_is_none_is_given_back(viewer: Api, query: str, key: str) -> None:
    """With what is wrong with it, and the text to be mended."""
    answer = await viewer.get(f"/?{urlencode({'q': query})}", headers=_PAGE)
    assert answer.status_code == 400
    assert f'value="{html.escape(query).replace("&quot;", "&#34;")}"' in answer.text
    assert f"<code><bdi>{key}</bdi></code>" in answer.text
    assert 'aria-invalid="true"' in answer.text


async def test_a_twin_of_such_a_query_is_a_problem(viewer: Api) -> None:
    """For programs."""
    answer = await viewer.get("/trail.json?q=colour:red")
    assert answer.status_code == 400
    assert answer.json()["field"] == "colour"


async def test_a_misspelt_parameter_is_refused(viewer: Api) -> None:
    """It would show more than was asked for."""
    assert (await viewer.get("/?tenent_id=a", headers=_PAGE)).status_code == 400


async def test_an_empty_range_leads_to_where_there_is_something(busy: Api) -> None:
    """The newest event like that."""
    text = await _text(busy, "/", q="action:role_assign", since="24h")
    assert _ids(text) == []
    [link] = [each for each in _links(text, "button primary") if "since" in each]
    found = await _text(busy, link)
    assert _ids(found)
    assert DAY.strftime("%Y-%m-") in text


async def test_an_empty_trail_says_so(viewer: Api) -> None:
    """And every range of it can be looked at."""
    for since in ("1h", "24h", "7d", "30d", "all"):
        text = await _text(viewer, "/", since=since)
        assert "Nothing is recorded here yet" in text


# --- who sees what


async def test_a_tenants_reader_sees_that_tenant_only(busy: Api) -> None:
    """Events, counts, and what is completed; without a way to ask for another one."""
    busy.headers = await busy.token(Scope.READ, tenant_id="waha")
    text = await _text(busy, "/", **_DAY)
    mine = [event for event in day() if event.tenant_id == "waha"]
    assert _number(text) == len(mine)
    assert 'name="tenant_id"' not in text
    assert "Annika" not in text
    for path in ("/", "/trail.json"):
        assert (await busy.get(f"{path}?tenant_id=nordlicht")).status_code == 403
        assert (await busy.get(f"{path}?q=tenant:nordlicht")).status_code == 403


async def test_only_who_may_export_is_offered_it(busy: Api) -> None:
    """A reader isn't."""
    assert "data-exports" in await _text(busy, "/")
    busy.headers = await busy.token(Scope.READ)
    assert "data-exports" not in await _text(busy, "/")


async def test_looking_is_recorded(sqlite_url: str) -> None:
    """Who looked, and for what; once for the page and its later parts."""
    async with running(sqlite_url) as api:
        await api.log.record("login", tenant_id="a")
        for path in ("/", "/", "/trail.json"):
            await api.get(f"{path}?tenant_id=a&q=action:login", headers=_PAGE)
        [view] = (await api.log.search(action="audit.view")).events
    assert view.tenant_id == "a"
    assert view.details["q"] == "action:login"


# --- completing


async def test_keys_and_values_complete_a_query(busy: Api) -> None:
    """All keys of the language; the standard actions, and those that were seen."""
    found = (await busy.get("/complete.json")).json()
    assert {"action", "outcome", "actor", "since"} <= set(found["keys"])
    assert {"login", "invoice.approve"} <= set(found["values"]["action"])
    assert found["values"]["outcome"] == [outcome.value for outcome in Outcome]


async def test_other_tenants_actions_complete_nothing(viewer: Api) -> None:
    """An action's name may tell of what a tenant does."""
    await viewer.log.record("secret.merger", tenant_id="a")
    viewer.headers = await viewer.token(Scope.READ, tenant_id="b")
    assert "secret.merger" not in (await viewer.get("/complete.json")).text
