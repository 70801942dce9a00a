"""Each tenant's tree: tiles, the events at its leaves, and the checkpoints signed over it."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROLE = (
    # Roles belong to the whole cluster: another database of it may have made this one.
    """
    DO $$
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'muniment_sequencer') THEN
            BEGIN
                CREATE ROLE muniment_sequencer NOLOGIN;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
    END $$
    """,
    "GRANT USAGE ON SCHEMA muniment TO muniment_sequencer",
)

TABLES = (
    # (epoch, xid, seq): every event up to here has its leaf, and none will come before it any more.
    # seq is -1 unless more of that transaction is to come. last_position: that of the event which
    # got its leaf last.
    """
    CREATE TABLE muniment.sequencer_state (
        "only" smallint PRIMARY KEY CHECK ("only" = 1),
        epoch smallint NOT NULL,
        xid xid8 NOT NULL,
        seq bigint NOT NULL,
        last_position text COLLATE "C"
    )
    """,
    "INSERT INTO muniment.sequencer_state VALUES (1, 1, '0', -1)",
    # edge: the roots of the tree's largest perfect subtrees, with which it grows.
    """
    CREATE TABLE muniment.trees (
        tenant_id text COLLATE "C" PRIMARY KEY,
        tree_size bigint NOT NULL CHECK (tree_size > 0),
        edge bytea NOT NULL,
        published_size bigint NOT NULL DEFAULT 0,
        anchored_size bigint NOT NULL DEFAULT 0,
        CHECK (octet_length(edge) = 32 * bit_count(tree_size::bit(64))),
        CHECK (0 <= anchored_size AND anchored_size <= published_size
               AND published_size <= tree_size)
    )
    """,
    # Among many tenants, few have something due.
    """
    CREATE INDEX trees_unpublished ON muniment.trees (tenant_id)
        WHERE tree_size > published_size
    """,
    """
    CREATE INDEX trees_unanchored ON muniment.trees (tenant_id)
        WHERE published_size > anchored_size
    """,
    # Hashes of 32 bytes, up to 256 (C2SP tlog-tiles); level 0 are the leaf hashes.
    """
    CREATE TABLE muniment.tiles (
        tenant_id text COLLATE "C" NOT NULL,
        level smallint NOT NULL CHECK (level BETWEEN 0 AND 7),
        tile_index bigint NOT NULL CHECK (tile_index >= 0),
        hashes bytea NOT NULL CHECK (octet_length(hashes) BETWEEN 32 AND 8192
                                     AND octet_length(hashes) % 32 = 0),
        PRIMARY KEY (tenant_id, level, tile_index)
    )
    """,
    # The event at leaf n is number n % 256 of bundle n / 256.
    """
    CREATE TABLE muniment.bundles (
        tenant_id text COLLATE "C" NOT NULL,
        bundle_index bigint NOT NULL CHECK (bundle_index >= 0),
        first_epoch smallint NOT NULL,
        first_xid xid8 NOT NULL,
        first_seq bigint NOT NULL,
        event_ids bytea NOT NULL CHECK (octet_length(event_ids) BETWEEN 16 AND 4096
                                        AND octet_length(event_ids) % 16 = 0),
        PRIMARY KEY (tenant_id, bundle_index)
    )
    """,
    """
    CREATE INDEX bundles_by_recording
        ON muniment.bundles (tenant_id, first_epoch, first_xid, first_seq)
    """,
    # Hashes and ids don't compress: to try costs time.
    "ALTER TABLE muniment.tiles ALTER hashes SET STORAGE EXTERNAL",
    "ALTER TABLE muniment.bundles ALTER event_ids SET STORAGE EXTERNAL",
    """
    CREATE TABLE muniment.checkpoints (
        tenant_id text COLLATE "C" NOT NULL,
        tree_size bigint NOT NULL CHECK (tree_size > 0),
        root_hash bytea NOT NULL CHECK (octet_length(root_hash) = 32),
        note text COLLATE "C" NOT NULL,
        published_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant_id, tree_size)
    )
    """,
)

GROWING = (
    # For the keeper too, and for the owner.
    """
    CREATE FUNCTION muniment.refuse_but_growth() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
    DECLARE grows boolean := false;
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            CASE TG_TABLE_NAME
            WHEN 'tiles' THEN
                grows := (OLD.tenant_id, OLD.level, OLD.tile_index)
                       = (NEW.tenant_id, NEW.level, NEW.tile_index)
                    AND substr(NEW.hashes, 1, octet_length(OLD.hashes)) = OLD.hashes;
            WHEN 'bundles' THEN
                grows := (OLD.tenant_id, OLD.bundle_index, OLD.first_epoch, OLD.first_xid,
                          OLD.first_seq)
                       = (NEW.tenant_id, NEW.bundle_index, NEW.first_epoch, NEW.first_xid,
                          NEW.first_seq)
                    AND substr(NEW.event_ids, 1, octet_length(OLD.event_ids)) = OLD.event_ids;
            WHEN 'checkpoints' THEN
                grows := (OLD.tenant_id, OLD.tree_size, OLD.root_hash, OLD.published_at)
                       = (NEW.tenant_id, NEW.tree_size, NEW.root_hash, NEW.published_at)
                    AND starts_with(NEW.note, OLD.note);
            WHEN 'trees' THEN
                grows := OLD.tenant_id = NEW.tenant_id AND OLD.tree_size <= NEW.tree_size
                    AND OLD.published_size <= NEW.published_size
                    AND OLD.anchored_size <= NEW.anchored_size
                    AND (OLD.tree_size < NEW.tree_size OR OLD.edge = NEW.edge);
            WHEN 'sequencer_state' THEN
                grows := (OLD.epoch, OLD.xid, OLD.seq) <= (NEW.epoch, NEW.xid, NEW.seq);
            END CASE;
        END IF;
        -- What is NULL is not known to grow.
        IF grows THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'muniment.% only grows: this % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    # ALWAYS, or session_replication_role = replica would switch them off.
    """
    DO $$
    DECLARE growing name;
    BEGIN
        FOREACH growing IN ARRAY ARRAY['sequencer_state', 'trees', 'tiles', 'bundles',
                                       'checkpoints'] LOOP
            EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON muniment.%I '
                           'FOR EACH ROW EXECUTE FUNCTION muniment.refuse_but_growth()', growing);
            EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON muniment.%I '
                           'FOR EACH STATEMENT EXECUTE FUNCTION muniment.refuse_but_growth()',
                           growing);
            EXECUTE format('ALTER TABLE muniment.%I ENABLE ALWAYS TRIGGER refuse_change', growing);
            EXECUTE format('ALTER TABLE muniment.%I ENABLE ALWAYS TRIGGER refuse_truncate',
                           growing);
        END LOOP;
    END $$
    """,
)

