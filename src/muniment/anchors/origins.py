"""Whose log an origin is: a key vouches for the logs of all tenants below its own name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import unquote

from muniment.errors import InvalidKey
from muniment.keys import VerifyingKey, keys_of_log, origin_of


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
    """What verifies the checkpoints of a log: a key named as it is, or for all tenants above it.

    A tenant's own key never vouches for a second log of that tenant (`keys.keys_of_log`).
    """
    found: dict[VerifyingKey, None] = {}
    for key in trusted:
        if key.name == origin:
            found[key] = None
        elif (tenant_id := tenant_of(key.name, origin)) is not None:
            found |= dict.fromkeys(k for k in keys_of_log([key], tenant_id) if k.name == origin)
    return tuple(found)


def tenants_of(origin: str, trusted: Sequence[VerifyingKey]) -> set[str]:
    """The tenants whose log an origin may be, by keys for all tenants, and by a tenant's own."""
    found = {tenant_of(key.name, origin) for key in trusted}
    if any(key.name == origin for key in trusted):
        above = origin.rpartition("/")[0]
        found.add(tenant_of(above, origin))
    return {tenant_id for tenant_id in found if tenant_id is not None}
