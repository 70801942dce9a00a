"""Counts by hour and day, and how far counting has come."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = (
    # width and start in milliseconds; the tenant_id '' is all tenants together. Room is left in
    # each page, so that the same cell may be written often without touching its index.
    """
    CREATE TABLE muniment.cells (
        tenant_id text COLLATE "C" NOT NULL,
        width int NOT NULL CHECK (width IN (3600000, 86400000)),
        start bigint NOT NULL CHECK (start % width = 0),
        action text COLLATE "C" NOT NULL,
        outcome text COLLATE "C" NOT NULL,
        events bigint NOT NULL CHECK (events > 0),
        PRIMARY KEY (tenant_id, width, start, action, outcome)
    ) WITH (fillfactor = 60)
    """,
    # (epoch, xid): from this transaction on nothing is counted yet.
    """
    CREATE TABLE muniment.counts_state (
        "only" smallint PRIMARY KEY CHECK ("only" = 1),
        epoch smallint NOT NULL,
        xid xid8 NOT NULL
    )
    """,
    "INSERT INTO muniment.counts_state VALUES (1, 0, '0')",
)

SECURITY = (
    """
    DO $$
    DECLARE
        visible text := '(SELECT muniment.sees_all(current_user)) OR tenant_id = '
            'ANY ((SELECT muniment.bound_tenants(current_user))::text[])';
    BEGIN
        ALTER TABLE muniment.cells ENABLE ROW LEVEL SECURITY;
        ALTER TABLE muniment.cells FORCE ROW LEVEL SECURITY;
        EXECUTE format('CREATE POLICY by_tenant ON muniment.cells FOR SELECT TO muniment_writer, '
                       'muniment_reader USING (%s)', visible);
        CREATE POLICY keeper ON muniment.cells FOR SELECT TO muniment_keeper USING (true);
        -- The owner runs the functions that count.
        EXECUTE format('CREATE POLICY owner ON muniment.cells TO %I USING (true) '
                       'WITH CHECK (true)', current_user);
    END $$
    """,
)

COUNTING = (
    """
    CREATE FUNCTION muniment.count_pending(at_most int) RETURNS bigint LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
    SET jit = off AS $$
    DECLARE
        state record;
        reached record;
        newest smallint;
        settled xid8 := pg_snapshot_xmin(pg_current_snapshot());
        done bigint;
    BEGIN
        -- Not an advisory lock: that one anybody could hold for ever.
        SELECT epoch, xid INTO state FROM muniment.counts_state FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN 0;
        END IF;
        SELECT max(epoch) INTO newest FROM muniment.epochs;
        SELECT epoch, xid INTO reached FROM (
            SELECT epoch, xid FROM muniment.events
            WHERE (epoch, xid) >= (state.epoch, state.xid) AND (epoch < newest OR xid < settled)
            ORDER BY epoch, xid LIMIT at_most
        ) chosen ORDER BY epoch DESC, xid DESC LIMIT 1;
        IF NOT FOUND THEN
            RETURN 0;
        END IF;
        -- Whole transactions, so the batch may be larger than asked for.
        WITH batch AS MATERIALIZED (
            SELECT tenant_id,
                   ('x' || left(replace(event_id::text, '-', ''), 12))::bit(48)::bigint
                       / 3600000 * 3600000 AS hour,
                   -- Ours are shorter. One that an index can't hold must not stop it for everybody.
                   left(substr(split_part(terms, E'\\x1f', 2), length('action:') + 1), 512)
                       COLLATE "C" AS action,
                   left(substr(split_part(terms, E'\\x1f', 3), length('outcome:') + 1), 16)
                       COLLATE "C" AS outcome,
                   count(*) AS events
            FROM muniment.events
            WHERE (epoch, xid) >= (state.epoch, state.xid)
              AND (epoch, xid) <= (reached.epoch, reached.xid)
            GROUP BY 1, 2, 3, 4
        ), added AS (
            INSERT INTO muniment.cells AS c (tenant_id, width, start, action, outcome, events)
            SELECT owner, wide, hour / wide * wide, action, outcome, sum(events)
            FROM batch, unnest(ARRAY[3600000, 86400000]) AS wide,
                LATERAL unnest(ARRAY[tenant_id, '']) AS owner
            GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
            ON CONFLICT (tenant_id, width, start, action, outcome)
                DO UPDATE SET events = c.events + excluded.events
        )
        SELECT sum(events) INTO done FROM batch;
        UPDATE muniment.counts_state
        SET epoch = reached.epoch, xid = (reached.xid::text::bigint + 1)::text::xid8;
        RETURN done;
    END $$
    """,
    """
    CREATE FUNCTION muniment.forget_counts() RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        -- The state first: who counts meanwhile holds it, and begins anew behind us.
        UPDATE muniment.counts_state SET epoch = 0, xid = '0';
        DELETE FROM muniment.cells;
    END $$
    """,
)

GRANTS = (
    """
    GRANT SELECT ON muniment.cells, muniment.counts_state
        TO muniment_writer, muniment_reader, muniment_keeper
    """,
    """
    REVOKE ALL ON FUNCTION muniment.count_pending(int), muniment.forget_counts() FROM PUBLIC
    """,
    """
    GRANT EXECUTE ON FUNCTION muniment.count_pending(int) TO muniment_writer, muniment_keeper
    """,
    "GRANT EXECUTE ON FUNCTION muniment.forget_counts() TO muniment_keeper",
)


def upgrade() -> None:
    """Create everything. What is recorded already is counted like what comes."""
    for part in (TABLES, SECURITY, COUNTING, GRANTS):
        for statement in part:
            op.get_bind().exec_driver_sql(statement)
