"""Events, append-only and isolated by tenant, in monthly partitions; the index over them; roles."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLES = (
    # Roles belong to the whole cluster: another database of it may have made them.
    """
    DO $$
    DECLARE wanted text;
    BEGIN
        FOREACH wanted IN ARRAY ARRAY['muniment_writer', 'muniment_reader', 'muniment_keeper'] LOOP
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
                BEGIN
                    EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
                EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
                END;
            END IF;
        END LOOP;
    END $$
    """,
    "GRANT USAGE ON SCHEMA muniment TO muniment_writer, muniment_reader, muniment_keeper",
)

TABLES = (
    # Order within a transaction; between transactions xid orders. Blocks of 100 per session.
    "CREATE SEQUENCE muniment.event_seq CACHE 100",
    """
    CREATE TABLE muniment.events (
        tenant_id text COLLATE "C" NOT NULL CHECK (octet_length(tenant_id) BETWEEN 1 AND 512),
        event_id uuid NOT NULL,
        leaf_hash bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
        terms text COLLATE "C" NOT NULL,
        body text COLLATE "C",
        epoch smallint NOT NULL DEFAULT 1,
        xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
        seq bigint NOT NULL DEFAULT nextval('muniment.event_seq'),
        PRIMARY KEY (tenant_id, event_id)
    ) PARTITION BY RANGE (event_id)
    """,
    "CREATE INDEX events_by_recording ON muniment.events (epoch, xid)",
    # Written behind the events, in order of terms; see docs/design/002-late-index.md.
    """
    CREATE TABLE muniment.postings (
        tenant_id text COLLATE "C" NOT NULL,
        term text COLLATE "C" NOT NULL,
        event_id uuid NOT NULL,
        PRIMARY KEY (tenant_id, term, event_id)
    ) PARTITION BY RANGE (event_id)
    """,
    "CREATE INDEX postings_of_all_tenants ON muniment.postings (term, event_id, tenant_id)",
    """
    CREATE TABLE muniment.actions (
        tenant_id text COLLATE "C" NOT NULL,
        action text COLLATE "C" NOT NULL,
        PRIMARY KEY (tenant_id, action)
    )
    """,
    # (epoch, xid): from this transaction on nothing is indexed yet.
    """
    CREATE TABLE muniment.index_state (
        "only" smallint PRIMARY KEY CHECK ("only" = 1),
        epoch smallint NOT NULL,
        xid xid8 NOT NULL
    )
    """,
    "INSERT INTO muniment.index_state VALUES (1, 1, '0')",
    """
    CREATE TABLE muniment.idempotency_keys (
        tenant_id text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        event_id uuid NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant_id, key)
    )
    """,
    # Transaction ids start over after a dump and restore: each cluster is an epoch of its own.
    """
    CREATE TABLE muniment.epochs (
        epoch smallint PRIMARY KEY,
        system_identifier bigint NOT NULL,
        began_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "INSERT INTO muniment.epochs SELECT 1, system_identifier FROM pg_control_system()",
    # Which tenants a login role sees and writes; NULL is all of them. No binding: none.
    """
    CREATE TABLE muniment.tenant_bindings (
        role_name name NOT NULL,
        tenant_id text COLLATE "C",
        UNIQUE NULLS NOT DISTINCT (role_name, tenant_id)
    )
    """,
)

APPEND_ONLY = (
    """
    CREATE FUNCTION muniment.refuse_change() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        IF current_user = 'muniment_keeper' THEN
            IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
            IF TG_OP = 'UPDATE' AND NEW.body IS NULL AND (OLD.tenant_id, OLD.event_id,
                OLD.leaf_hash, OLD.terms, OLD.epoch, OLD.xid, OLD.seq) = (NEW.tenant_id,
                NEW.event_id, NEW.leaf_hash, NEW.terms, NEW.epoch, NEW.xid, NEW.seq)
            THEN RETURN NEW; END IF;
        END IF;
        RAISE EXCEPTION 'muniment.events is append-only: % is refused', TG_OP
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Record a new event that corrects the old one.';
    END $$
    """,
    # A row trigger is cloned to every partition, so it holds where a partition is named directly.
    """
    CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON muniment.events
    FOR EACH ROW EXECUTE FUNCTION muniment.refuse_change()
    """,
    """
    CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON muniment.events
    FOR EACH STATEMENT EXECUTE FUNCTION muniment.refuse_change()
    """,
    # ALWAYS, or session_replication_role = replica would switch them off.
    "ALTER TABLE muniment.events ENABLE ALWAYS TRIGGER refuse_change",
    "ALTER TABLE muniment.events ENABLE ALWAYS TRIGGER refuse_truncate",
)