SECURITY = (
    """
    DO $$
    DECLARE secured name;
    BEGIN
        FOREACH secured IN ARRAY ARRAY['trees', 'tiles', 'bundles', 'checkpoints'] LOOP
            EXECUTE format('ALTER TABLE muniment.%I ENABLE ROW LEVEL SECURITY', secured);
            EXECUTE format('ALTER TABLE muniment.%I FORCE ROW LEVEL SECURITY', secured);
            EXECUTE format('CREATE POLICY by_tenant ON muniment.%I FOR SELECT TO muniment_writer, '
                           'muniment_reader USING ((SELECT muniment.sees_all(current_user)) OR '
                           'tenant_id = ANY ((SELECT muniment.bound_tenants(current_user))'
                           '::text[]))', secured);
            EXECUTE format('CREATE POLICY keeper ON muniment.%I FOR SELECT TO muniment_keeper '
                           'USING (true)', secured);
            EXECUTE format('CREATE POLICY sequencer ON muniment.%I TO muniment_sequencer '
                           'USING (true) WITH CHECK (true)', secured);
            EXECUTE format('CREATE POLICY owner ON muniment.%I TO %I USING (true) '
                           'WITH CHECK (true)', secured, current_user);
        END LOOP;
    END $$
    """,
)

# Who sequences sees through these what a tree is made of. A policy would let a writer who is bound
# to a tenant, and sequences too, see all bodies, for policies add up.
#
# What is below `settled`, (epoch, xid), is all there: no transaction below it is still running. As
# a row comparison it is the end of the range that is read in the index. The snapshot in a STABLE
# function is that of the query which calls it.
PENDING = (
    """
    CREATE FUNCTION muniment.is_pending() RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_sort = off
    SET jit = off SET plan_cache_mode = force_custom_plan AS $$
    DECLARE state record;
    BEGIN
        SELECT epoch, xid, seq INTO state FROM muniment.sequencer_state;
        RETURN state.seq >= 0 OR EXISTS (
            SELECT FROM muniment.events
            WHERE (epoch, xid) >= (state.epoch, state.xid)
              AND (epoch, xid) < (SELECT max(epoch), pg_snapshot_xmin(pg_current_snapshot())
                                  FROM muniment.epochs));
    END $$
    """,
    # In order of recording: of the transaction inside which the state stands up to `of_one`, then
    # others, up to `at_most` with them; and one more, if there is one. To go on inside a
    # transaction all of it is looked through, so few steps must do for a large one.
    """
    CREATE FUNCTION muniment.pending_events(
        settled_epoch smallint, settled_xid xid8, at_most int, of_one int
    ) RETURNS TABLE (
        epoch smallint, xid xid8, seq bigint, tenant_id text, event_id uuid, leaf_hash bytea
    ) LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_sort = off
    SET jit = off SET plan_cache_mode = force_custom_plan AS $$
    DECLARE
        state record;
        found int := 0;
    BEGIN
        SELECT s.epoch, s.xid, s.seq INTO state FROM muniment.sequencer_state s;
        IF state.seq >= 0 THEN
            RETURN QUERY
                SELECT e.epoch, e.xid, e.seq, e.tenant_id, e.event_id, e.leaf_hash
                FROM muniment.events e
                WHERE e.epoch = state.epoch AND e.xid = state.xid AND e.seq > state.seq
                  AND (e.epoch, e.xid) < (settled_epoch, settled_xid)
                ORDER BY e.seq LIMIT of_one + 1;
            GET DIAGNOSTICS found = ROW_COUNT;
            IF found > of_one THEN
                RETURN;
            END IF;
            state.xid := (state.xid::text::bigint + 1)::text::xid8;
        END IF;
        RETURN QUERY
            SELECT e.epoch, e.xid, e.seq, e.tenant_id, e.event_id, e.leaf_hash
            FROM muniment.events e
            WHERE (e.epoch, e.xid) >= (state.epoch, state.xid)
              AND (e.epoch, e.xid) < (settled_epoch, settled_xid)
            ORDER BY e.epoch, e.xid, e.seq LIMIT greatest(at_most - found, 0) + 1;
    END $$
    """,
)

