"""The page of one event, and its JSON twin."""

from __future__ import annotations

import html
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from muniment.event import Actor, Change, Context, Event, Outcome, Target
from muniment.http.access import Scope
from muniment.keys import SigningKey
from muniment.proofs import InclusionProof
from tests.http.api.calling import Api, running

KEY = SigningKey.from_seed("example.com/audit", b"1" * 32)
PAGE = {"Accept": "text/html"}
EVIL = "<script>alert(1)</script>\u202egnp.exe\"'&{{7*7}}"


@pytest.fixture
async def viewer(sqlite_url: str) -> AsyncIterator[Api]:
    """The service over an empty log that signs its checkpoints and records no reading."""
    async with running(sqlite_url, signing_keys=[KEY], record_reading=False) as api:
        yield api


async def _recorded(viewer: Api, event: Event) -> str:
    """The id of an event, once it is published."""
    receipt = await viewer.log.record(event)
    await viewer.log.await_published(receipt)
    return event.event_id


async def _page(viewer: Api, path: str, **query: str) -> str:
    answer = await viewer.get(path, params=query or None, headers=PAGE)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    return answer.text


def _text(page: str) -> str:
    """What a page says, without its markup and scripts."""
    body = re.sub(r"(?s)<(script|dialog|head)\b.*?</\1>", "", page)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", "", body)))


def _full() -> Event:
    return Event(
        action="role_assign",
        tenant_id="acme",
        actor=Actor.agent("a7", name="Ops bot", on_behalf_of=Actor.user("u1", name="Ann")),
        targets=(Target("user", "u2", "Bob"), Target("role", "r1")),
        outcome=Outcome.SUCCESS,
        reason="ticket 118",
        organization_id="org-9",
        context=Context(
            ip="192.0.2.1",
            user_agent="curl/8",
            request_id="req-1",
            session_id="ses-1",
            trace_id="tra-1",
            span_id="spa-1",
            run_id="run-1",
            parent_run_id="run-0",
            approval_id="app-1",
            service="api",
        ),
        changes=(Change(field="role", old="viewer", new="auditor"),),
        details={"policy": {"rules": ["allow", "deny"]}, "score": 0.5},
        idempotency_key="key-1",
    )


async def test_the_page_shows_every_field(viewer: Api) -> None:
    """Nothing of what was recorded is kept from the reader."""
    event = _full()
    said = _text(await _page(viewer, f"/events/{await _recorded(viewer, event)}"))
    stored = json.loads(await viewer.log.body(event.event_id))
    expected = ["Ops bot", "Ann", "Bob", "viewer", "auditor", "allow", "deny", "0.5", "ticket 118"]
    expected += [*stored["context"].values(), *(t["id"] for t in stored["targets"])]
    expected += ["a7", "u1", "org-9", "acme", "key-1", "role_assign", stored["salt"]]
    assert [value for value in expected if value not in said] == []


async def test_the_heading_is_the_sentence(viewer: Api) -> None:
    """Who did what to whom, for whom."""
    page = await _page(viewer, f"/events/{await _recorded(viewer, _full())}")
    (heading,) = re.findall(r"(?s)<h1>(.*?)</h1>", page)
    assert _text(heading) == "Ops bot granted a role to user Bob, role r1, for Ann"


async def test_the_chain_leads_from_the_person_to_who_acted(viewer: Api) -> None:
    """The person first, whoever acted last."""
    page = await _page(viewer, f"/events/{await _recorded(viewer, _full())}")
    (chain,) = re.findall(r'(?s)<ol class="chain">(.*?)</ol>', page)
    words = " ".join(_text(chain.replace("<", " <")).split())
    assert words == "User Ann u1 acts through → Agent Ops bot a7 acted"


async def test_hostile_content_stays_text(viewer: Api) -> None:
    """Whatever field it stands in, no markup gets through, and what is hidden is seen."""
    event = Event(
        action=EVIL,
        tenant_id=EVIL,
        actor=Actor.agent(EVIL, name=EVIL, on_behalf_of=Actor.user(EVIL, name=EVIL)),
        targets=(Target(EVIL, EVIL, EVIL),),
        reason=EVIL,
        organization_id=EVIL,
        idempotency_key=EVIL,
        context=Context(**dict.fromkeys(Context.__struct_fields__, EVIL)),
        changes=(Change(field=EVIL, old=EVIL, new={EVIL: EVIL}),),
        details={EVIL: [EVIL, {EVIL: EVIL}]},
    )
    page = await _page(viewer, f"/events/{await _recorded(viewer, event)}")
    assert "<script>alert" not in page
    assert "\u202e" not in _text(page)
    assert not re.search('(?:title|aria-label|placeholder)="[^"]*\u202e', page)
    assert "\\u202e" in page