# pg_temp is named last wherever a search path is set: unnamed it comes first, and who calls could
# put a type of its own before a built-in one, to have its code run with the owner's rights.
PARTITIONS = (
    """
    CREATE FUNCTION muniment.lowest_id(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
        SELECT rpad(lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0'),
                    32, '0')::uuid
    $$
    """,
    """
    CREATE FUNCTION muniment.attach_partition(
        parent name, suffix text, lower_bound text, upper_bound text
    ) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
        part name := parent || '_' || suffix;
        cloned name;
    BEGIN
        -- Made apart and attached: that waits for nobody who is writing to the parent.
        EXECUTE format('CREATE TABLE muniment.%I (LIKE muniment.%I INCLUDING ALL)', part, parent);
        EXECUTE format('ALTER TABLE muniment.%I ENABLE ROW LEVEL SECURITY', part);
        EXECUTE format('ALTER TABLE muniment.%I FORCE ROW LEVEL SECURITY', part);
        EXECUTE format('REVOKE ALL ON muniment.%I FROM PUBLIC, muniment_writer, muniment_reader, '
                       'muniment_keeper', part);
        EXECUTE format('ALTER TABLE muniment.%I ATTACH PARTITION muniment.%I '
                       'FOR VALUES FROM (%s) TO (%s)', parent, part, lower_bound, upper_bound);
        IF parent = 'events' THEN
            EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON muniment.%I '
                           'FOR EACH STATEMENT EXECUTE FUNCTION muniment.refuse_change()', part);
            FOR cloned IN SELECT tgname FROM pg_catalog.pg_trigger
                WHERE tgrelid = format('muniment.%I', part)::regclass LOOP
                EXECUTE format('ALTER TABLE muniment.%I ENABLE ALWAYS TRIGGER %I', part, cloned);
            END LOOP;
        END IF;
    END $$
    """,
    """
    CREATE FUNCTION muniment.ensure_partition(moment timestamptz) RETURNS text LANGUAGE plpgsql
    STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    DECLARE
        wanted timestamptz := date_trunc('month', moment);
        month timestamptz;
        suffix text;
        parent name;
    BEGIN
        IF wanted < '2020-01-01' THEN
            RETURN 'before_2020';
        ELSIF moment > now() + interval '1 year' THEN
            RAISE EXCEPTION 'no partition is made for %: over a year ahead', moment
                USING ERRCODE = 'datetime_field_overflow';
        END IF;
        -- With this month's comes the next one's, so that nobody waits for it when the month turns.
        FOREACH month IN ARRAY ARRAY[wanted, wanted + interval '1 month'] LOOP
            suffix := to_char(month, 'YYYY_MM');
            IF (month = wanted OR wanted = date_trunc('month', now()))
                AND to_regclass('muniment.events_' || suffix) IS NULL
            THEN
                -- Not an advisory lock: that one anybody could hold for ever.
                LOCK TABLE ONLY muniment.events, ONLY muniment.postings
                    IN SHARE UPDATE EXCLUSIVE MODE;
                IF to_regclass('muniment.events_' || suffix) IS NULL THEN
                    FOREACH parent IN ARRAY ARRAY['postings', 'events'] LOOP
                        PERFORM muniment.attach_partition(parent, suffix,
                            quote_literal(muniment.lowest_id(month)),
                            quote_literal(muniment.lowest_id(month + interval '1 month')));
                    END LOOP;
                END IF;
            END IF;
        END LOOP;
        suffix := to_char(wanted, 'YYYY_MM');
        -- A transaction that has written events knows the partitions of then; a new lock has it
        -- look again.
        EXECUTE format('LOCK TABLE ONLY muniment.%I IN ACCESS SHARE MODE', 'events_' || suffix);
        RETURN suffix;
    END $$
    """,
)

SECURITY = (
    # session_user: a member of several roles could SET ROLE to shed its binding. It sees no other
    # role's bindings, since those of tenant_bindings are secured too.
    """
    CREATE FUNCTION muniment.bound_tenants(who name) RETURNS text[] LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
        SELECT CASE WHEN count(*) = 0
            THEN (SELECT coalesce(array_agg(tenant_id), '{}') FROM muniment.tenant_bindings
                  WHERE role_name = session_user)
            ELSE array_agg(tenant_id) END
        FROM muniment.tenant_bindings WHERE role_name = who
    $$
    """,
    """
    CREATE FUNCTION muniment.sees_all(who name) RETURNS boolean LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
        SELECT array_position(muniment.bound_tenants(who), NULL) IS NOT NULL
    $$
    """,
    """
    DO $$
    DECLARE
        secured name;
        visible text;
        writable text;
    BEGIN
        FOREACH secured IN ARRAY ARRAY['events', 'postings', 'actions', 'idempotency_keys',
                                       'tenant_bindings'] LOOP
            visible := CASE secured WHEN 'tenant_bindings'
                THEN 'role_name IN (current_user, session_user)'
                ELSE '(SELECT muniment.sees_all(current_user)) OR tenant_id = '
                     'ANY ((SELECT muniment.bound_tenants(current_user))::text[])' END;
            -- No event is born erased.
            writable := CASE secured WHEN 'events'
                THEN format('(%s) AND body IS NOT NULL', visible) ELSE visible END;
            EXECUTE format('ALTER TABLE muniment.%I ENABLE ROW LEVEL SECURITY', secured);
            EXECUTE format('ALTER TABLE muniment.%I FORCE ROW LEVEL SECURITY', secured);
            EXECUTE format('CREATE POLICY by_tenant ON muniment.%I TO muniment_writer, '
                           'muniment_reader USING (%s) WITH CHECK (%s)',
                           secured, visible, writable);
            EXECUTE format('CREATE POLICY keeper ON muniment.%I TO muniment_keeper '
                           'USING (true) WITH CHECK (true)', secured);
            -- The owner runs the functions that index and migrate.
            EXECUTE format('CREATE POLICY owner ON muniment.%I TO %I USING (true) '
                           'WITH CHECK (true)', secured, current_user);
        END LOOP;
    END $$
    """,
    """
    CREATE FUNCTION muniment.bind_role(who name, tenant text) RETURNS void LANGUAGE sql
    SET search_path = pg_catalog, pg_temp AS $$
        INSERT INTO muniment.tenant_bindings (role_name, tenant_id) VALUES (who, tenant)
        ON CONFLICT DO NOTHING
    $$
    """,
)