LAG = (
    # The age of the first event without a leaf, of whatever tenant, and which transactions it or
    # one behind it waits for. That, and nothing else of an event, is told to anybody.
    r"""
    CREATE FUNCTION muniment.sequencing_lag(OUT seconds double precision, OUT waits_for text[])
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_sort = off AS $$
    DECLARE
        visible pg_snapshot := pg_current_snapshot();
        state record;
        pending record;
        held xid8;
    BEGIN
        seconds := 0;
        waits_for := '{}';
        SELECT epoch, xid, seq INTO state FROM muniment.sequencer_state;
        SELECT event_id, body INTO pending FROM muniment.events
        WHERE (epoch, xid, seq) > (state.epoch, state.xid, state.seq)
        ORDER BY epoch, xid LIMIT 1;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        BEGIN
            -- No type of JSON takes an escaped NUL.
            seconds := extract(epoch FROM clock_timestamp() - btrim(
                (replace(pending.body, '\u0000', '\u0001')::json -> 'recorded_at')::text, '"'
            )::timestamptz);
        EXCEPTION WHEN others THEN
            seconds := NULL;  -- a body that was not written by us
        END;
        -- Of an erased event, the time in its id.
        seconds := greatest(0, coalesce(seconds, extract(epoch FROM clock_timestamp())
            - ('x' || left(replace(pending.event_id::text, '-', ''), 12))::bit(48)::bigint
            / 1000.0));
        SELECT xid INTO held FROM muniment.events
        WHERE (epoch, xid) >= ((SELECT max(epoch) FROM muniment.epochs), pg_snapshot_xmin(visible))
        ORDER BY epoch, xid LIMIT 1;
        IF FOUND THEN
            waits_for := ARRAY(SELECT x::text FROM pg_snapshot_xip(visible) AS x
                               WHERE x < held ORDER BY x LIMIT 20);
        END IF;
    END $$
    """,
)

GRANTS = (
    "GRANT SELECT ON muniment.epochs, muniment.schema_version TO muniment_sequencer",
    """
    GRANT SELECT ON muniment.sequencer_state, muniment.trees, muniment.tiles, muniment.bundles,
        muniment.checkpoints
        TO muniment_writer, muniment_reader, muniment_keeper, muniment_sequencer
    """,
    """
    GRANT INSERT ON muniment.trees, muniment.tiles, muniment.bundles, muniment.checkpoints
        TO muniment_sequencer
    """,
    """
    GRANT UPDATE (epoch, xid, seq, last_position) ON muniment.sequencer_state
        TO muniment_sequencer
    """,
    """
    GRANT UPDATE (tree_size, edge, published_size, anchored_size) ON muniment.trees
        TO muniment_sequencer
    """,
    "GRANT UPDATE (hashes) ON muniment.tiles TO muniment_sequencer",
    "GRANT UPDATE (event_ids) ON muniment.bundles TO muniment_sequencer",
    "GRANT UPDATE (note) ON muniment.checkpoints TO muniment_sequencer",
    """
    REVOKE ALL ON FUNCTION muniment.refuse_but_growth(), muniment.sequencing_lag(),
        muniment.is_pending(), muniment.pending_events(smallint, xid8, int, int) FROM PUBLIC
    """,
    """
    GRANT EXECUTE ON FUNCTION muniment.is_pending(),
        muniment.pending_events(smallint, xid8, int, int) TO muniment_sequencer
    """,
    """
    GRANT EXECUTE ON FUNCTION muniment.sequencing_lag()
        TO muniment_writer, muniment_reader, muniment_keeper, muniment_sequencer
    """,
)


def upgrade() -> None:
    """Create everything. What is recorded already gets its leaves like what comes."""
    for part in (ROLE, TABLES, GROWING, SECURITY, PENDING, LAG, GRANTS):
        for statement in part:
            op.get_bind().exec_driver_sql(statement)
