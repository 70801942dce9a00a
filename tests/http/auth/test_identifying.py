"""Who is calling: what is taken for a credential, and how everything else is refused."""

from __future__ import annotations

import hmac
import logging
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar import get, post
from litestar.di import NamedDependency

from muniment.event import Actor
from muniment.http.access import COOKIE_KEY, PUBLIC, SCOPE_KEY, Caller, Scope
from muniment.http.auth.tokens import create_token, revoke_token
from tests.http.auth.calling import SAME_ORIGIN, Site, serving

_SECRET = "muniment_" + "a" * 43


@get("/probe", opt={SCOPE_KEY: Scope.READ})
async def probe(caller: NamedDependency[Caller]) -> dict[str, Any]:
    """Who is calling."""
    return {
        "kind": caller.kind,
        "id": caller.id,
        "tenant_id": caller.tenant_id,
        "scopes": sorted(caller.scopes),
        "actor": caller.actor,
        "context": caller.context,
    }


@get("/forgotten")
async def forgotten() -> str:
    """A route whose author said nothing about who may call it."""
    return "reached"


@get("/misspelt", opt={SCOPE_KEY: "read"})
async def misspelt() -> str:
    """A route that names a scope in another way."""
    return "reached"


@post("/by-cookie", opt={SCOPE_KEY: Scope.EXPORT, COOKIE_KEY: True})
async def by_cookie() -> str:
    """A route that a session may post to."""
    return "reached"


@post("/by-token", opt={SCOPE_KEY: Scope.EXPORT})
async def by_token() -> str:
    """A route that only a token may post to."""
    return "reached"


@get("/open", opt={SCOPE_KEY: PUBLIC})
async def opened() -> str:
    """A route for everybody."""
    return "reached"


@pytest.fixture(autouse=True)
def probed(site: Site) -> None:
    """The application with these routes too."""
    for handler in (probe, forgotten, misspelt, by_cookie, by_token, opened):
        site.app.register(handler)


async def _get(site: Site, path: str = "/probe", **headers: str) -> Any:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    async with site.client() as client:
        return await client.get(path, headers=raw)


# --- what is taken


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
async def test_a_token_says_who_calls(site: Site, scheme: str) -> None:
    """Its id, tenant and scopes; it acts as the service that it is named after."""
    issued = await create_token(
        site.log, name="billing", scopes=[Scope.READ, Scope.WRITE], tenant_id="acme"
    )
    answer = await _get(site, Authorization=f"{scheme} {issued.secret}")
    found = answer.json()
    assert answer.status_code == 200
    assert (found["kind"], found["id"]) == ("token", issued.credential.id)
    assert (found["tenant_id"], found["scopes"]) == ("acme", ["read", "write"])
    assert found["actor"] == {"type": "service", "id": issued.credential.id, "name": "billing"}


async def test_a_session_says_for_whom_it_was_made(site: Site) -> None:
    """It acts as the person that the host application named."""
    async with site.viewing(person={"id": "u1", "name": "Ann"}) as client:
        found = (await client.get("/probe")).json()
    assert (found["kind"], found["tenant_id"]) == ("session", "acme")
    assert found["actor"] == {"type": "user", "id": "u1", "name": "Ann"}
    assert found["scopes"] == ["export", "read"]


async def test_where_a_call_comes_from_is_known(site: Site) -> None:
    """Address, program and request id; what the client says of other addresses is not believed."""
    token = await site.token(Scope.READ)
    async with site.client(token) as client:
        headers = {"User-Agent": "probe/1", "X-Request-Id": "r1", "X-Forwarded-For": "203.0.113.9"}
        found = (await client.get("/probe", headers=headers)).json()["context"]
    assert found == {"ip": "192.0.2.7", "user_agent": "probe/1", "request_id": "r1"}


