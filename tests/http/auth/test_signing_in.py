"""Signing in with a token, and out again."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.errors import NotDurable
from muniment.event import Actor, Outcome
from muniment.http.access import Scope
from muniment.http.auth.lookup import REMEMBERED_SECONDS
from muniment.http.auth.signing_in import local_path
from muniment.http.auth.tokens import create_token, revoke_token
from tests.http.auth.calling import SAME_ORIGIN, Site, cookie_of, serving


async def _sign_in(site: Site, token: str, **form: str) -> Any:
    async with site.client() as client:
        return await client.post("/sign-in", data={"token": token, **form}, headers=SAME_ORIGIN)


async def test_the_form_asks_for_a_token(site: Site) -> None:
    """It is a page, kept by nobody, and knows where to go on to."""
    async with site.client() as client:
        answer = await client.get("/sign-in?next=/events/e1%3Fx=1")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["Cache-Control"] == "no-store"
    assert 'value="/events/e1?x=1"' in answer.text


async def test_signing_in_makes_a_session_and_leads_on(site: Site) -> None:
    """The token itself is not in the cookie."""
    token = await site.token(Scope.READ, Scope.WRITE)
    answer = await _sign_in(site, f" {token}\n", next="/events/e1?x=1")
    value, _ = cookie_of(answer)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/events/e1?x=1")
    assert token[9:] not in value


async def test_a_session_has_what_the_token_may_read(site: Site) -> None:
    """Its tenant, and of its scopes those that change nothing."""
    await _sign_in(site, await site.token(*Scope, tenant_id="acme"))
    await _sign_in(site, await site.token(Scope.EXPORT, Scope.WRITE, tenant_id=None))
    first, second = await site.log.store.credentials.listed("session")
    assert (first.tenant_id, first.scopes) == ("acme", ("read", "export"))
    assert (second.tenant_id, second.scopes) == (None, ("export",))


async def test_a_session_ends_with_its_token(site: Site) -> None:
    """Revoking one revokes both."""
    issued = await create_token(site.log, name="n", scopes=[Scope.READ], tenant_id=None)
    async with site.client() as client:
        await client.post("/sign-in", data={"token": issued.secret}, headers=SAME_ORIGIN)
        assert (await client.get("/v1/actions")).status_code == 200
        await revoke_token(site.log, issued.credential.id)
        site.clock.passed = REMEMBERED_SECONDS
        assert (await client.get("/v1/actions")).status_code == 401


async def test_a_token_that_does_not_do_gets_the_form_again(site: Site) -> None:
    """Unknown, revoked, garbage, or one that may read nothing: the same page, and no cookie."""
    issued = await create_token(site.log, name="n", scopes=[Scope.READ], tenant_id=None)
    await revoke_token(site.log, issued.credential.id)
    writer = await site.token(Scope.WRITE, Scope.ADMIN)
    unknown = "muniment_" + "a" * 43
    answers = [
        await _sign_in(site, each)
        for each in (issued.secret, writer, unknown, "x", "", "é" * 10, "\x00")
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert all("set-cookie" not in answer.headers for answer in answers)
    assert "aaaa" not in answers[2].text


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.test"}, {"Origin": "null"}],
    ids=str,
)
@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
async def test_another_site_signs_nobody_in_or_out(
    site: Site, path: str, headers: dict[str, str]
) -> None:
    """A form that is sent from elsewhere does nothing."""
    token = await site.token(Scope.READ)
    async with site.viewing() as client:
        answer = await client.post(path, data={"token": token}, headers=headers)
        assert answer.status_code == 403
        assert (await client.get("/v1/actions")).status_code == 200


async def test_signing_out_ends_the_session(site: Site) -> None:
    """At once; the browser forgets the cookie, and who kept it comes in no more."""
    async with site.viewing() as client:
        secret = client.cookies["muniment_session"]
        assert (await client.get("/v1/actions")).status_code == 200
        answer = await client.post("/sign-out", headers=SAME_ORIGIN)
        kept = {"Cookie": f"muniment_session={secret}"}
        assert (await client.get("/v1/actions", headers=kept)).status_code == 401
    value, attributes = cookie_of(answer)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in")
    assert value == ""
    assert "Max-Age=0" in attributes


async def test_who_is_not_signed_in_can_sign_out(site: Site) -> None:
    """It leads to the form, as ever."""
    async with site.client() as client:
        answer = await client.post("/sign-out", headers=SAME_ORIGIN)
    assert answer.status_code == 303


async def test_mounted_everything_leads_under_the_mount(tmp_path: Any) -> None:
    """The form's own address, and where it leads."""
    async with serving(f"sqlite:///{tmp_path}/a.db", root_path="/audit") as site:
        token = await site.token(Scope.READ)
        async with site.client() as client:
            form = await client.get("/audit/sign-in")
            led = await client.get("/audit/", headers={"Accept": "text/html"})
            answer = await client.post(
                "/audit/sign-in", data={"token": token, "next": "/live"}, headers=SAME_ORIGIN
            )
    assert 'action="/audit/sign-in"' in form.text
    assert led.status_code == 404 or led.headers["Location"].startswith("/audit/sign-in?next=/")
    assert answer.headers["Location"] == "/audit/live"


