"""A host that mounts the service lets its own callers in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from http.cookies import SimpleCookie
from typing import Any, Final

import httpx
import pytest

from muniment import Actor, AuditLog
from muniment.http import Caller, Scope, make_app
from muniment.http.access import SESSION_SCOPES
from tests.http.api.calling import Stream
from tests.http.auth.calling import SAME_ORIGIN, Site, serving

_READS: Final = {"/v1/events", "/v1/actions", "/", "/live", "/live.json"}


def _user(id: str, *, tenant_id: str | None = "acme", scopes: Any = SESSION_SCOPES) -> Caller:
    return Caller(
        id=id, scopes=frozenset(scopes), tenant_id=tenant_id, actor=Actor.user(id or "nobody")
    )


_USERS: Final = {
    "ann": _user("ann"),
    "bob": _user("bob", tenant_id="globex"),
    "ops": _user("ops", tenant_id=None, scopes=Scope),
}
_WRONG: Final[dict[str, Any]] = {
    "no-tenant": _user("x", tenant_id=""),
    "no-id": _user(""),
    "no-caller": {"id": "ann"},
}
_ERRORS: Final[dict[str, Exception]] = {
    "fails": RuntimeError("redis://:secret@sessions"),
    "gone": ConnectionError("redis://:secret@sessions"),
    "slow": TimeoutError("redis://:secret@sessions"),
}


async def _identify(scope: Mapping[str, Any]) -> Caller | None:
    """By a cookie of the host's, or by a header that its programs send."""
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    cookie = SimpleCookie(headers.get("cookie", "")).get("host_session")
    name = cookie.value if cookie else headers.get("x-program", "")
    if name in _ERRORS:
        raise _ERRORS[name]
    known: Caller | None = (_USERS | _WRONG).get(name)
    return known


@pytest.fixture
async def site(sqlite_url: str) -> AsyncIterator[Site]:
    """The application with a host's own identification, over events of two tenants."""
    async with serving(sqlite_url, identify=_identify) as found:
        for tenant_id in ("acme", "globex"):
            await found.log.record(f"of.{tenant_id}", tenant_id=tenant_id)
        yield found


def _as(name: str, **headers: str) -> dict[str, str]:
    return {"Cookie": f"host_session={name}", **headers}


# --- who comes in


@pytest.mark.parametrize("path", sorted(_READS))
async def test_whom_the_host_knows_comes_in(site: Site, path: str) -> None:
    """To the API and to the pages."""
    async with site.client() as client:
        answer = await client.get(path, headers=_as("ann", Accept="text/html, */*"))
    assert answer.status_code == 200


async def test_a_caller_of_the_host_is_kept_to_its_tenant(site: Site) -> None:
    """As a token is."""
    async with site.client() as client:
        own = (await client.get("/v1/events?action=of.*", headers=_as("bob"))).json()["events"]
        other = await client.get("/v1/events?tenant_id=acme", headers=_as("bob"))
    assert [event["action"] for event in own] == ["of.globex"]
    assert other.status_code == 403


async def test_a_caller_of_the_host_has_its_scopes_alone(site: Site) -> None:
    """No other one comes with them."""
    async with site.client() as client:
        refused = await client.post("/v1/events", json={"action": "x"}, headers=_as("ann"))
        metrics = await client.get("/metrics", headers=_as("ann"))
    assert (refused.status_code, metrics.status_code) == (403, 403)


async def test_its_reading_is_recorded_as_its_own(site: Site) -> None:
    """By whom the host says it is, with the id that the host gave, from where it came."""
    async with site.client() as client:
        await client.get("/v1/events", headers=_as("ann"))
    (event,) = await site.events("audit.view", "acme")
    assert event.actor == Actor.user("ann")
    assert event.details["credential"] == {"kind": "host", "id": "ann"}
    assert event.context.ip == "192.0.2.7"


async def test_whom_the_host_does_not_know_the_service_may(site: Site) -> None:
    """By a token, or by a session; and nobody else."""
    token = await site.token(Scope.READ)
    async with site.client(token) as client:
        assert (await client.get("/v1/events")).status_code == 200
    async with site.viewing() as client:
        assert (await client.get("/v1/events")).status_code == 200
    async with site.client() as client:
        assert (await client.get("/v1/events", headers=_as("eve"))).status_code == 401