INDEXING = (
    """
    CREATE FUNCTION muniment.index_pending(at_most int) RETURNS bigint LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
    DECLARE
        state record;
        reached record;
        newest smallint;
        settled xid8 := pg_snapshot_xmin(pg_current_snapshot());
        done bigint;
    BEGIN
        -- Not an advisory lock: that one anybody could hold for ever.
        SELECT epoch, xid INTO state FROM muniment.index_state FOR UPDATE SKIP LOCKED;
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
            SELECT tenant_id, event_id, terms FROM muniment.events
            WHERE (epoch, xid) >= (state.epoch, state.xid)
              AND (epoch, xid) <= (reached.epoch, reached.xid)
        ), posted AS (
            -- In order of terms: neighbours in the index are written together.
            INSERT INTO muniment.postings (tenant_id, term, event_id)
            SELECT tenant_id, term, event_id FROM batch,
                LATERAL string_to_table('*' || rtrim(terms, E'\\x1f'), E'\\x1f') AS term
            -- Ours are shorter. One that an index can't hold must not stop it for everybody.
            WHERE octet_length(term) <= 2000
            ORDER BY tenant_id, term, event_id
            ON CONFLICT DO NOTHING
        ), named AS (
            INSERT INTO muniment.actions (tenant_id, action)
            SELECT DISTINCT tenant_id, substr(split_part(terms, E'\\x1f', 2), length('action:') + 1)
            FROM batch WHERE octet_length(split_part(terms, E'\\x1f', 2)) <= 2000
            ORDER BY 1, 2
            ON CONFLICT DO NOTHING
        )
        SELECT count(*) INTO done FROM batch;
        UPDATE muniment.index_state
        SET epoch = reached.epoch, xid = (reached.xid::text::bigint + 1)::text::xid8;
        RETURN done;
    END $$
    """,
)

GRANTS = (
    # xid, seq and epoch are the database's to give.
    """
    GRANT INSERT (tenant_id, event_id, leaf_hash, terms, body) ON muniment.events
        TO muniment_writer
    """,
    "GRANT USAGE ON SEQUENCE muniment.event_seq TO muniment_writer",
    "GRANT INSERT (tenant_id, key, event_id) ON muniment.idempotency_keys TO muniment_writer",
    """
    GRANT SELECT ON muniment.events, muniment.postings, muniment.actions, muniment.index_state,
        muniment.idempotency_keys, muniment.epochs, muniment.schema_version,
        muniment.tenant_bindings
        TO muniment_writer, muniment_reader, muniment_keeper
    """,
    "GRANT UPDATE (body), DELETE ON muniment.events TO muniment_keeper",
    "GRANT INSERT, DELETE ON muniment.tenant_bindings TO muniment_keeper",
    "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA muniment FROM PUBLIC",
    """
    GRANT EXECUTE ON FUNCTION muniment.sees_all(name), muniment.bound_tenants(name),
        muniment.lowest_id(timestamptz) TO muniment_writer, muniment_reader, muniment_keeper
    """,
    """
    GRANT EXECUTE ON FUNCTION muniment.ensure_partition(timestamptz),
        muniment.index_pending(int) TO muniment_writer
    """,
    "GRANT EXECUTE ON FUNCTION muniment.bind_role(name, text) TO muniment_keeper",
)

FIRST_PARTITIONS = (
    """
    SELECT muniment.attach_partition(parent, 'before_2020', 'MINVALUE',
                                     quote_literal(muniment.lowest_id('2020-01-01Z')))
    FROM unnest(ARRAY['postings', 'events']::name[]) AS parent
    """,
    """
    SELECT muniment.ensure_partition(now() + ahead * interval '1 month')
    FROM generate_series(0, 2) AS ahead
    """,
)


def upgrade() -> None:
    """Create everything."""
    parts = (ROLES, TABLES, APPEND_ONLY, PARTITIONS, SECURITY, INDEXING, GRANTS, FIRST_PARTITIONS)
    for part in parts:
        for statement in part:
            op.get_bind().exec_driver_sql(statement)
