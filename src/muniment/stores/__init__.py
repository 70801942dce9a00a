"""Where events are kept. `open_store` is the only place that names the drivers."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from muniment.errors import InvalidConfig
from muniment.stores.base import Store


def open_store(url: str, **options: Any) -> Store:
    """The store that `url` names, not opened yet.

    `sqlite:///relative.db`, `sqlite:////absolute/path.db`, or `postgresql://user@host/database`
    (an SQLAlchemy URL such as `postgresql+asyncpg://…` is taken too). Raises `InvalidConfig`.
    """
    scheme = url.partition("://")[0].partition("+")[0].lower() if isinstance(url, str) else ""
    if scheme == "sqlite":
        return _sqlite(url, options)
    if scheme in {"postgresql", "postgres"}:
        return _postgres(url, options)
    msg = (
        f"url: {without_password(url)!r} names no store; use sqlite:///file.db or "
        "postgresql://user@host/database"
    )
    raise InvalidConfig(msg)


def _sqlite(url: str, options: dict[str, Any]) -> Store:
    path = unquote(url.partition("://")[2].removeprefix("/").partition("?")[0])
    if not url.partition("://")[2].startswith("/") or not path or ":memory:" in path:
        msg = (
            f"url: {url!r} names no file; use sqlite:///relative.db or sqlite:////absolute/path.db "
            "(nothing in memory is durable)"
        )
        raise InvalidConfig(msg)
    from muniment.stores.sqlite import SqliteStore

    return SqliteStore(Path(path), **options)


def _postgres(url: str, options: dict[str, Any]) -> Store:
    try:
        from muniment.stores.postgres import PostgresStore
    except ImportError as error:
        msg = (
            f"url: PostgreSQL needs {error.name or 'greenlet'}; install it with "
            "`pip install 'muniment[postgres]'`"
        )
        raise InvalidConfig(msg) from error
    scheme, rest = url.split("://", 1)
    del scheme
    return PostgresStore(f"postgresql://{rest}", **options)


def without_password(url: str) -> str:
    """The URL as it may be shown: *** in place of a password."""
    scheme, slashes, rest = str(url).partition("://")
    account, at, place = rest.rpartition("@")
    user, colon, _ = account.partition(":")
    return f"{scheme}{slashes}{user}{colon and ':***'}{at}{place}"
