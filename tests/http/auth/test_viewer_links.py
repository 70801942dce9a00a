"""Viewer links: a host application lets a person in, once, to one tenant, to read."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from muniment.event import Target
from muniment.http.access import SESSION_SCOPES, Scope
from muniment.http.auth.lookup import REMEMBERED_SECONDS
from muniment.http.auth.secrets import issue
from muniment.http.auth.tokens import create_token, revoke_token
from tests.http.auth.calling import Site, cookie_of, serving

_ACME = {"tenant_id": "acme"}


async def _make(site: Site, secret: str, **body: Any) -> Any:
    async with site.client(secret) as client:
        return await client.post("/v1/viewer-links", json={**_ACME, **body})


# --- making one


async def test_a_link_is_a_url_with_a_secret_of_its_own(site: Site) -> None:
    """Where the service was called, good for two minutes."""
    before = datetime.now(UTC)
    made = await _make(site, await site.token(Scope.ADMIN))
    assert made.status_code == 201
    assert made.json()["url"].startswith("http://audit.test/enter?code=")
    lasts = datetime.fromisoformat(made.json()["expires_at"]) - before
    assert timedelta(minutes=2) <= lasts < timedelta(minutes=2, seconds=30)
    assert made.headers["Cache-Control"] == "no-store"


async def test_the_url_is_the_one_that_people_use(tmp_path: Any) -> None:
    """As it is set, whatever the request says."""
    public = "https://audit.example.com/trail/"
    async with serving(f"sqlite:///{tmp_path}/a.db", public_url=public) as site:
        made = await _make(site, await site.token(Scope.ADMIN))
    assert made.json()["url"].startswith("https://audit.example.com/trail/enter?code=")


async def test_how_long_it_can_be_opened_may_be_said(site: Site) -> None:
    """Up to an hour."""
    admin = await site.token(Scope.ADMIN)
    before = datetime.now(UTC)
    made = await _make(site, admin, lifetime_seconds=3_600)
    lasts = datetime.fromisoformat(made.json()["expires_at"]) - before
    assert timedelta(hours=1) <= lasts < timedelta(hours=1, seconds=30)
    for seconds in (0, -1, 3_601, 1.5, "9"):
        assert (await _make(site, admin, lifetime_seconds=seconds)).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"tenant_id": ""},
        {"tenant_id": None},
        {"tenant_id": "a\nb"},
        {"person": {"id": ""}},
        {"person": {"name": "Ann"}},
        {"person": {"id": "u1", "role": "admin"}},
        {"person": {"id": "x" * 600}},
        {"scopes": ["admin"]},
    ],
    ids=str,
)
async def test_a_bad_request_makes_no_link(site: Site, body: dict[str, Any]) -> None:
    """And says so."""
    made = await _make(site, await site.token(Scope.ADMIN, tenant_id=None), **body)
    assert made.status_code in {400, 422}
    assert await site.log.store.credentials.listed("link") == []


async def test_a_tenants_token_makes_links_for_its_tenant_only(site: Site) -> None:
    """Another one is a 403."""
    admin = await site.token(Scope.ADMIN, tenant_id="acme")
    assert (await _make(site, admin, tenant_id="globex")).status_code == 403
    assert (await _make(site, admin, tenant_id="acme")).status_code == 201


async def test_making_one_takes_the_scope_admin(site: Site) -> None:
    """And a session has it never."""
    made = await _make(site, await site.token(Scope.READ, Scope.WRITE, Scope.EXPORT))
    assert made.status_code == 403


async def test_making_one_is_recorded(site: Site) -> None:
    """Who made it, with what, for whom; not the secret."""
    issued = await create_token(site.log, name="portal", scopes=[Scope.ADMIN], tenant_id=None)
    made = await _make(site, issued.secret, person={"id": "u1", "name": "Ann"})
    (event,) = await site.events("audit.viewer_link_create", "acme")
    assert event.actor.name == "portal"
    assert event.targets == (Target("user", "u1", "Ann"),)
    assert event.details["credential"] == {"kind": "token", "id": issued.credential.id}
    assert event.details["scopes"] == ["read", "export"]
    assert made.json()["url"].partition("code=")[2] not in repr(event)


# --- opening it


async def test_opening_one_starts_a_session_on_a_clean_page(site: Site) -> None:
    """The secret is left behind: no referrer, no cache, no trace of it in the next URL."""
    link = await site.link()
    async with site.client() as client:
        answer = await client.get(link)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    value, attributes = cookie_of(answer)
    assert attributes == {"Path=/", "Max-Age=3600", "HttpOnly", "SameSite=Lax"}
    assert value not in link


@pytest.mark.parametrize(
    ("settings", "base_url", "wanted"),
    [
        ({}, "https://audit.test", {"SameSite=Lax", "Secure"}),
        ({"behind_tls": True}, "http://audit.test", {"SameSite=Lax", "Secure"}),
        (
            {"frame_ancestors": ("https://app.example.com",)},
            "http://audit.test",
            {"SameSite=None", "Secure", "Partitioned"},
        ),
    ],
    ids=["tls", "behind tls", "in a frame"],
)
async def test_the_cookie_goes_no_further_than_it_must(
    tmp_path: Any, settings: dict[str, Any], base_url: str, wanted: set[str]
) -> None:
    """Over TLS it never leaves it; in a frame of another site it is that site's own."""
    async with serving(f"sqlite:///{tmp_path}/a.db", **settings) as site:
        link = await site.link()
        async with site.client(base_url=base_url) as client:
            _, attributes = cookie_of(await client.get(link))
    assert attributes == {"Path=/", "Max-Age=3600", "HttpOnly"} | wanted


