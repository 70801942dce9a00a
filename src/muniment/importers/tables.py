"""Reads a table of audit logs, in pieces and in order, without changing anything there.

Pieces go by key, (created_at, id), each in a short read-only transaction of its own, so that a
long import holds no snapshot open. SQLite files are opened with `mode=ro`. Rows without a key, or
with a time that Python can't hold, come first, so that a problem shows before a long import.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import (
    CHAR,
    URL,
    Column,
    ColumnElement,
    Connection,
    Date,
    DateTime,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    cast,
    create_engine,
    func,
    inspect,
    literal,
    make_url,
    not_,
    or_,
    select,
    tuple_,
)
from sqlalchemy.exc import ArgumentError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.pool import NullPool, StaticPool
from sqlalchemy.types import NullType, TypeEngine

from muniment.errors import InvalidConfig, MunimentError
from muniment.importers import positions

_T = TypeVar("_T")
_Run = Callable[[Callable[[Connection], Any]], Any]
Row = dict[str, Any]

_NEEDED: Final = ("id", "action", "details", "created_at")
_PIECE: Final = 1000
_CONNECT_SECONDS: Final = 10
_NAME: Final = re.compile(r'(?:(?P<schema>"[^"]+"|[^".]+)\.)?(?P<name>"[^"]+"|[^".]+)').fullmatch
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)


class AuditTable:
    """A table in the database at `url`; `table` may name its schema too: `app.audit_logs`.

    Raises `InvalidConfig` if one of them can't be meant.
    """

    def __init__(self, url: str, table: str) -> None:
        found = _NAME(table)
        if found is None or not table.isprintable():
            raise InvalidConfig(f"table: {table!r} is no table; use NAME or SCHEMA.NAME")
        self.name = found["name"].strip('"')
        self._schema = found["schema"].strip('"') if found["schema"] else None
        try:
            self._url = make_url(url)
        except (ArgumentError, ValueError):
            self._url = URL.create("")
        kind = self._url.drivername.partition("+")[0]
        if kind not in {"sqlite", "postgresql", "postgres"} or not self._url.database:
            raise InvalidConfig("source: use sqlite:///file.db or postgresql://user@host/database")
        self._is_sqlite = kind == "sqlite"
        self.place = self._url.render_as_string(hide_password=True)

    async def rows(
        self, *, after: str | None = None
    ) -> AsyncGenerator[tuple[Row, str | None], None]:
        """Every row with its position, in order of (created_at, id), behind the position `after`.

        Rows that have no place in this order come first, with None. Raises `MunimentError` if the
        table can't be read, `InvalidConfig` if it isn't there or hasn't the shape.
        """
        key = None if after is None else positions.decode(after)
        async with self._connected() as run:
            shape = await run(self._inspect)
            name = None
            while odd := await run(partial(_fetch, shape.odd(name))):
                for row in odd:
                    yield row, None
                name = odd[-1]["id"]
            (without_id,) = await run(partial(_fetch, shape.without_id()))
            for _ in range(without_id["count"]):
                yield {"id": None}, None
            while piece := await run(partial(_fetch, shape.piece(key))):
                for row in piece:
                    key = (row["created_at"], row["id"])
                    yield shape.plain(row), positions.encode(key)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[_Run]:
        """What runs work over a connection, in a read-only transaction, and says what failed."""
        opened = self._sqlite() if self._is_sqlite else self._postgres()
        async with opened as run:

            async def careful(work: Callable[[Connection], _T]) -> _T:
                try:
                    result: _T = await run(work)
                except (MunimentError, asyncio.CancelledError):
                    raise
                except SQLAlchemyError as error:
                    problem = getattr(error, "orig", None) or error
                    raise MunimentError(f"{self.place} can't be read: {problem}") from error
                except Exception as error:  # the driver's own errors pass SQLAlchemy unwrapped
                    problem = str(error) or type(error).__name__
                    raise MunimentError(f"{self.place} can't be read: {problem}") from error
                return result

            yield careful

    @asynccontextmanager
    async def _sqlite(self) -> AsyncIterator[_Run]:
        path = Path(self._url.database or "")

        def connect() -> sqlite3.Connection:
            uri = f"file:{quote(str(path))}?mode=ro"
            connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            connection.text_factory = lambda raw: raw.decode(errors="backslashreplace")
            return connection

        if not await asyncio.to_thread(path.is_file):
            raise MunimentError(f"{self.place} can't be read: there is no such file")
        engine = create_engine("sqlite://", creator=connect, poolclass=StaticPool)

        def in_thread(work: Callable[[Connection], _T]) -> _T:
            with engine.connect() as connection:
                return work(connection)

        try:
            yield lambda work: asyncio.to_thread(in_thread, work)
        finally:
            engine.dispose()

    @asynccontextmanager
    async def _postgres(self) -> AsyncIterator[_Run]:
        try:
            from sqlalchemy.ext.asyncio import create_async_engine

            engine = create_async_engine(
                self._url.set(drivername="postgresql+asyncpg"),
                poolclass=NullPool,
                connect_args={"timeout": _CONNECT_SECONDS},
            )
        except ImportError as error:
            raise InvalidConfig(
                f"source: PostgreSQL needs {error.name or 'greenlet'}; install it with "
                "`pip install 'muniment[postgres]'`"
            ) from error

        async def run(work: Callable[[Connection], _T]) -> _T:
            async with engine.connect() as connection:
                await connection.execution_options(postgresql_readonly=True)
                return await connection.run_sync(work)

        try:
            yield run
        finally:
            await engine.dispose()

    def _inspect(self, connection: Connection) -> _Shape:
        inspector = inspect(connection)
        try:
            columns = inspector.get_columns(self.name, schema=self._schema)
        except NoSuchTableError:
            known = ", ".join(sorted(inspector.get_table_names(schema=self._schema))) or "none"
            raise InvalidConfig(
                f"table: there is no {self.name!r} at {self.place}; there are: {known}"
            ) from None
        types = {str(c["name"]): c["type"] for c in columns}
        missing = [name for name in _NEEDED if name not in types]
        if missing:
            raise InvalidConfig(
                f"table: {self.name!r} has no column {', '.join(missing)}; it is not of the shape "
                "(id, action, details, agent_id, user_id, created_at)"
            )
        return _Shape(self.name, self._schema, types, is_sqlite=self._is_sqlite)


class _Shape:
    """The table's columns, and the statements that read them."""

    def __init__(
        self, name: str, schema: str | None, types: dict[str, TypeEngine[Any]], *, is_sqlite: bool
    ) -> None:
        self._hex_ids = {
            n for n, t in types.items() if is_sqlite and isinstance(t, CHAR) and t.length == 32
        }
        # Values come as the driver gives them: only a key's type matters, to compare it with.
        typed = set() if is_sqlite else {"id", "created_at"}
        columns = [Column(n, t if n in typed else NullType()) for n, t in types.items()]
        self._table = Table(name, MetaData(), *columns, schema=schema)
        self._id, self._created_at = self._table.c.id, self._table.c.created_at
        self._in_order: ColumnElement[bool] = self._created_at.is_not(None)
        kind = types["created_at"]
        if not is_sqlite and isinstance(kind, DateTime | Date):
            self._in_order = and_(
                self._in_order,
                *(
                    self._created_at >= literal(_bound(_EARLIEST, kind), kind),
                    self._created_at < literal(_bound(_LATEST, kind), kind),
                ),
            )

    def piece(self, after: tuple[Any, Any] | None) -> Select[Any]:
        key = tuple_(self._created_at, self._id)
        found = select(self._table).where(self._in_order, self._id.is_not(None))
        if after is not None:
            place = (literal(after[0], self._created_at.type), literal(after[1], self._id.type))
            found = found.where(key > tuple_(*place))
        return found.order_by(self._created_at, self._id).limit(_PIECE)

    def odd(self, after: str | None) -> Select[Any]:
        """Rows outside of the order, as text: their times may be none that Python knows."""
        id_ = cast(self._id, Text)
        columns: list[ColumnElement[Any]] = [cast(c, Text).label(c.name) for c in self._table.c]
        found = select(*columns).where(
            self._id.is_not(None), or_(self._created_at.is_(None), not_(self._in_order))
        )
        if after is not None:
            found = found.where(id_ > after)
        return found.order_by(id_).limit(_PIECE)

    def without_id(self) -> Select[Any]:
        return (
            select(func.count().label("count")).select_from(self._table).where(self._id.is_(None))
        )

    def plain(self, row: Row) -> Row:
        """The row with UUIDs as text, however the database keeps them."""
        return {name: self._plain(name, value) for name, value in row.items()}

    def _plain(self, name: str, value: Any) -> Any:
        if isinstance(value, UUID):
            return str(value)
        if name == "details":
            return value
        if isinstance(value, bytes):
            return str(UUID(bytes=value)) if len(value) == 16 else value.hex()
        if name in self._hex_ids and isinstance(value, str):
            try:
                return str(UUID(hex=value))
            except ValueError:
                return value
        return value


def _bound(moment: datetime, kind: TypeEngine[Any]) -> Any:
    if isinstance(kind, DateTime):
        return moment if kind.timezone else moment.replace(tzinfo=None)
    return moment.date()


def _fetch(statement: Select[Any], connection: Connection) -> Sequence[Row]:
    return [dict(row) for row in connection.execute(statement).mappings()]
