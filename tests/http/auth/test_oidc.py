"""Tokens of an OpenID Connect issuer: which are taken, and what they are taken for."""

from __future__ import annotations

import base64
import json
import time
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from muniment.http import ServiceSettings
from muniment.http.access import Caller, Scope
from muniment.http.auth.oidc import Issuer as Verifier
from muniment.http.problems import Refusal
from tests.http.auth.calling import Clock, Site, serving
from tests.http.auth.issuer import Issuer, described, signed_with_public_key


@pytest.fixture
async def site(sqlite_url: str, issuer: Issuer) -> AsyncIterator[Site]:
    """The application, which takes the issuer's tokens."""
    async with serving(sqlite_url, **issuer.settings()) as found:
        yield found


@pytest.fixture
def clock() -> Clock:
    """A clock that the test moves."""
    return Clock()


@pytest.fixture
def verifier(issuer: Issuer, clock: Clock) -> Verifier:
    """What checks tokens, by that clock."""
    settings = ServiceSettings(**issuer.settings())
    return Verifier(settings, clock=clock.now, monotonic=clock.monotonic)


async def _caller(verifier: Verifier, token: str) -> Caller | None:
    found = await verifier.find(token)
    return found and found[0]


def _parts(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    raw = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in raw)


# --- what is taken


@pytest.mark.parametrize(
    ("key_id", "algorithm"),
    [
        ("rsa", "RS256"),
        ("rsa", "PS512"),
        ("ec", "ES256"),
        ("ed", "EdDSA"),
        ("ed", "Ed25519"),
    ],
)
async def test_a_token_of_the_issuer_is_taken(
    site: Site, issuer: Issuer, key_id: str, algorithm: str
) -> None:
    """Over HTTP, whichever of its keys has signed it."""
    async with site.client(issuer.token(key_id, algorithm)) as client:
        answer = await client.get("/v1/actions")
    assert answer.status_code == 200


async def test_the_claims_say_who_calls(verifier: Verifier, issuer: Issuer) -> None:
    """The tenant, the scopes behind our prefix and no others, and the person."""
    token = issuer.token(scope="openid muniment:read read admin muniment:all", name="Ann")
    caller = await _caller(verifier, token)
    assert caller is not None
    assert (caller.kind, caller.tenant_id) == ("oidc", "acme")
    assert caller.scopes == {Scope.READ}
    assert (caller.actor.type, caller.actor.id, caller.actor.name) == ("user", "u1", "Ann")


@pytest.mark.parametrize("claim", ["client_id", "azp"])
async def test_a_client_of_its_own_is_a_service(
    verifier: Verifier, issuer: Issuer, claim: str
) -> None:
    """Where the subject is the client itself there is no person."""
    claims: dict[str, Any] = {"sub": "crm", claim: "crm"}
    caller = await _caller(verifier, issuer.token(**claims))
    assert caller is not None
    assert (caller.actor.type, caller.actor.id) == ("service", "crm")


async def test_scopes_may_be_a_list(verifier: Verifier, issuer: Issuer) -> None:
    """As some issuers have them; of anything else there are none."""
    found = [
        await _caller(verifier, issuer.token(scope=scope))
        for scope in (["muniment:read", 5], {"muniment:read": 1}, 7, None)
    ]
    assert [caller and set(caller.scopes) for caller in found] == [{Scope.READ}, *[set()] * 3]


async def test_the_audience_may_be_one_of_several(verifier: Verifier, issuer: Issuer) -> None:
    """A token for others too is for us."""
    token = issuer.token(aud=["other", "https://audit.example.com"])
    assert await _caller(verifier, token)


async def test_claims_are_called_as_they_are_set(issuer: Issuer) -> None:
    """Issuers differ."""
    settings = ServiceSettings(
        **issuer.settings(),
        oidc_tenant_claim="https://example.com/org",
        oidc_scope_claim="roles",
        oidc_scope_prefix="audit.",
    )
    claims: dict[str, Any] = {"https://example.com/org": "globex", "roles": ["audit.export"]}
    caller = await _caller(Verifier(settings), issuer.token(**claims))
    assert caller is not None
    assert caller.tenant_id == "globex"
    assert caller.scopes == {Scope.EXPORT}


# --- what is not


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://other.example.com"},
        {"aud": ["other"]},
        {"aud": None},
        {"aud": []},
        {"aud": {"https://audit.example.com": 1}},
        {"iss": "http://127.0.0.1:1/realm"},
        {"iss": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "a\nb"},
        {"sub": 7},
        {"exp": 1_000_000_000},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"nbf": 4_102_444_800},
        {"iat": 4_102_444_800},
    ],
    ids=str,
)
async def test_claims_that_do_not_hold_are_refused(
    verifier: Verifier, issuer: Issuer, claims: dict[str, Any]
) -> None:
    """However well the token is signed."""
    assert await _caller(verifier, issuer.token(**claims)) is None


