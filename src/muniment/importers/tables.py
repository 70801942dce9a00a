"""Reads a table of audit logs, in pieces and in order, without changing anything there.

Pieces go by key, (created_at, id), each in a short read-only transaction of its own, so that a
long import holds no snapshot open. SQLite files are opened with `mode=ro`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    FromClause,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    cast as sql_cast,
    column,
    create_engine,
    func,
    inspect,
    make_url,
    null,
    or_,
    select,
    table as sql_table,
    tuple_,
)
from sqlalchemy.exc import ArgumentError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, StaticPool

from muniment.errors import InvalidConfig, MunimentError