@pytest.mark.parametrize(
    ("forwarded", "ip"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("10.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("nonsense", "192.0.2.7"),
        ("", "192.0.2.7"),
    ],
)
async def test_behind_a_proxy_it_is_the_address_that_the_proxy_saw(
    tmp_path: Any, forwarded: str, ip: str
) -> None:
    """The last one; those before it anybody may have written."""
    async with serving(f"sqlite:///{tmp_path}/a.db", behind_tls=True) as site:
        site.app.register(probe)
        token = await site.token(Scope.READ)
        answer = await _get(site, Authorization=f"Bearer {token}", **{"X-Forwarded-For": forwarded})
    assert answer.json()["context"]["ip"] == ip


async def test_a_header_that_no_event_can_hold_stops_nobody(site: Site) -> None:
    """Control characters and length are made to fit."""
    token = await site.token(Scope.READ)
    headers = {"X-Request-Id": "r" * 5_000, "User-Agent": "é" * 5_000}
    answer = await _get(site, Authorization=f"Bearer {token}", **headers)
    assert answer.status_code == 200


# --- what is refused


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer muniment_",
        f"Bearer {_SECRET}",
        f"Bearer {_SECRET}=",
        f"Bearer {_SECRET[:-1]}",
        f"Bearer {_SECRET[:-1]}é",
        f"Basic {_SECRET}",
        f"Token {_SECRET}",
        _SECRET,
        "Bearer a.b.c",
        "Bearer " + "a" * 20_000,
    ],
)
async def test_garbage_is_refused_in_one_way(site: Site, shown: str) -> None:
    """A 401 that says nothing about what was wrong, and nothing of what was shown."""
    answer = await _get(site, Authorization=shown)
    assert answer.status_code == 401
    assert answer.json()["detail"] == "Show a valid token: Authorization: Bearer …"
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="muniment"')
    assert "aaaa" not in answer.text


async def test_without_a_credential_there_is_a_challenge(site: Site) -> None:
    """It names the scheme and no error (RFC 6750, section 3.1)."""
    answer = await _get(site)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="muniment"'


@given(shown=st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=80))
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_no_header_gets_in_or_fails(site: Site, shown: str) -> None:
    """Whatever stands in Authorization and Cookie: 401."""
    raw = shown.encode("latin-1")
    async with site.client() as client:
        for name in (b"Authorization", b"Cookie"):
            for prefix in (b"", b"Bearer ", b"Bearer muniment_", b"muniment_session="):
                answer = await client.get("/probe", headers=[(name, prefix + raw)])
                assert answer.status_code == 401


async def test_expired_revoked_and_unknown_are_told_apart_by_nobody(site: Site) -> None:
    """The same status, headers and bytes for all three."""
    site.clock.ahead = 3_601
    short = await site.token(Scope.READ, lifetime=timedelta(hours=1))
    issued = await create_token(site.log, name="n", scopes=[Scope.READ], tenant_id=None)
    await revoke_token(site.log, issued.credential.id)
    answers = [
        await _get(site, Authorization=f"Bearer {each}") for each in (short, issued.secret, _SECRET)
    ]
    assert [a.status_code for a in answers] == [401] * 3
    assert len({(a.content, a.headers["WWW-Authenticate"]) for a in answers}) == 1


async def test_a_token_is_no_cookie_and_a_cookie_no_token(site: Site) -> None:
    """Each secret opens in its own place only."""
    token = await site.token(Scope.READ)
    answer = await _get(site, Cookie=f"muniment_session={token}")
    assert answer.status_code == 401
    async with site.viewing() as client:
        secret = client.cookies["muniment_session"]
    for shown in (secret, f"muniment_{secret}"):
        assert (await _get(site, Authorization=f"Bearer {shown}")).status_code == 401


async def test_the_code_of_a_link_is_no_session(site: Site) -> None:
    """It has to be used up for one."""
    code = (await site.link()).partition("code=")[2]
    assert (await _get(site, Cookie=f"muniment_session={code}")).status_code == 401


async def test_a_bad_token_beside_a_good_session_is_bad(site: Site) -> None:
    """What is shown on purpose counts."""
    async with site.viewing() as client:
        answer = await client.get("/probe", headers={"Authorization": f"Bearer {_SECRET}"})
    assert answer.status_code == 401


