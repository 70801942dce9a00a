"""Signing in with a token, and out again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
