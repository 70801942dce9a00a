"""Alembic's entry point. The store passes its own connection and holds the transaction."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    version_table_schema=context.config.attributes["version_table_schema"],
    transactional_ddl=True,
)
context.run_migrations()
