"""The usual way to write an audit table: a session, an INSERT and a COMMIT for each event."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from bench.workload import ACTION, Happening

_TABLE = text(
    "CREATE TABLE audit_logs (id uuid PRIMARY KEY, action varchar(100) NOT NULL, details json, "
    "agent_id uuid, user_id uuid, created_at timestamptz NOT NULL)"
)
_INSERT = text(
    "INSERT INTO audit_logs (id, action, details, agent_id, user_id, created_at) "
    "VALUES (:id, :action, :details, :agent_id, :user_id, :created_at)"
)


@asynccontextmanager
async def seed_writer(url: str) -> AsyncIterator[Callable[[Happening], Awaitable[None]]]:
    """A function that writes one happening and commits, over a pool such as a service has."""
    engine = create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"), pool_size=20, max_overflow=20
    )
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def write(happening: Happening) -> None:
        details = {**happening.details, "tenant_id": happening.tenant_id}
        async with sessions() as session:
            await session.execute(
                _INSERT,
                {
                    "id": uuid.uuid4(),
                    "action": ACTION,
                    "details": json.dumps(details, ensure_ascii=False, default=str),
                    "agent_id": happening.agent_id,
                    "user_id": happening.user_id,
                    "created_at": datetime.now(UTC),
                },
            )
            await session.commit()

    try:
        async with engine.begin() as connection:
            await connection.execute(_TABLE)
        yield write
    finally:
        await engine.dispose()