@pytest.mark.parametrize(
    "elsewhere",
    [
        "http://evil.test/",
        "//evil.test/",
        "///evil.test",
        "/\\evil.test",
        "\\\\evil.test",
        "/\t/evil.test",
        "/\n/evil.test",
        "\t//evil.test",
        " //evil.test",
        "javascript:alert(1)",
        "evil.test",
        "",
        "https:evil.test",
        '/"><script>',
        "/é",
        "/" + "a" * 9_000,
    ],
)
async def test_it_leads_nowhere_else(site: Site, elsewhere: str) -> None:
    """What is not plainly a path of ours is our home."""
    answer = await _sign_in(site, await site.token(Scope.READ), next=elsewhere)
    assert answer.headers["Location"] == "/"


@pytest.mark.parametrize("path", ["/", "/events/e1", "/?q=a%2Fb&since=24h", "/live?tz=UTC#x"])
def test_a_path_of_ours_is_kept(path: str) -> None:
    """As it is."""
    assert local_path(path) == path


@given(st.text(st.sampled_from("/\\.:@?#%ab \t\n\r\x00é"), max_size=12))
def test_whatever_is_given_stays_with_us(given_path: str) -> None:
    """A browser reads the result as a path: one slash, and nothing that it would leave out."""
    path = local_path(given_path)
    assert path.startswith("/")
    assert path[1:2] not in {"/", "\\"}
    assert path.isprintable()
    assert "\\" not in path


# --- on the record


@pytest.mark.parametrize(("tenant_id", "recorded_in"), [("acme", "acme"), (None, "system")])
async def test_signing_in_is_recorded(site: Site, tenant_id: str | None, recorded_in: str) -> None:
    """In the token's tenant: as whom, with which token, from where; no secret is in it."""
    issued = await create_token(site.log, name="auditor", scopes=[Scope.READ], tenant_id=tenant_id)
    answer = await _sign_in(site, issued.secret)
    (event,) = await site.events("audit.sign_in")
    (session,) = await site.log.store.credentials.listed("session")
    assert (event.tenant_id, event.outcome) == (recorded_in, Outcome.SUCCESS)
    assert event.actor == Actor.service(issued.credential.id, name="auditor")
    assert event.context.ip == "192.0.2.7"
    assert event.details == {
        "shown": {"kind": "token", "id": issued.credential.id},
        "credential": {"kind": "session", "id": session.id},
    }
    value, _ = cookie_of(answer)
    assert value not in repr(event)
    assert issued.secret[9:] not in repr(event)


async def test_opening_a_link_is_signing_in(site: Site) -> None:
    """As the person whom the host application named, in the tenant of the link."""
    async with site.viewing(person={"id": "u1", "name": "Ann"}):
        (event,) = await site.events("audit.sign_in")
    (link,) = await site.log.store.credentials.listed("link")
    assert (event.tenant_id, event.actor) == ("acme", Actor.user("u1", name="Ann"))
    assert event.details["shown"] == {"kind": "link", "id": link.id}


async def test_signing_out_is_recorded_once(site: Site) -> None:
    """As whoever had signed in; the same session can't do it twice."""
    async with site.viewing(person={"id": "u1", "name": "Ann"}) as client:
        kept = {"Cookie": f"muniment_session={client.cookies['muniment_session']}"}
        for _ in range(2):
            await client.post("/sign-out", headers=SAME_ORIGIN | kept)
    (event,) = await site.events("audit.sign_out")
    (session,) = await site.log.store.credentials.listed("session")
    assert (event.tenant_id, event.actor) == ("acme", Actor.user("u1", name="Ann"))
    assert event.details == {"credential": {"kind": "session", "id": session.id}}


async def test_nobody_fills_the_trail_by_being_refused(site: Site) -> None:
    """Sign-ins that fail are counted in the metrics, and recorded nowhere."""
    before = len(await site.log.store.read(None, 100))
    for token in ("muniment_" + "a" * 43, "x", ""):
        await _sign_in(site, token)
    async with site.client() as client:
        await client.get("/enter?code=" + "a" * 43)
        await client.post("/sign-out", headers=SAME_ORIGIN)
    metrics = site.service.requests.exposition(site.log).decode()
    assert len(await site.log.store.read(None, 100)) == before
    refused = re.findall(
        r'request_seconds_count\{method="\w+",route="(/sign-in|/enter)",status="4xx"\} (\S+)',
        metrics,
    )
    assert dict(refused) == {"/sign-in": "3.0", "/enter": "1.0"}


async def test_nobody_gets_a_session_that_is_not_recorded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As nobody reads what can't be recorded: 503, and no cookie."""
    token = await site.token(Scope.READ)

    async def lost(*_: object, **__: object) -> None:
        raise NotDurable

    monkeypatch.setattr(site.log, "record", lost)
    answer = await _sign_in(site, token)
    assert answer.status_code == 503
    assert "set-cookie" not in answer.headers


async def test_a_session_ends_though_that_is_not_recorded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signing out says that something failed, and the session is over."""

    async def lost(*_: object, **__: object) -> None:
        raise NotDurable

    async with site.viewing() as client:
        monkeypatch.setattr(site.log, "record", lost)
        assert (await client.post("/sign-out", headers=SAME_ORIGIN)).status_code == 503
        assert (await client.get("/v1/actions")).status_code == 401