async def test_the_host_comes_first(site: Site) -> None:
    """Where it knows a caller, a token beside that is not looked at."""
    async with site.client(await site.token(Scope.READ, tenant_id="globex")) as client:
        found = (await client.get("/v1/events?action=of.*", headers=_as("ann"))).json()["events"]
    assert [event["action"] for event in found] == ["of.acme"]


async def test_whom_the_host_forgets_is_cut_off(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again while a tail is open."""
    monkeypatch.setattr("muniment.http.api.tailing._LOOK_AGAIN", 0.01)
    monkeypatch.setitem(_USERS, "tmp", _user("tmp"))
    async with Stream(site.app, "/v1/tail?action=nothing", _as("tmp")) as stream:
        await stream.message()
        monkeypatch.delitem(_USERS, "tmp")
        assert await stream.piece() == b""


# --- what goes wrong at the host


@pytest.mark.parametrize(
    ("name", "status"),
    [("fails", 500), ("gone", 503), ("slow", 503), *((name, 500) for name in _WRONG)],
)
@pytest.mark.parametrize("path", ["/v1/events", "/"])
async def test_an_error_of_the_hosts_tells_nothing(
    site: Site, path: str, name: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """One shape, as ever; what it was is in the log. Nobody is let in by it."""
    async with site.client(await site.token(*Scope, tenant_id=None)) as client:
        answer = await client.get(path, headers=_as(name, Accept="application/json"))
    assert (answer.status_code, answer.headers["Content-Type"]) == (
        status,
        "application/problem+json",
    )
    assert "secret" not in answer.text
    assert "identification failed" in caplog.text
    assert ("Retry-After" in answer.headers) == (status == 503)


# --- what another site may not do


_FOREIGN: Final[tuple[dict[str, str], ...]] = (
    {},
    {"Origin": "http://evil.test"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://audit.test"},
)
_EXPORT: Final = {"format": "jsonl", "filters": {}}


@pytest.mark.parametrize("headers", _FOREIGN, ids=str)
@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/v1/exports", _EXPORT),
        ("/v1/events", {"action": "x"}),
        ("/v1/viewer-links", {"tenant_id": "acme"}),
    ],
)
async def test_another_site_does_nothing_with_a_cookie_of_the_hosts(
    site: Site, path: str, sent: Any, headers: dict[str, str]
) -> None:
    """Whatever its caller may do."""
    async with site.client() as client:
        answer = await client.post(path, json=sent, headers=_as("ops", **headers))
    assert answer.status_code == 403


@pytest.mark.parametrize("headers", [SAME_ORIGIN, {"Origin": "http://audit.test"}], ids=str)
async def test_a_page_of_this_site_does(site: Site, headers: dict[str, str]) -> None:
    """What the caller's scopes allow, recording included."""
    async with site.client() as client:
        begun = await client.post("/v1/exports", json=_EXPORT, headers=_as("ann", **headers))
        posted = await client.post(
            "/v1/events", json={"action": "x"}, headers=_as("ops", **headers)
        )
    assert (begun.status_code, posted.status_code) == (202, 201)


async def test_a_program_of_the_hosts_does(site: Site) -> None:
    """It is no browser, and has no cookie: no other site can make it ask."""
    async with site.client() as client:
        posted = await client.post("/v1/events", json={"action": "x"}, headers={"X-Program": "ops"})
    assert posted.status_code == 201


# --- mounted


async def test_mounted_in_a_host_its_middleware_says_who_calls(sqlite_url: str) -> None:
    """What the host's own middleware put into the scope is there to be asked."""

    async def identify(scope: Mapping[str, Any]) -> Caller | None:
        return _USERS.get(scope.get("user", ""))

    async with AuditLog.open(sqlite_url) as log:
        await log.record("of.acme", tenant_id="acme")
        app: Any = make_app(log, identify=identify)

        async def host(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "root_path": "/audit", "user": "ann"}, receive, send)

        transport = httpx.ASGITransport(host)
        async with httpx.AsyncClient(transport=transport, base_url="http://host.test") as client:
            page = await client.get("/audit/", headers={"Accept": "text/html"})
            head = await client.head("/audit/")
    assert (page.status_code, head.status_code) == (200, 200)
    assert "of.acme" in page.text or "Of acme" in page.text
