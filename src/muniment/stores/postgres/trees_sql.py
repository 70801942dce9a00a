"""The statements over PostgreSQL's trees."""

from __future__ import annotations

from typing import Final

from muniment.stores.postgres.page import BY_INDEX

# Whatever the role or the database has set, and until the end of the transaction only. Who is
# stopped or hangs in the middle is ended by the server, and the next one goes on.
BEGIN: Final = f"""
    BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
    SET LOCAL statement_timeout = '60s';
    SET LOCAL idle_in_transaction_session_timeout = '60s';
    {BY_INDEX}
"""
MAY_SEQUENCE: Final = """
    SELECT has_any_column_privilege('muniment.sequencer_state', 'UPDATE')
       AND has_function_privilege('muniment.is_pending()', 'EXECUTE')
       AND (NOT row_security_active('muniment.trees')
            OR pg_has_role('muniment_sequencer', 'USAGE')
            OR pg_has_role((SELECT relowner FROM pg_class
                            WHERE oid = 'muniment.trees'::regclass), 'USAGE')), current_user
"""
# --- integrating
#
# Asked without a lock first: who has nothing to do takes no transaction id for it.
IS_PENDING: Final = "SELECT muniment.is_pending()"
# Not an advisory lock: that one anybody could hold for ever. Whoever was overtaken between its
# snapshot and its lock gets the new state with an old `settled`, and has nothing to do.
ELECT: Final = """
    SELECT epoch, xid::text, seq, settled_epoch, settled_xid::text
    FROM muniment.sequencer_state,
        (SELECT max(epoch), pg_snapshot_xmin(pg_current_snapshot()) FROM muniment.epochs)
            AS s (settled_epoch, settled_xid)
    WHERE (epoch, xid) < (settled_epoch, settled_xid)
    FOR UPDATE OF sequencer_state SKIP LOCKED
"""
# A function's rows come in the order in which it gives them.
PENDING: Final = """
    SELECT epoch, xid::text, seq, tenant_id, uuid_send(event_id), leaf_hash
    FROM muniment.pending_events($1::smallint, ($2::text)::xid8, $3::int, $4::int)
"""
# Bytes go as one parameter, and each row says which of them are its own: asyncpg knows no arrays
# but those of text without a look into the catalog.
GROW_TREES: Final = """
    INSERT INTO muniment.trees (tenant_id, tree_size, edge)
    SELECT tenant_id, tree_size::bigint, substr($5::bytea, start::int, length::int)
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
        AS given (tenant_id, tree_size, start, length)
    ON CONFLICT (tenant_id) DO UPDATE SET tree_size = excluded.tree_size, edge = excluded.edge
"""
GROW_TILES: Final = """
    INSERT INTO muniment.tiles (tenant_id, level, tile_index, hashes)
    SELECT tenant_id, level::smallint, tile_index::bigint,
           substr($6::bytea, start::int, length::int)
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
        AS given (tenant_id, level, tile_index, start, length)
    ON CONFLICT (tenant_id, level, tile_index)
        DO UPDATE SET hashes = tiles.hashes || excluded.hashes
"""
GROW_BUNDLES: Final = """
    INSERT INTO muniment.bundles
        (tenant_id, bundle_index, first_epoch, first_xid, first_seq, event_ids)
    SELECT tenant_id, bundle_index::bigint, epoch::smallint, xid::xid8, seq::bigint,
           substr($8::bytea, start::int, length::int)
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
        AS given (tenant_id, bundle_index, epoch, xid, seq, start, length)
    ON CONFLICT (tenant_id, bundle_index)
        DO UPDATE SET event_ids = bundles.event_ids || excluded.event_ids
"""
ADVANCE: Final = """
    UPDATE muniment.sequencer_state
    SET epoch = $1, xid = ($2::text)::xid8, seq = $3,
        last_position = coalesce($4, last_position)
"""
# --- trees and checkpoints
TREES: Final = "SELECT tenant_id, tree_size, edge, published_size FROM muniment.trees"
TREES_OF: Final = f"{TREES} WHERE tenant_id = ANY($1::text[])"
UNPUBLISHED: Final = f"{TREES} WHERE tree_size > published_size ORDER BY tenant_id LIMIT $1"
ALL_TREES: Final = f"""
    {TREES} WHERE $1::text IS NULL OR tenant_id > $1 ORDER BY tenant_id LIMIT $2
"""
# In one order everywhere, so that nobody waits for somebody who waits for him.
LOCK_TREES: Final = f"{TREES_OF} ORDER BY tenant_id FOR UPDATE"
SET_PUBLISHED: Final = """
    UPDATE muniment.trees t SET published_size = given.tree_size::bigint
    FROM unnest($1::text[], $2::text[]) AS given (tenant_id, tree_size)
    WHERE t.tenant_id = given.tenant_id
"""
KEEP_CHECKPOINTS: Final = """
    INSERT INTO muniment.checkpoints (tenant_id, tree_size, root_hash, note)
    SELECT tenant_id, tree_size::bigint, decode(root_hash, 'hex'), note
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
        AS given (tenant_id, tree_size, root_hash, note)
"""
CHECKPOINTS: Final = """
    SELECT tenant_id, tree_size, root_hash, note,
           coalesce((SELECT max(p.tree_size) FROM muniment.checkpoints p
                     WHERE p.tenant_id = c.tenant_id AND p.tree_size < c.tree_size), 0)
    FROM muniment.checkpoints c
"""
CHECKPOINT: Final = f"{CHECKPOINTS} WHERE tenant_id = $1 AND tree_size = $2"
NEWEST_CHECKPOINT: Final = f"{CHECKPOINTS} WHERE tenant_id = $1 ORDER BY tree_size DESC LIMIT 1"
CHECKPOINTS_AFTER: Final = f"""
    {CHECKPOINTS} WHERE tenant_id = $1 AND tree_size > $2 ORDER BY tree_size LIMIT $3
"""
UNANCHORED: Final = f"""
    SELECT c.* FROM
        (SELECT tenant_id, published_size FROM muniment.trees
         WHERE published_size > anchored_size ORDER BY tenant_id LIMIT $1) due,
        LATERAL ({CHECKPOINTS} WHERE c.tenant_id = due.tenant_id
                 AND c.tree_size = due.published_size) c
    ORDER BY due.tenant_id
"""
SET_ANCHORED: Final = """
    UPDATE muniment.trees t SET anchored_size = given.tree_size::bigint
    FROM unnest($1::text[], $2::text[]) AS given (tenant_id, tree_size)
    WHERE t.tenant_id = given.tenant_id AND t.published_size >= given.tree_size::bigint
      AND t.anchored_size < given.tree_size::bigint
"""
LOCK_NOTE: Final = """
    SELECT note FROM muniment.checkpoints WHERE tenant_id = $1 AND tree_size = $2 FOR UPDATE
"""
ADD_TO_NOTE: Final = """
    UPDATE muniment.checkpoints SET note = note || $3 WHERE tenant_id = $1 AND tree_size = $2
"""
# --- tiles and bundles
TILES: Final = """
    SELECT level, tile_index, hashes
    FROM unnest($2::text[], $3::text[]) AS wanted (level_text, index_text)
    JOIN muniment.tiles ON tenant_id = $1 AND level = level_text::smallint
        AND tile_index = index_text::bigint
"""
BUNDLES: Final = """
    SELECT bundle_index, first_epoch || '.' || first_xid::text || '.' || first_seq, event_ids
    FROM muniment.bundles
    WHERE tenant_id = $1 AND bundle_index >= $2 AND bundle_index < $3 ORDER BY bundle_index
"""
BUNDLE_OF: Final = """
    SELECT b.bundle_index, b.event_ids FROM muniment.events e, LATERAL (
        SELECT bundle_index, event_ids FROM muniment.bundles
        WHERE tenant_id = $1 AND (first_epoch, first_xid, first_seq) <= (e.epoch, e.xid, e.seq)
        ORDER BY first_epoch DESC, first_xid DESC, first_seq DESC LIMIT 1
    ) b
    WHERE e.tenant_id = $1 AND e.event_id = ($2::text)::uuid
"""
ROW_COUNTS: Final = """
    SELECT (SELECT count(*) FROM muniment.tiles WHERE tenant_id = $1),
           (SELECT count(*) FROM muniment.bundles WHERE tenant_id = $1),
           (SELECT count(*) FROM muniment.checkpoints WHERE tenant_id = $1)
"""
INTEGRATED_TO: Final = "SELECT last_position FROM muniment.sequencer_state"
# --- everything, as it is


