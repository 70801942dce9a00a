"""Credentials of the HTTP service: hashes, scopes, tenants."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_FIXED = (
    "id",
    "kind",
    "secret_hash",
    "name",
    "scopes",
    "tenant_id",
    "created_at",
    "expires_at",
    "parent_id",
    "person_id",
    "person_name",
)

STATEMENTS = (
    # Times in microseconds since 1970. scopes: words with a space between them. secret_hash:
    # SHA-256. tenant_id NULL: all tenants.
    """
    CREATE TABLE muniment_credentials (
        id TEXT PRIMARY KEY NOT NULL CHECK (length(id) BETWEEN 1 AND 64),
        kind TEXT NOT NULL CHECK (kind IN ('token', 'link', 'session')),
        secret_hash BLOB NOT NULL UNIQUE
            CHECK (typeof(secret_hash) = 'blob' AND length(secret_hash) = 32),
        name TEXT NOT NULL CHECK (length(CAST(name AS BLOB)) BETWEEN 1 AND 512),
        scopes TEXT NOT NULL CHECK (
            scopes <> ''
            AND replace(replace(replace(replace(' ' || scopes || ' ', ' write ', ' '),
                ' read ', ' '), ' export ', ' '), ' admin ', ' ') = ' '
            AND (kind = 'token' OR scopes IN ('read', 'export', 'read export', 'export read'))),
        tenant_id TEXT CHECK (length(CAST(tenant_id AS BLOB)) BETWEEN 1 AND 512),
        created_at INTEGER NOT NULL,
        expires_at INTEGER CHECK (expires_at IS NOT NULL OR kind = 'token'),
        revoked_at INTEGER,
        used_at INTEGER CHECK (used_at IS NULL OR kind = 'link'),
        parent_id TEXT CHECK (parent_id IS NULL OR kind <> 'token'),
        person_id TEXT CHECK (length(CAST(person_id AS BLOB)) BETWEEN 1 AND 512),
        person_name TEXT CHECK (length(CAST(person_name AS BLOB)) <= 4096)
    )
    """,
    "CREATE INDEX muniment_credentials_by_kind ON muniment_credentials (kind, expires_at)",
    f"""
    CREATE TRIGGER muniment_credentials_refuse_revival BEFORE UPDATE ON muniment_credentials
    WHEN NOT ((OLD.revoked_at IS NULL OR ifnull(NEW.revoked_at <= OLD.revoked_at, 0))
              AND (OLD.used_at IS NULL OR NEW.used_at IS OLD.used_at)
              AND {" AND ".join(f"NEW.{column} IS OLD.{column}" for column in _FIXED)})
    BEGIN SELECT RAISE(ABORT, 'muniment_credentials: what was revoked or used stays so'); END
    """,
)


def upgrade() -> None:
    """Create everything."""
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
