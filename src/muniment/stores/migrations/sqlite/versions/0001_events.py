"""Events, append-only, and the index over them."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    # AUTOINCREMENT: a position is never given twice, even if the newest event were removed.
    """
    CREATE TABLE muniment_events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant_id TEXT NOT NULL CHECK (length(CAST(tenant_id AS BLOB)) BETWEEN 1 AND 512),
        event_id BLOB NOT NULL CHECK (typeof(event_id) = 'blob' AND length(event_id) = 16),
        leaf_hash BLOB NOT NULL CHECK (typeof(leaf_hash) = 'blob' AND length(leaf_hash) = 32),
        terms TEXT NOT NULL,
        body TEXT CHECK (body IS NULL OR typeof(body) = 'text')
    )
    """,
    "CREATE UNIQUE INDEX muniment_events_by_id ON muniment_events (tenant_id, event_id)",
    # Written behind the events, in order of terms; see docs/design/002-late-index.md.
    """
    CREATE TABLE muniment_postings (
        tenant_id TEXT NOT NULL,
        term TEXT NOT NULL,
        event_id BLOB NOT NULL,
        PRIMARY KEY (tenant_id, term, event_id)
    ) WITHOUT ROWID
    """,
    """
    CREATE INDEX muniment_postings_of_all_tenants
        ON muniment_postings (term, event_id, tenant_id)
    """,
    """
    CREATE TABLE muniment_actions (
        tenant_id TEXT NOT NULL,
        action TEXT NOT NULL,
        PRIMARY KEY (tenant_id, action)
    ) WITHOUT ROWID
    """,
    # seq: the first event that is not indexed yet.
    """
    CREATE TABLE muniment_index_state (
        "only" INTEGER PRIMARY KEY CHECK ("only" = 1),
        seq INTEGER NOT NULL
    )
    """,
    "INSERT INTO muniment_index_state VALUES (1, 1)",
    """
    CREATE TABLE muniment_idempotency_keys (
        tenant_id TEXT NOT NULL,
        key TEXT NOT NULL,
        event_id BLOB NOT NULL,
        created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
        PRIMARY KEY (tenant_id, key)
    ) WITHOUT ROWID
    """,
    """
    CREATE TRIGGER muniment_events_refuse_update BEFORE UPDATE ON muniment_events
    BEGIN SELECT RAISE(ABORT, 'muniment_events is append-only: UPDATE is refused'); END
    """,
    """
    CREATE TRIGGER muniment_events_refuse_delete BEFORE DELETE ON muniment_events
    BEGIN SELECT RAISE(ABORT, 'muniment_events is append-only: DELETE is refused'); END
    """,
    # INSERT OR REPLACE deletes what is in its way without firing a DELETE trigger.
    """
    CREATE TRIGGER muniment_events_refuse_replace BEFORE INSERT ON muniment_events
    WHEN EXISTS (SELECT 1 FROM muniment_events
                 WHERE tenant_id = NEW.tenant_id AND event_id = NEW.event_id)
      OR EXISTS (SELECT 1 FROM muniment_events WHERE seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'muniment_events is append-only: this event is stored already'); END
    """,
)


def upgrade() -> None:
    """Create everything."""
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