async def test_two_hundred_kibibytes_of_details_are_cut(viewer: Api) -> None:
    """The page stays small, says that it is cut, and shows all of it when asked."""
    details = {"text": "x" * 100_000, "rows": [{"n": n} for n in range(9_000)], "last": "here"}
    event_id = await _recorded(viewer, Event(action="x", tenant_id="acme", details=details))
    short = await _page(viewer, f"/events/{event_id}")
    whole = await _page(viewer, f"/events/{event_id}", whole="true")
    assert len(short) < 250_000
    assert "Only a part is shown" in short
    assert "here" in _text(short)
    assert "Only a part is shown" not in whole
    assert "x" * 100_000 in whole
    assert whole.count('class="key place"') == 9_000


async def test_neighbours_share_a_request_run_or_session(viewer: Api) -> None:
    """Oldest first, this one marked; others of the same kind of id are no neighbours."""
    ids = []
    for n, (request, session) in enumerate(
        [("r1", "s1"), ("r1", "s2"), ("r2", "s1"), ("r1", "s1")]
    ):
        context = Context(request_id=request, session_id=session)
        event = Event(action=f"act.{n}", tenant_id="acme", context=context)
        ids.append(await _recorded(viewer, event))
    await _recorded(viewer, Event(action="x", tenant_id="other", context=Context(request_id="r1")))
    twin = (await viewer.get(f"/events/{ids[1]}.json")).json()
    page = await _page(viewer, f"/events/{ids[1]}")
    around = {
        each["relation"]: [e["event_id"] for e in each["events"]] for each in twin["neighbours"]
    }
    assert around == {"request_id": [ids[0], ids[1], ids[3]]}
    assert page.count('aria-current="true"') == 1


async def test_many_neighbours_are_shown_around_the_event(viewer: Api) -> None:
    """Fifty of them, the event in their midst, and where there are more."""
    events = [
        Event(action="x", tenant_id="acme", context=Context(run_id="r"), details={"n": n})
        for n in range(120)
    ]
    await viewer.log.record_many(events)
    (around,) = (await viewer.get(f"/events/{events[60].event_id}.json")).json()["neighbours"]
    assert [event["details"]["n"] for event in around["events"]] == list(range(36, 86))
    assert (around["has_earlier"], around["has_later"]) == (True, True)


async def test_the_twin_holds_the_stored_body(viewer: Api) -> None:
    """The event in it is what was hashed, byte for byte."""
    event_id = await _recorded(viewer, _full())
    answer = await viewer.get(f"/events/{event_id}.json")
    assert await viewer.log.body(event_id) in answer.text
    twin = answer.json()
    assert twin["proof"] == {"state": "published", "leaf_index": 0, "tree_size": 1}
    assert twin["verifying_keys"] == [KEY.verifier.text()]


async def test_the_page_gives_the_keys_of_the_log(viewer: Api) -> None:
    """What the browser verifies with, unless its reader has a key."""
    page = await _page(viewer, f"/events/{await _recorded(viewer, _full())}")
    assert f'data-keys="{KEY.verifier.text()}"' in page


async def test_the_proof_can_be_kept(viewer: Api) -> None:
    """The file is one that holds without us."""
    event_id = await _recorded(viewer, _full())
    answer = await viewer.get(f"/events/{event_id}/proof.txt")
    assert answer.headers["content-disposition"] == f'attachment; filename="{event_id}.tlog-proof"'
    body = await viewer.log.body(event_id)
    InclusionProof.parse(answer.text).verify(body.encode(), [KEY.for_tenant("acme").verifier])


async def test_without_a_key_nothing_is_said_to_be_proved(sqlite_url: str) -> None:
    """A log that signs nothing shows no button, and says why."""
    async with running(sqlite_url, record_reading=False) as viewer:
        event = Event(action="login", tenant_id="acme")
        await viewer.log.record(event)
        page = await _page(viewer, f"/events/{event.event_id}")
    assert "data-verify" not in page
    assert re.search(r"no key is set|waits for its leaf", page)


