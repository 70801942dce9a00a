"""Secrets of credentials: 32 random bytes, shown once; what is kept is their SHA-256.

There is nothing to guess, so that a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from muniment.http.access import Scope
from muniment.stores.credentials import Credential, Kind

TOKEN_PREFIX: Final = "muniment_"  # noqa: S105 - none, but what one begins with
"""What scanners for leaked secrets know a token by."""
_PREFIXES: Final[dict[Kind, str]] = {"token": TOKEN_PREFIX, "link": "", "session": ""}
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_SECRET_BYTES: Final = 32
_ID_BYTES: Final = 8


class Issued:
    """A new credential and its secret, which no repr shows and nothing else keeps."""

    def __init__(self, credential: Credential, secret: str) -> None:
        self.credential = credential
        self.secret = secret

    def __repr__(self) -> str:
        return f"Issued({self.credential.kind} {self.credential.id})"


def issue(
    kind: Kind,
    *,
    name: str,
    scopes: frozenset[Scope],
    tenant_id: str | None,
    created_at: datetime,
    entropy: Callable[[int], bytes] = os.urandom,
    **rest: Any,
) -> Issued:
    """A new credential, which the store does not have yet. `rest` are other fields of it."""
    secret = _PREFIXES[kind] + _base64(entropy(_SECRET_BYTES))
    credential = Credential(
        id=entropy(_ID_BYTES).hex(),
        kind=kind,
        secret_hash=hash_of(secret),
        name=name,
        scopes=tuple(scope.value for scope in Scope if scope in scopes),
        tenant_id=tenant_id,
        created_at=created_at,
        **rest,
    )
    return Issued(credential, secret)


def hash_of(secret: str) -> bytes:
    """The SHA-256 of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def looks_like(kind: Kind, secret: str) -> bool:
    """Whether it has the form of that kind's secrets, so that it is worth to ask the store."""
    prefix = _PREFIXES[kind]
    return secret.startswith(prefix) and bool(_SECRET.fullmatch(secret, len(prefix)))


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
