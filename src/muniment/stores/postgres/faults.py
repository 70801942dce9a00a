"""What goes wrong with PostgreSQL, as the contract's errors."""

from __future__ import annotations

from typing import Final

import asyncpg

from muniment.errors import EventRefused, StoreError, StoreUnavailable

UNREACHABLE: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
MALFORMED_URL: Final = (ValueError, OverflowError)
WORTH_RETRYING: Final = frozenset({"40001", "40P01"})
_UNAVAILABLE: Final = frozenset({"08", "53", "57", "58"})
_DATA_AT_FAULT: Final = frozenset({"22", "23", "P0"})


def translate(error: asyncpg.PostgresError) -> StoreError:
    """The error of the contract that says what the server's error means."""
    state = error.sqlstate or ""
    if state[:2] in _UNAVAILABLE or isinstance(error, asyncpg.PostgresConnectionError):
        return StoreUnavailable(f"{error} ({state})")
    if state[:2] in _DATA_AT_FAULT or (state == "42501" and "row-level security" in str(error)):
        return EventRefused(f"{error} ({state})")
    return StoreError(f"{error} ({state})")


def translate_in_upgrade(error: asyncpg.PostgresError) -> StoreError:
    """The same for a migration, which most often lacks a right."""
    translated = translate(error)
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        msg = (
            f"{error}: `db upgrade` needs a role that owns the schema or may CREATE in the "
            "database, and has CREATEROLE, or finds the roles muniment_writer, muniment_reader, "
            "muniment_keeper, muniment_sequencer and muniment_service"
        )
        return StoreError(msg)
    return translated


def unreachable(url: str, error: BaseException) -> StoreUnavailable:
    """The error of a server that can't be reached, or does not answer."""
    return StoreUnavailable(f"{place(url)}: {error or type(error).__name__}")


def place(url: str) -> str:
    """The URL without its user and password."""
    return "postgresql://" + url.partition("://")[2].rpartition("@")[2]