async def test_an_erased_event_keeps_its_place(viewer: Api, sqlite_url: str) -> None:
    """Its content is gone; its leaf hash and its proof are there."""
    event_id = await _recorded(viewer, _full())
    leaf_hash = (await viewer.log.stored(event_id)).leaf_hash.hex()
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as database, database:
        database.execute("DROP TRIGGER muniment_events_refuse_update")
        database.execute("UPDATE muniment_events SET body = NULL")
    page = await _page(viewer, f"/events/{event_id}")
    twin = (await viewer.get(f"/events/{event_id}.json")).json()
    assert leaf_hash in page
    assert "data-verify" in page
    assert "Ops bot" not in page
    assert (twin["event"], twin["sentence"]) == (None, None)
    assert (await viewer.get(f"/events/{event_id}/older")).status_code == 303


@pytest.mark.parametrize("suffix", ["", ".json", "/proof.txt", "/older", "/newer"])
async def test_another_tenants_event_is_not_there(viewer: Api, suffix: str) -> None:
    """As if it did not exist: the same answer as for an id that nobody has."""
    event_id = await _recorded(viewer, _full())
    headers = await viewer.token(Scope.READ, tenant_id="other")
    unknown = Event(action="x").event_id
    answers = [
        await viewer.get(f"/events/{each}{suffix}", headers=headers) for each in (event_id, unknown)
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    first, second = (
        answer.text.replace(event_id, "ID").replace(unknown, "ID") for answer in answers
    )
    assert first == second


async def test_what_is_no_event_is_a_page_that_helps(viewer: Api) -> None:
    """A browser gets a page with a way back, whatever was typed."""
    for name in ("nonsense", Event(action="x").event_id):
        answer = await viewer.get(f"/events/{name}", headers=PAGE)
        assert answer.status_code == 404
        assert "There is nothing here" in answer.text


async def test_steps_lead_through_the_search(viewer: Api) -> None:
    """Newer and older events of the same search, others left out."""
    ids = [
        await _recorded(viewer, Event(action=action, tenant_id="acme"))
        for action in ("login", "logout", "login", "login")
    ]
    older = await viewer.get(f"/events/{ids[2]}/older", params={"q": "action:login"})
    newer = await viewer.get(f"/events/{ids[2]}/newer", params={"q": "action:login"})
    assert older.headers["location"] == f"/events/{ids[0]}?q=action%3Alogin"
    assert newer.headers["location"] == f"/events/{ids[3]}?q=action%3Alogin"


async def test_at_the_end_of_a_search_the_page_says_so(viewer: Api) -> None:
    """The way leads back to the same event, which says that there is no other."""
    event_id = await _recorded(viewer, Event(action="login", tenant_id="acme"))
    answer = await viewer.get(f"/events/{event_id}/older", params={"q": "action:login"})
    page = await _page(viewer, answer.headers["location"])
    assert "This is the oldest event of this search." in page


async def test_the_way_back_keeps_the_search(viewer: Api) -> None:
    """What the trail was asked for stands in the link that leads back to it."""
    event_id = await _recorded(viewer, Event(action="login", tenant_id="acme"))
    page = await _page(viewer, f"/events/{event_id}", q="action:login", since="24h", end="older")
    assert 'href="/?q=action%3Alogin&amp;since=24h" data-go="b"' in page


async def test_every_word_is_there_in_chinese(viewer: Api) -> None:
    """The page in the other language has its own words, and links that keep it."""
    page = await _page(viewer, f"/events/{await _recorded(viewer, _full())}", lang="zh")
    assert 'lang="zh"' in page
    assert "在此浏览器中验证" in page
    assert "lang=zh" in page


async def test_looking_at_an_event_is_recorded(sqlite_url: str) -> None:
    """Who looked at which event, before it is shown."""
    async with running(sqlite_url, signing_keys=[KEY]) as viewer:
        event = _full()
        await viewer.log.record(event)
        await _page(viewer, f"/events/{event.event_id}")
        (view,) = (await viewer.log.search(action="audit.view", tenant_id="acme")).events
    assert (view.details["what"], view.details["event"]) == ("event", event.event_id)
