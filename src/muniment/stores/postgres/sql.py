"""The PostgreSQL store's fixed statements."""

from __future__ import annotations

from typing import Final

from muniment.stores.postgres.append import STORED
from muniment.stores.schema import EVERY_EVENT

_BEHIND_INDEX: Final = "(epoch, xid) >= (SELECT epoch, xid FROM muniment.index_state)"
GET: Final = f"{STORED} WHERE tenant_id = $1 AND event_id = $2"
GET_MANY: Final = f"{STORED} WHERE tenant_id = $1 AND event_id = ANY ($2::uuid[])"
GET_ANY: Final = f"""
    SELECT e.tenant_id, e.event_id, e.leaf_hash, e.body FROM muniment.postings p
    JOIN muniment.events e USING (tenant_id, event_id)
    WHERE p.term = '{EVERY_EVENT}' AND p.event_id = $1 AND e.event_id = $1
    UNION ALL
    {STORED} WHERE {_BEHIND_INDEX} AND event_id = $1
    LIMIT 1
"""
# The xid in text has a name of its own: ORDER BY would sort by it, "99" behind "100".
READ: Final = """
    SELECT epoch, xid::text AS xid_text, seq, tenant_id, event_id, leaf_hash, body
    FROM muniment.events
    WHERE (epoch, xid, seq) > ($1::smallint, ($2::text)::xid8, $3::bigint)
      AND (epoch, xid) < (SELECT max(epoch), pg_snapshot_xmin(pg_current_snapshot())
                          FROM muniment.epochs)
      AND ($4::text IS NULL OR tenant_id = $4)
    ORDER BY epoch, xid, seq LIMIT $5
"""
POSITION: Final = """
    SELECT epoch || '.' || xid::text || '.' || seq FROM muniment.events
    WHERE tenant_id = $1 AND event_id = $2
"""
LAST_POSITION: Final = """
    SELECT max(epoch) || '.' || pg_snapshot_xmin(pg_current_snapshot())::text || '.-1'
    FROM muniment.epochs
"""
ENSURE_PARTITION: Final = "SELECT muniment.ensure_partition($1)"
COUNTED: Final = 10_000
"""Up to so many events are counted; of more there is an estimate."""
FEW_EVENTS: Final = f"""
    SELECT count(*) FROM (SELECT 1 FROM muniment.events LIMIT {COUNTED + 1}) few
"""
# reltuples is what VACUUM saw last, -1 before; live tuples are counted as they come, until a crash.
SIZES: Final = """
    SELECT coalesce(sum(greatest(reltuples, pg_stat_get_live_tuples(oid)))
                    FILTER (WHERE parent = 'events'), 0),
           coalesce(sum(pg_total_relation_size(oid)), 0),
           count(*) FILTER (WHERE parent = 'events')
    FROM (SELECT c.oid, c.reltuples, p.relname AS parent FROM pg_inherits i
          JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
          WHERE p.relnamespace = 'muniment'::regnamespace
            AND c.relkind = 'r' AND p.relname IN ('events', 'postings')) parts
"""
NOT_INDEXED: Final = f"""
    SELECT count(*) FROM
        (SELECT 1 FROM muniment.events WHERE {_BEHIND_INDEX} LIMIT 1000000) behind
"""