async def test_mounted_the_cookie_and_the_page_are_under_the_mount(tmp_path: Any) -> None:
    """The host application does not get the cookie."""
    async with serving(f"sqlite:///{tmp_path}/a.db", root_path="/audit") as site:
        made = await _make(site, await site.token(Scope.ADMIN))
        url = made.json()["url"]
        async with site.client() as client:
            answer = await client.get(url)
    assert url.startswith("http://audit.test/audit/enter?code=")
    assert answer.headers["Location"] == "/audit/"
    assert "Path=/audit" in cookie_of(answer)[1]


async def test_a_link_opens_once(site: Site) -> None:
    """The second time there is no session, whoever comes."""
    link = await site.link()
    async with site.client() as client:
        assert (await client.get(link)).status_code == 303
    async with site.client() as client:
        answer = await client.get(link)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


async def test_of_many_at_once_one_gets_in(site: Site) -> None:
    """However they race."""
    link = await site.link()
    async with site.client() as client:
        answers = await asyncio.gather(*(client.get(link) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [303] + [403] * 9
    assert len(await site.log.store.credentials.listed("session")) == 1


async def test_a_link_that_can_not_be_opened_says_not_why(site: Site) -> None:
    """Used, revoked, a token, garbage or nothing: the same answer."""
    used = await site.link()
    revoked = await site.link()
    (_, credential) = await site.log.store.credentials.listed("link")
    await site.log.store.credentials.revoke(credential.id, datetime.now(UTC))
    token = await site.token(Scope.READ)
    async with site.client() as client:
        await client.get(used)
        answers = [
            await client.get(each)
            for each in (
                used,
                revoked,
                f"/enter?code={token}",
                f"/enter?code={token[9:]}",
                "/enter?code=" + "a" * 43,
                "/enter?code=%00%ff",
                "/enter",
            )
        ]
    assert {answer.status_code for answer in answers} == {403}
    assert len({answer.content for answer in answers}) == 1


async def test_a_link_expires(site: Site) -> None:
    """After its time nobody opens it any more."""
    now = datetime.now(UTC)
    issued = issue(
        "link",
        name="portal",
        scopes=SESSION_SCOPES,
        tenant_id="acme",
        created_at=now - timedelta(minutes=2),
        expires_at=now,
    )
    await site.log.store.credentials.add(issued.credential)
    async with site.client() as client:
        assert (await client.get(f"/enter?code={issued.secret}")).status_code == 403


# --- the session


async def test_a_session_reads_one_tenant(site: Site) -> None:
    """And asks for no other one."""
    for tenant_id in ("acme", "globex"):
        await site.log.record("login", tenant_id=tenant_id)
    async with site.viewing() as client:
        found = (await client.get("/v1/events?action=login")).json()["events"]
        other = await client.get("/v1/events?tenant_id=globex")
    assert [event["tenant_id"] for event in found] == ["acme"]
    assert other.status_code == 403


async def test_a_session_is_over_after_its_time(site: Site) -> None:
    """An hour, however it is used."""
    async with site.viewing() as client:
        assert (await client.get("/v1/actions")).status_code == 200
        site.clock.ahead = 3_601
        assert (await client.get("/v1/actions")).status_code == 401


async def test_a_session_ends_with_the_token_that_made_its_link(site: Site) -> None:
    """A host application that lost its token has let nobody in for longer."""
    issued = await create_token(site.log, name="portal", scopes=[Scope.ADMIN], tenant_id=None)
    made = await _make(site, issued.secret)
    async with site.client() as client:
        await client.get(made.json()["url"])
        assert (await client.get("/v1/actions")).status_code == 200
        await revoke_token(site.log, issued.credential.id)
        site.clock.passed = REMEMBERED_SECONDS
        assert (await client.get("/v1/actions")).status_code == 401


async def test_a_link_ends_with_its_token(site: Site) -> None:
    """One that was not opened yet, too."""
    issued = await create_token(site.log, name="portal", scopes=[Scope.ADMIN], tenant_id=None)
    made = await _make(site, issued.secret)
    await revoke_token(site.log, issued.credential.id)
    async with site.client() as client:
        assert (await client.get(made.json()["url"])).status_code == 403
