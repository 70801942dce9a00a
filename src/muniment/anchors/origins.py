"""Whose log an origin is: a key vouches for the logs of all tenants below its own name."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, unquote

from muniment.errors import InvalidKey
from muniment.keys import VerifyingKey, origin_of


def tenant_of(key_name: str, origin: str) -> str | None:
    """The tenant whose log is `origin`, below a key's name; None if it is no such log."""
    prefix = f"{key_name}/"
    if not origin.startswith(prefix):
        return None
    try:
        tenant_id = unquote(origin[len(prefix) :], errors="strict")
        # An origin has one spelling: two of them would be two logs of one tenant.
        return tenant_id if origin_of(key_name, tenant_id) == origin else None
    except (InvalidKey, UnicodeDecodeError):
        return None


def keys_for(origin: str, trusted: Iterable[VerifyingKey]) -> tuple[VerifyingKey, ...]:
    """What verifies the checkpoints of a log: a key named as it is, or for all tenants above it."""
    found: dict[VerifyingKey, None] = {}
    for key in trusted:
        if key.name == origin:
            found[key] = None
        elif (tenant_id := tenant_of(key.name, origin)) is not None:
            found[key.for_tenant(tenant_id)] = None
    return tuple(found)


def tenant_keys(tenant_id: str, trusted: Iterable[VerifyingKey]) -> tuple[VerifyingKey, ...]:
    """What verifies a tenant's checkpoints: its own keys among them, and those of all tenants."""
    found: dict[VerifyingKey, None] = {}
    for key in trusted:
        if key.name.endswith(f"/{quote(tenant_id, safe='')}"):
            found[key] = None
        found[key.for_tenant(tenant_id)] = None
    return tuple(found)
