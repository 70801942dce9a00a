"""Counts by hour and day, and how far counting has come."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    # width and start in milliseconds; the tenant_id '' is all tenants together.
    """
    CREATE TABLE muniment_cells (
        tenant_id TEXT NOT NULL,
        width INTEGER NOT NULL CHECK (width IN (3600000, 86400000)),
        start INTEGER NOT NULL CHECK (start % width = 0),
        action TEXT NOT NULL,
        outcome TEXT NOT NULL,
        events INTEGER NOT NULL CHECK (events > 0),
        PRIMARY KEY (tenant_id, width, start, action, outcome)
    ) WITHOUT ROWID
    """,
    # seq: the first event that is not counted yet.
    """
    CREATE TABLE muniment_counts_state (
        "only" INTEGER PRIMARY KEY CHECK ("only" = 1),
        seq INTEGER NOT NULL
    )
    """,
    "INSERT INTO muniment_counts_state VALUES (1, 1)",
)


def upgrade() -> None:
    """Create everything. What is recorded already is counted like what comes."""
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