@pytest.mark.parametrize("claims", [{"iss_slash": True}, {"exp": 1e400}, {"exp": 10**30}], ids=str)
async def test_odd_numbers_and_extra_claims_break_nothing(
    verifier: Verifier, issuer: Issuer, claims: dict[str, Any]
) -> None:
    """A token that never expires is remembered no longer than others."""
    found = await verifier.find(issuer.token(**claims))
    assert found is None or found[1] is not None


async def test_clocks_may_differ_by_a_minute(
    verifier: Verifier, issuer: Issuer, clock: Clock
) -> None:
    """Not by more."""
    token = issuer.token(exp=int(clock.now().timestamp()) + 600)
    clock.ahead = 630
    assert await _caller(verifier, token)
    clock.ahead = 661
    assert await _caller(verifier, token) is None


async def test_a_remembered_token_ends_when_it_expires(site: Site, issuer: Issuer) -> None:
    """Not five seconds later."""
    async with site.client(issuer.token()) as client:
        assert (await client.get("/v1/actions")).status_code == 200
        site.clock.ahead = 661
        assert (await client.get("/v1/actions")).status_code == 401


async def test_a_public_key_is_no_secret_of_an_hmac(verifier: Verifier, issuer: Issuer) -> None:
    """The confusion of algorithms: HS256 under what everybody knows (RFC 8725, section 2.1)."""
    for name in ("rsa", "ec"):
        assert await _caller(verifier, signed_with_public_key(issuer, name)) is None


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 7, ["RS256"]])
async def test_no_algorithm_is_none(verifier: Verifier, issuer: Issuer, algorithm: object) -> None:
    """However it is spelt."""
    claims = {"iss": issuer.url, "aud": "https://audit.example.com", "sub": "u1", "exp": 9e9}
    token = _parts({"alg": algorithm, "kid": "rsa"}, {**claims, "tenant_id": "acme"})
    assert await _caller(verifier, token) is None


async def test_a_key_signs_with_its_own_algorithm(verifier: Verifier, issuer: Issuer) -> None:
    """One that is declared for ES256 has signed nothing else; nor does another kind verify."""
    key = RSAKey.generate_key(2048)
    issuer.keys["rsa"] = described(key, kid="rsa", alg="RS512")
    assert await _caller(verifier, issuer.token("rsa", "RS512"))
    assert await _caller(verifier, issuer.token("rsa", "RS256", key=key)) is None
    assert await _caller(verifier, issuer.token("ec", "RS256", key=key)) is None


async def test_a_key_of_somebody_else_does_not_do(verifier: Verifier, issuer: Issuer) -> None:
    """Under the id of a known one, or brought along in the header."""
    stranger = RSAKey.generate_key(2048)
    assert await _caller(verifier, issuer.token(key=stranger)) is None
    jwk = stranger.as_dict(private=False)
    assert await _caller(verifier, issuer.token(key=stranger, header={"jwk": jwk})) is None