async def test_hashes_are_compared_in_constant_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store found is believed once `hmac.compare_digest` has seen it."""
    token = await site.token(Scope.READ)
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: False)
    assert (await _get(site, Authorization=f"Bearer {token}")).status_code == 401


async def test_a_scope_that_is_missing_is_a_403(site: Site) -> None:
    """It names the scope."""
    token = await site.token(Scope.WRITE, Scope.EXPORT, Scope.ADMIN)
    answer = await _get(site, Authorization=f"Bearer {token}")
    assert answer.status_code == 403
    assert "read" in answer.json()["detail"]


async def test_no_secret_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Not at the lowest level, and not when the handler fails."""
    caplog.set_level(logging.DEBUG)
    token = await site.token(Scope.READ)
    for path in ("/probe", "/forgotten", "/v1/events/x"):
        await _get(site, path, Authorization=f"Bearer {token}")
        await _get(site, path, Authorization=f"Bearer {_SECRET}")
    ours = [record for record in caplog.records if not record.name.startswith("httpx")]
    said = "\n".join(f"{record.getMessage()} {record.exc_text}" for record in ours)
    assert token[9:] not in said
    assert _SECRET[9:] not in said


# --- closed by default


@pytest.mark.parametrize("path", ["/forgotten", "/misspelt"])
async def test_a_route_that_does_not_say_who_may_call_it_is_closed(site: Site, path: str) -> None:
    """To every token, and to none."""
    token = await site.token(*Scope, tenant_id=None)
    for headers in ({}, {"Authorization": f"Bearer {token}"}):
        answer = await _get(site, path, **headers)
        assert answer.status_code == 500
        assert "reached" not in answer.text


async def test_a_public_route_is_open(site: Site) -> None:
    """Also to who shows a bad token: it is not looked at."""
    answer = await _get(site, "/open", Authorization=f"Bearer {_SECRET}")
    assert answer.text == "reached"


async def test_what_methods_a_route_has_is_no_secret(site: Site) -> None:
    """OPTIONS needs no token, and says nothing else."""
    async with site.client() as client:
        answer = await client.options("/probe")
    assert (answer.status_code, answer.content) == (204, b"")


# --- sessions change nothing


@pytest.mark.parametrize(
    "headers",
    [
        SAME_ORIGIN,
        {"Origin": "http://audit.test"},
        {"Origin": "http://audit.test", **SAME_ORIGIN},
    ],
    ids=str,
)
async def test_a_session_posts_from_our_own_page(site: Site, headers: dict[str, str]) -> None:
    """Where the route takes cookies."""
    async with site.viewing() as client:
        assert (await client.post("/by-cookie", headers=headers)).status_code == 201
        assert (await client.post("/by-token", headers=headers)).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.test"},
        {"Origin": "https://audit.test"},
        {"Origin": "http://audit.test:81"},
        {"Origin": "http://audit.test.evil.test"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://audit.test"},
        {"Referer": "http://audit.test/"},
    ],
    ids=str,
)
async def test_a_session_does_not_post_from_anywhere_else(
    site: Site, headers: dict[str, str]
) -> None:
    """Nor from where it is not known."""
    async with site.viewing() as client:
        assert (await client.post("/by-cookie", headers=headers)).status_code == 403


async def test_a_token_posts_from_anywhere(site: Site) -> None:
    """No browser adds it by itself."""
    async with site.client(await site.token(Scope.EXPORT)) as client:
        answer = await client.post("/by-token", headers={"Origin": "http://evil.test"})
    assert answer.status_code == 201


# --- pages


async def test_a_browser_without_a_session_is_led_to_the_form(site: Site) -> None:
    """And back to where it was going."""
    async with site.client() as client:
        answer = await client.get("/probe?q=a%26b&x=1", headers={"Accept": "text/html,*/*"})
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/sign-in?next=/probe%3Fq%3Da%2526b%26x%3D1"


async def test_the_api_leads_nobody_to_a_form(site: Site) -> None:
    """Whatever it accepts."""
    async with site.client() as client:
        answer = await client.get("/v1/events", headers={"Accept": "text/html"})
    assert answer.status_code == 401


def test_what_a_caller_is_shown_as_names_no_secret() -> None:
    """A caller may stand in any log."""
    caller = Caller(kind="token", id="c1", scopes=frozenset(), tenant_id=None, actor=Actor.system())
    assert "muniment_" not in repr(caller)
