"""Every route, with every kind of credential: nobody gets past its scope, nor out of its tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any, Final

import pytest

from muniment import Actor, Event, Target
from muniment.event import Change, Context
from muniment.http.access import SESSION_SCOPES, Caller, Scope
from muniment.http.auth.secrets import issue
from muniment.http.auth.tokens import create_token, revoke_token
from muniment.sealing import utc_now
from tests.http.auth.calling import SAME_ORIGIN, Site, all_but, serving
from tests.http.auth.issuer import Issuer
from tests.http.auth.routes import SECRET, STREAMS, bodies, call, routes_of, shown
from tests.scripted import LONG

_KINDS: Final = ("token", "oidc", "session", "host")
_NOTHING: Final = {"event_id": "019ff000-0000-7000-8000-000000000000", "export_id": "none"}
_ASKED: Final = (
    ("", {}),
    *(
        (query, {"Accept": media_type})
        for query in (
            "",
            "?tenant_id=globex",
            "?q=tenant:globex",
            f"?q={SECRET[:-3]}",
            "?tenant_id=",
        )
        for media_type in ("application/json", "text/html", "application/x-ndjson", "text/csv")
    ),
)


async def _host(scope: Mapping[str, Any]) -> Caller | None:
    """Who calls, as a host says that knows its callers by a header."""
    if dict(scope["headers"]).get(b"x-user") != b"acme":
        return None
    return Caller(
        id="u1", scopes=frozenset(Scope), tenant_id="acme", actor=Actor.user("u1", name="Ann")
    )


def _event(tenant_id: str, text: str) -> Event:
    """An event with that text wherever there is room for it."""
    return Event(
        action=f"{text}.action",
        tenant_id=tenant_id,
        actor=Actor.agent(f"{text}-a", name=text, on_behalf_of=Actor.user(f"{text}-u", name=text)),
        targets=(Target("invoice", f"{text}-t", text),),
        changes=(Change(field="x", old=text, new=text),),
        reason=text,
        context=Context(request_id=f"{text}-r", session_id=f"{text}-s", run_id=f"{text}-n"),
        details={text: text},
        organization_id=f"{text}-o",
    )


@pytest.fixture
async def site(sqlite_url: str, issuer: Issuer) -> AsyncIterator[Site]:
    """The application over a log of the tenants acme and globex."""
    async with serving(sqlite_url, identify=_host, **issuer.settings()) as found:
        await found.log.record_many([_event("acme", "acme-own"), _event("globex", SECRET)])
        yield found


@pytest.fixture
async def ids(site: Site) -> dict[str, str]:
    """The ids of an event of globex, and of an export that it has made."""
    (event,) = (await site.log.search(tenant_id="globex")).events
    headers = shown("token", await site.token(*Scope, tenant_id="globex"))
    async with site.client() as client:
        begun = await client.post("/v1/exports", json={"format": "jsonl"}, headers=headers)
        export_id = begun.json()["export_id"]
        async with asyncio.timeout(LONG):
            while True:
                found = await client.get(f"/v1/exports/{export_id}/file", headers=headers)
                if found.status_code == 200:
                    break
                await asyncio.sleep(0.02)
    assert SECRET in found.text
    return {"event_id": event.event_id, "export_id": export_id}


async def _headers(site: Site, issuer: Issuer, kind: str) -> dict[str, str]:
    """What a credential of acme shows, one that may do all that its kind can."""
    if kind == "token":
        return shown(kind, await site.token(*Scope, tenant_id="acme"))
    if kind == "oidc":
        return shown(kind, issuer.token())
    if kind == "host":
        return {"X-User": "acme"}
    async with site.viewing() as client:
        return shown(kind, client.cookies["muniment_session"])


# --- who comes in


def test_every_route_says_who_may_call_it(site: Site) -> None:
    """There are routes for every scope, and none that is silent."""
    assert {route.scope for route in routes_of(site.app)} == set(Scope)


async def test_without_a_valid_credential_no_route_answers(site: Site) -> None:
    """None, garbage, expired, revoked, and a session that is over: 401, and a challenge."""
    revoked = await create_token(site.log, name="n", scopes=tuple(Scope), tenant_id=None)
    await revoke_token(site.log, revoked.credential.id)
    old = utc_now() - timedelta(hours=1)
    over = [
        issue(
            kind,
            name="n",
            scopes=SESSION_SCOPES,
            tenant_id=None,
            created_at=old,
            expires_at=old + timedelta(minutes=1),
        )
        for kind in ("token", "session")
    ]
    for each in over:
        await site.log.store.credentials.add(each.credential)
    tried = {
        "nothing": {},
        "garbage": shown("token", "muniment_" + "a" * 43),
        "revoked": shown("token", revoked.secret),
        "expired": shown("token", over[0].secret),
        "a session that is over": shown("session", over[1].secret),
    }
    let_in = {}
    for route in routes_of(site.app):
        for name, headers in tried.items():
            (sent, *_) = bodies(route, None)
            answer = await call(site, route.method, route.at(**_NOTHING), headers, sent)
            if answer.status != 401 or "www-authenticate" not in answer.headers:
                let_in[f"{route} with {name}"] = answer
    assert let_in == {}


async def test_without_its_scope_no_route_answers(site: Site) -> None:
    """All the others together do not do: 403, before anything else is looked at."""
    tokens = {
        scope: shown("token", await site.token(*all_but(scope), tenant_id=None)) for scope in Scope
    }
    let_in = {}
    for route in routes_of(site.app):
        (sent, *_) = bodies(route, None)
        answer = await call(site, route.method, route.at(**_NOTHING), tokens[route.scope], sent)
        if answer.status != 403:
            let_in[str(route)] = answer
    assert let_in == {}


async def test_a_session_changes_nothing(site: Site, issuer: Issuer) -> None:
    """Of what is no GET it may begin an export and sign out, from our own pages."""
    headers = await _headers(site, issuer, "session")
    foreign = {**headers, "Sec-Fetch-Site": "cross-site"}
    let_in = set()
    for route in routes_of(site.app):
        if route.method == "GET":
            continue
        (sent, *_) = bodies(route, None)
        if (await call(site, route.method, route.at(**_NOTHING), headers, sent)).status != 403:
            let_in.add(str(route))
        answer = await call(site, route.method, route.at(**_NOTHING), foreign, sent)
        assert answer.status == 403, route
    assert let_in == {"POST /v1/exports"}
    assert SAME_ORIGIN["Sec-Fetch-Site"] == headers["Sec-Fetch-Site"]


# --- nobody gets out of its tenant


@pytest.mark.parametrize("kind", _KINDS)
async def test_no_route_tells_of_another_tenant(
    site: Site, issuer: Issuer, ids: dict[str, str], kind: str
) -> None:
    """Asked plainly, by tenant, by filter, by id: no byte of an event of globex comes out."""
    headers = await _headers(site, issuer, kind)
    told = {}
    for route in routes_of(site.app):
        for query, accept in _ASKED[:1] if route.path in STREAMS else _ASKED:
            for sent in bodies(route, "acme"):
                url = route.at(**ids) + query
                answer = await call(site, route.method, url, headers | accept, sent)
                if SECRET.encode() in answer.body or answer.status >= 500:
                    told[f"{route} {query} {accept}"] = answer
    assert told == {}


@pytest.mark.parametrize("kind", _KINDS)
async def test_what_is_of_another_tenant_is_not_there(
    site: Site, issuer: Issuer, ids: dict[str, str], kind: str
) -> None:
    """By id: 404, as if there were no such thing; 403 where a session may not even ask."""
    headers = await _headers(site, issuer, kind)
    seen = {}
    for route in routes_of(site.app):
        if "{" not in route.path:
            continue
        for suffix in ("", ".json") if "{name" in route.path else ("",):
            real = await call(site, route.method, route.at(**ids) + suffix, headers)
            none = await call(site, route.method, route.at(**_NOTHING) + suffix, headers)
            wanted = 404 if kind != "session" or route.is_for_sessions else 403
            if (real.status, none.status) != (wanted, wanted):
                seen[str(route) + suffix] = (real, none)
    assert seen == {}


@pytest.mark.parametrize("kind", _KINDS)
async def test_another_tenant_is_not_asked_for(site: Site, issuer: Issuer, kind: str) -> None:
    """Named in the query or in the body, it is refused by every route that takes a tenant."""
    headers = await _headers(site, issuer, kind)
    before = len((await site.log.search(tenant_id="globex", limit=100)).events)
    answered = {}
    for route in routes_of(site.app):
        if "{" in route.path:
            continue
        query = "?tenant_id=globex" if route.method == "GET" else ""
        for sent in bodies(route, "globex"):
            answer = await call(site, route.method, route.at(**_NOTHING) + query, headers, sent)
            # 400: the route takes no tenant. 422: the events of a batch were refused.
            if answer.status not in {400, 403, 422}:
                answered[str(route)] = answer
    assert answered == {}
    assert len((await site.log.search(tenant_id="globex", limit=100)).events) == before


@pytest.mark.parametrize("kind", _KINDS)
async def test_reading_is_recorded_for_the_tenant_that_was_read(
    site: Site, issuer: Issuer, kind: str
) -> None:
    """And never in another one's trail."""
    headers = await _headers(site, issuer, kind)
    async with site.client() as client:
        answer: Any = await client.get("/v1/events", headers=headers)
    assert answer.status_code == 200
    assert len(await site.events("audit.view", "acme")) == 1
    assert await site.events("audit.view", "globex") == []