async def test_unfit_keys_are_left_out(verifier: Verifier, issuer: Issuer) -> None:
    """An RSA key under 2,048 bits, one to encrypt with, a shared secret."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weak = RSAKey.generate_key(1024)
        issuer.keys["weak"] = described(weak, kid="weak")
        short = issuer.token("weak", "RS256", key=weak)
    other = ECKey.generate_key("P-256")
    issuer.keys["enc"] = described(other, kid="enc", use="enc")
    secret = OctKey.generate_key(256, {"kid": "oct"})
    issuer.keys["oct"] = secret  # type: ignore[assignment]
    for token in (short, issuer.token("enc", "ES256", key=other), issuer.token("oct", "HS256")):
        assert await _caller(verifier, token) is None


@pytest.mark.parametrize(
    "token", ["..", "a.b.c", "e30.e30.", "e30.e30.e30", "é.é.é", ".".join("abcde"), "." * 50]
)
async def test_garbage_is_refused(verifier: Verifier, token: str) -> None:
    """What is no JWT, or an encrypted one."""
    assert await _caller(verifier, token) is None


async def test_a_changed_token_is_refused(verifier: Verifier, issuer: Issuer) -> None:
    """One bit of what is signed."""
    head, body, signature = issuer.token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["tenant_id"] = "globex"
    other = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    assert await _caller(verifier, f"{head}.{other}.{signature}") is None


@pytest.mark.parametrize("tenant", [None, "", 7, ["acme"], {"id": "acme"}, "a\nb", "x" * 600])
async def test_without_a_tenant_there_is_no_access(
    site: Site, issuer: Issuer, tenant: object
) -> None:
    """A 403, whatever the scopes are: nobody is let into all tenants from outside."""
    async with site.client(issuer.token(tenant_id=tenant)) as client:
        answer = await client.get("/v1/actions")
    assert answer.status_code == 403
    assert "tenant_id" in answer.json()["detail"]


async def test_unless_it_is_configured_no_jwt_is_taken(tmp_path: Any, issuer: Issuer) -> None:
    """And nobody is asked about it."""
    async with (
        serving(f"sqlite:///{tmp_path}/a.db") as site,
        site.client(issuer.token()) as client,
    ):
        answer = await client.get("/v1/actions")
    assert (answer.status_code, issuer.asked) == (401, 0)


# --- the issuer's keys


async def test_the_keys_are_asked_for_once(verifier: Verifier, issuer: Issuer) -> None:
    """For all tokens of ten minutes."""
    for _ in range(3):
        await _caller(verifier, issuer.token())
    assert issuer.asked == 1


async def test_a_new_key_is_found(verifier: Verifier, issuer: Issuer, clock: Clock) -> None:
    """When a token comes that was signed with it."""
    await _caller(verifier, issuer.token())
    clock.passed = 60
    issuer.keys["new"] = RSAKey.generate_key(2048, {"kid": "new"})
    assert await _caller(verifier, issuer.token("new"))
    assert issuer.asked == 2


async def test_unknown_keys_do_not_make_us_ask_all_the_time(
    verifier: Verifier, issuer: Issuer, clock: Clock
) -> None:
    """Once a minute, whatever comes; and they are refused."""
    for n in range(5):
        token = issuer.token(header={"kid": f"unknown-{n}"})
        assert await _caller(verifier, token) is None
    assert issuer.asked == 1
    clock.passed = 60
    assert await _caller(verifier, issuer.token(header={"kid": "unknown"})) is None
    assert issuer.asked == 2


async def test_a_key_that_was_taken_back_verifies_no_more(
    verifier: Verifier, issuer: Issuer, clock: Clock
) -> None:
    """Ten minutes later at the latest."""
    token = issuer.token(exp=int(time.time()) + 6_000)
    assert await _caller(verifier, token)
    issuer.keys["rsa"] = RSAKey.generate_key(2048, {"kid": "other"})
    clock.passed = 600
    assert await _caller(verifier, token) is None


async def test_an_outage_is_no_refusal(site: Site, issuer: Issuer) -> None:
    """A 503 that says to try again, not a 401."""
    issuer.fails = True
    async with site.client(issuer.token()) as client:
        answer = await client.get("/v1/actions")
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers


async def test_nobody_at_the_address_is_an_outage() -> None:
    """Also when the connection is refused."""
    with Issuer() as gone:
        token = gone.token()
        settings = ServiceSettings(**gone.settings())
    with pytest.raises(Refusal) as raised:
        await Verifier(settings).find(token)
    assert raised.value.problem.status == 503


async def test_known_keys_outlast_an_outage(
    verifier: Verifier, issuer: Issuer, clock: Clock
) -> None:
    """For a day; what is signed with another one has to wait."""
    token = issuer.token(exp=int(time.time()) + 200_000)
    assert await _caller(verifier, token)
    issuer.fails = True
    clock.passed = 86_400
    assert await _caller(verifier, token)
    with pytest.raises(Refusal, match="issuer"):
        await verifier.find(issuer.token(header={"kid": "unknown"}))
    clock.passed = 86_401
    with pytest.raises(Refusal, match="issuer"):
        await verifier.find(token)


async def test_metadata_of_another_issuer_is_not_believed(
    verifier: Verifier, issuer: Issuer
) -> None:
    """It must name itself as it is set (OpenID Connect Discovery 1.0, section 4.3)."""
    issuer.claimed = "https://evil.test"
    with pytest.raises(Refusal, match="issuer"):
        await verifier.find(issuer.token())


async def test_a_single_key_needs_no_id(verifier: Verifier, issuer: Issuer) -> None:
    """Nor does a token of it."""
    issuer.keys = {"only": RSAKey.generate_key(2048)}
    assert await _caller(verifier, issuer.token("only", header={"kid": None}))


async def test_among_several_keys_a_token_says_which(verifier: Verifier, issuer: Issuer) -> None:
    """None is tried out."""
    assert await _caller(verifier, issuer.token(header={"kid": None})) is None
