"""Runs the migrations, with Alembic, over a connection that the store lends."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

MIGRATIONS: Final = Path(__file__).parent / "migrations"

# Alembic's `op` and `context` belong to the process: two migrations at once would mix them up.
_one_at_a_time = threading.Lock()


def migrate(
    connection: Connection, *, dialect: str, version_table: str, schema: str | None
) -> None:
    """Bring the schema up, inside the transaction that `connection` is in.

    Blocks while another thread migrates: call it where no event loop waits.
    """
    config = _config(dialect)
    config.attributes["connection"] = connection
    config.attributes["version_table"] = version_table
    config.attributes["version_table_schema"] = schema
    with _one_at_a_time:
        command.upgrade(config, "head")


def revisions(dialect: str) -> list[str]:
    """Every revision there is, the oldest first."""
    script = ScriptDirectory.from_config(_config(dialect))
    return [revision.revision for revision in script.walk_revisions()][::-1]


def _config(dialect: str) -> Config:
    config = Config()
    # A % in the path would be taken for an interpolation.
    config.set_main_option("script_location", str(MIGRATIONS / dialect).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
