"""Each tenant's tree: tiles, the events at its leaves, and the checkpoints signed over it."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _blob(column: str, *, unit: int, most: int) -> str:
    """A column that holds 1 to `most` bytes, in whole units."""
    return (
        f"{column} BLOB NOT NULL CHECK (typeof({column}) = 'blob' "
        f"AND length({column}) BETWEEN {unit} AND {most} AND length({column}) % {unit} = 0)"
    )


# As many as a tree of that size has largest perfect subtrees.
_BITS = " + ".join(f"(tree_size >> {n} & 1)" for n in range(63))

TABLES = (
    # seq: up to here every event has its leaf.
    """
    CREATE TABLE muniment_sequencer_state (
        "only" INTEGER PRIMARY KEY CHECK ("only" = 1),
        seq INTEGER NOT NULL
    )
    """,
    "INSERT INTO muniment_sequencer_state VALUES (1, 0)",
    # edge: the roots of the tree's largest perfect subtrees, with which it grows.
    f"""
    CREATE TABLE muniment_trees (
        tenant_id TEXT PRIMARY KEY NOT NULL,
        tree_size INTEGER NOT NULL CHECK (tree_size > 0),
        edge BLOB NOT NULL CHECK (typeof(edge) = 'blob'),
        published_size INTEGER NOT NULL DEFAULT 0,
        anchored_size INTEGER NOT NULL DEFAULT 0,
        CHECK (0 <= anchored_size AND anchored_size <= published_size
               AND published_size <= tree_size),
        CHECK (length(edge) = 32 * ({_BITS}))
    ) WITHOUT ROWID
    """,
    """
    CREATE INDEX muniment_trees_unpublished ON muniment_trees (tenant_id)
        WHERE tree_size > published_size
    """,
    """
    CREATE INDEX muniment_trees_unanchored ON muniment_trees (tenant_id)
        WHERE published_size > anchored_size
    """,
    # Hashes of 32 bytes, up to 256 (C2SP tlog-tiles); level 0 are the leaf hashes.
    f"""
    CREATE TABLE muniment_tiles (
        tenant_id TEXT NOT NULL,
        level INTEGER NOT NULL,
        tile_index INTEGER NOT NULL,
        {_blob("hashes", unit=32, most=8192)},
        PRIMARY KEY (tenant_id, level, tile_index)
    )
    """,
    # The event at leaf n is number n % 256 of bundle n / 256.
    f"""
    CREATE TABLE muniment_bundles (
        tenant_id TEXT NOT NULL,
        bundle_index INTEGER NOT NULL,
        first_seq INTEGER NOT NULL,
        {_blob("event_ids", unit=16, most=4096)},
        PRIMARY KEY (tenant_id, bundle_index)
    )
    """,
    """
    CREATE INDEX muniment_bundles_by_recording
        ON muniment_bundles (tenant_id, first_seq, bundle_index)
    """,
    f"""
    CREATE TABLE muniment_checkpoints (
        tenant_id TEXT NOT NULL,
        tree_size INTEGER NOT NULL CHECK (tree_size > 0),
        {_blob("root_hash", unit=32, most=32)},
        note TEXT NOT NULL,
        published_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
        PRIMARY KEY (tenant_id, tree_size)
    )
    """,
)


def _refuse(table: str, event: str, unless: str) -> str:
    return f"""
    CREATE TRIGGER muniment_{table}_refuse_{event.lower()} BEFORE {event} ON muniment_{table}
    WHEN NOT ({unless})
    BEGIN SELECT RAISE(ABORT, 'muniment_{table} only grows: this {event} is refused'); END
    """


def _same(*columns: str) -> str:
    return " AND ".join(f"NEW.{column} IS OLD.{column}" for column in columns)


def _grows(column: str) -> str:
    return f"substr(NEW.{column}, 1, length(OLD.{column})) IS OLD.{column}"


TRIGGERS = (
    _refuse(
        "tiles", "UPDATE", f"{_same('tenant_id', 'level', 'tile_index')} AND {_grows('hashes')}"
    ),
    _refuse("tiles", "DELETE", "0"),
    _refuse(
        "bundles",
        "UPDATE",
        f"{_same('tenant_id', 'bundle_index', 'first_seq')} AND {_grows('event_ids')}",
    ),
    _refuse("bundles", "DELETE", "0"),
    _refuse(
        "checkpoints",
        "UPDATE",
        f"{_same('tenant_id', 'tree_size', 'root_hash', 'published_at')} AND {_grows('note')}",
    ),
    _refuse("checkpoints", "DELETE", "0"),
    _refuse(
        "trees",
        "UPDATE",
        f"{_same('tenant_id')} AND (NEW.tree_size > OLD.tree_size OR {_same('tree_size', 'edge')}) "
        "AND NEW.published_size >= OLD.published_size AND NEW.anchored_size >= OLD.anchored_size",
    ),
    _refuse("trees", "DELETE", "0"),
    _refuse("sequencer_state", "UPDATE", f"{_same('only')} AND NEW.seq >= OLD.seq"),
    _refuse("sequencer_state", "DELETE", "0"),
    _refuse("sequencer_state", "INSERT", "0"),
    # INSERT OR REPLACE deletes what is in its way without firing a DELETE trigger. An upsert, too,
    # fires this one before it turns to UPDATE: ours are an UPDATE, then an INSERT of what is new.
    *(
        _refuse(
            table,
            "INSERT",
            f"NOT EXISTS (SELECT 1 FROM muniment_{table} WHERE {' AND '.join(keys)})",
        )
        for table, keys in {
            "tiles": (
                "tenant_id = NEW.tenant_id",
                "level = NEW.level",
                "tile_index = NEW.tile_index",
            ),
            "bundles": ("tenant_id = NEW.tenant_id", "bundle_index = NEW.bundle_index"),
            "checkpoints": ("tenant_id = NEW.tenant_id", "tree_size = NEW.tree_size"),
            "trees": ("tenant_id = NEW.tenant_id",),
        }.items()
    ),
    # A tenant_id that no program can read, or bytes that look like one, would be no tenant's.
    # SQLite does not check UTF-8 itself. Where it is none, `unicode` and `char` give another
    # character back, as they do for U+FFFE and U+FFFF; behind a NUL, they see none.
    """
    CREATE TRIGGER muniment_events_refuse_tenant_id BEFORE INSERT ON muniment_events
    WHEN typeof(NEW.tenant_id) <> 'text' OR instr(NEW.tenant_id, char(0)) > 0
      OR NEW.tenant_id GLOB '*[^' || char(1) || '-' || char(127) || ']*' AND EXISTS (
        WITH RECURSIVE places (n) AS (
            VALUES (1) UNION ALL SELECT n + 1 FROM places WHERE n < length(NEW.tenant_id)
        )
        SELECT 1 FROM places WHERE substr(NEW.tenant_id, n, 1)
            NOT IN (char(unicode(substr(NEW.tenant_id, n, 1))), char(65534), char(65535)))
    BEGIN SELECT RAISE(ABORT, 'tenant_id must be text in UTF-8, without NUL'); END
    """,
)


def upgrade() -> None:
    """Create everything. What is recorded already gets its leaves like what comes."""
    for statement in (*TABLES, *TRIGGERS):
        op.get_bind().exec_driver_sql(statement)
