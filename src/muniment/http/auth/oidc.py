"""OpenID Connect: tokens of an issuer outside, signed JWTs (RFC 7519), taken in place of our own.

Nothing of a token is believed before its signature holds under one of the issuer's keys, with an
algorithm of a list of ours in which every one is asymmetric (RFC 8725, section 3.1).
"""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import httpx
from joserfc import jws, jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey, import_key

from muniment.checks import check_id
from muniment.errors import InvalidEvent
from muniment.event import Actor
from muniment.http.access import Caller, Scope
from muniment.http.auth.lookup import Found
from muniment.http.problems import AGAIN, Refusal
from muniment.http.settings import ServiceSettings
from muniment.salvage import salvage_text
from muniment.sealing import utc_now

ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
LEEWAY_SECONDS: Final = 60
"""How far the issuer's clock may be from ours."""
_FRESH_SECONDS: Final = 600.0
_ASK_AGAIN_SECONDS: Final = 60.0
_KEPT_SECONDS: Final = 86_400.0
_TIMEOUT_SECONDS: Final = 5.0
_SHORTEST_RSA_BITS: Final = 2_048
_LONGEST_DAY: Final = 86_400


class Issuer:
    """Checks the tokens of one issuer. Its keys are asked for when first needed.

    They are kept for a day if it can't be reached, asked for again after ten minutes, and for a
    key that is not among them, at most once a minute.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = settings.oidc_issuer or ""
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._asking = asyncio.Lock()
        self._keys: Mapping[str | None, Key] = {}
        self._had_at: float | None = None
        self._asked_at: float | None = None
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(clock().timestamp()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": self._url},
            aud={"essential": True, "value": settings.oidc_audience or ""},
            exp={"essential": True},
            sub={"essential": True},
        )

    async def find(self, token: str) -> Found | None:
        """Whose token it is, and how long it lasts; None if it is not valid.

        Raises a 403 if it names no tenant, a 503 if the issuer's keys are not to be had.
        """
        try:
            signed = jws.extract_compact(token.encode())
            header = signed.headers()
            algorithm, key_id = header.get("alg"), header.get("kid")
        except (JoseError, ValueError):
            return None
        if algorithm not in ALGORITHMS or not isinstance(key_id, str | None):
            return None
        key = await self._key(key_id)
        if key is None:
            return None
        try:
            with warnings.catch_warnings():
                # RFC 9864 gives EdDSA another name; issuers go on calling it that.
                warnings.simplefilter("ignore", SecurityWarning)
                claims = jwt.decode(token, key, algorithms=[algorithm]).claims
            self._claims.validate(claims)
        except (JoseError, ValueError, TypeError):
            return None
        return self._caller(claims)

    def _caller(self, claims: Mapping[str, Any]) -> Found | None:
        subject = claims["sub"]
        try:
            check_id("sub", subject)
        except InvalidEvent:
            return None
        settings = self._settings
        tenant_id = claims.get(settings.oidc_tenant_claim)
        try:
            check_id("tenant_id", tenant_id)  # type: ignore[arg-type]
        except InvalidEvent:
            raise Refusal(
                403, "forbidden", f"Your token names no tenant in {settings.oidc_tenant_claim}."
            ) from None
        given = claims.get(settings.oidc_scope_claim)
        names = given.split() if isinstance(given, str) else given
        wanted = names if isinstance(names, list) else []
        caller = Caller(
            kind="oidc",
            id=sha256(subject.encode()).hexdigest()[:16],
            scopes=frozenset(s for s in Scope if settings.oidc_scope_prefix + s.value in wanted),
            tenant_id=tenant_id,
            actor=_actor(claims),
        )
        ends_at = min(claims["exp"] + LEEWAY_SECONDS, self._clock().timestamp() + _LONGEST_DAY)
        return caller, datetime.fromtimestamp(ends_at, UTC)

    # --- its keys

    async def _key(self, key_id: str | None) -> Key | None:
        if self._is_fresh() and key_id in self._keys:
            return self._keys[key_id]
        async with self._asking:
            if not (self._is_fresh() and key_id in self._keys) and self._may_ask():
                await self._refresh()
        if self._had_at is None or self._monotonic() - self._had_at > _KEPT_SECONDS:
            raise _unavailable()
        key = self._keys.get(key_id)
        if key is None and self._asked_at != self._had_at:
            raise _unavailable()  # it may be a new one
        return key

    def _is_fresh(self) -> bool:
        return self._had_at is not None and self._monotonic() - self._had_at < _FRESH_SECONDS

    def _may_ask(self) -> bool:
        return self._asked_at is None or self._monotonic() - self._asked_at >= _ASK_AGAIN_SECONDS

    async def _refresh(self) -> None:
        self._asked_at = self._monotonic()
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS) as client:
                place = f"{self._url.rstrip('/')}/.well-known/openid-configuration"
                found = (await client.get(place)).raise_for_status().json()
                if found["issuer"] != self._url:
                    return  # OpenID Connect Discovery 1.0, section 4.3
                served = (await client.get(found["jwks_uri"])).raise_for_status().json()
            self._keys = _usable(served["keys"])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
            return
        self._had_at = self._asked_at


def _usable(keys: Iterable[Any]) -> Mapping[str | None, Key]:
    """Public keys to verify with, by their id; a single one without, too."""
    usable: dict[str | None, Key] = {}
    for each in keys:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # it is looked at below
                key = import_key(each)
        except (JoseError, ValueError, TypeError, KeyError):
            continue  # of a kind that we don't know, which others may
        is_fit = isinstance(key, ECKey | OKPKey) or (
            isinstance(key, RSAKey) and key.raw_value.key_size >= _SHORTEST_RSA_BITS
        )
        if is_fit and key.get("use") in {None, "sig"}:
            usable[key.kid] = key
    if len(usable) == 1:
        usable[None] = next(iter(usable.values()))
    return usable


def _actor(claims: Mapping[str, Any]) -> Actor:
    """The subject: a service where it is the client itself (RFC 9068, section 2.2)."""
    subject = claims["sub"]
    if subject in {claims.get("client_id"), claims.get("azp")}:
        return Actor.service(subject)
    name = claims.get("name") or claims.get("preferred_username")
    return Actor.user(subject, name=salvage_text(name) if isinstance(name, str) else None)


def _unavailable() -> Refusal:
    return Refusal(
        503, "issuer-unavailable", "The issuer of your token can't be reached now.", headers=AGAIN
    )