def inspect(*, has_after: bool, has_until: bool) -> str:
    """Events by position, with every column. Without a bound there is none, not even the lowest.

    With ties: of two that somebody gave one position, none may be left out between pages.
    """
    order, start, end = (
        "(epoch, xid, seq)",
        "(($3::text)::smallint, ($4::text)::xid8, ($5::text)::bigint)",
        "(($6::text)::smallint, ($7::text)::xid8, ($8::text)::bigint)",
    )
    return f"""
        SELECT epoch, xid::text AS xid_text, seq, tenant_id, uuid_send(event_id), leaf_hash,
               convert_to(terms, 'UTF8'), convert_to(body, 'UTF8'),
               (epoch, xid) >= ((SELECT max(epoch) FROM muniment.epochs),
                                pg_snapshot_xmax(pg_current_snapshot()))
        FROM muniment.events
        WHERE ($1::text IS NULL OR tenant_id = $1)
          AND {f"{order} > {start}" if has_after else "$3::text || $4::text || $5::text IS NULL"}
          AND {f"{order} <= {end}" if has_until else "$6::text || $7::text || $8::text IS NULL"}
        ORDER BY epoch, xid, seq FETCH FIRST ($2) ROWS WITH TIES
    """


# --- lag
LAG: Final = "SELECT seconds, waits_for FROM muniment.sequencing_lag()"
# Everybody sees who holds a transaction's lock, and the pid, name and database of every session;
# what it does, and since when, only who may.
CULPRITS: Final = """
    SELECT l.pid, p.gid, coalesce(a.datname, p.database) AS database, a.application_name, a.state,
           extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8 AS age
    FROM unnest($1::text[]) WITH ORDINALITY AS waits_for (xid_text, n)
    JOIN pg_locks l ON l.locktype = 'transactionid' AND l.granted
        AND l.mode = 'ExclusiveLock' AND l.transactionid = xid_text::xid8::xid
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN pg_prepared_xacts p ON l.pid IS NULL AND p.transaction = l.transactionid
    ORDER BY n
"""
