"""Credentials of the HTTP service: hashes, scopes, tenants; and the role that may see them."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ROLE = (
    # Roles belong to the whole cluster: another database of it may have made this one.
    """
    DO $$
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'muniment_service') THEN
            BEGIN
                CREATE ROLE muniment_service NOLOGIN;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
    END $$
    """,
    "GRANT USAGE ON SCHEMA muniment TO muniment_service",
)

TABLES = (
    # secret_hash: SHA-256. tenant_id NULL: all tenants. No key to the parent, for what was made
    # with a token must not keep it.
    """
    CREATE TABLE muniment.credentials (
        id text COLLATE "C" PRIMARY KEY CHECK (octet_length(id) BETWEEN 1 AND 64),
        kind text COLLATE "C" NOT NULL CHECK (kind IN ('token', 'link', 'session')),
        secret_hash bytea NOT NULL UNIQUE CHECK (octet_length(secret_hash) = 32),
        name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 512),
        scopes text[] COLLATE "C" NOT NULL CHECK (
            scopes <@ ARRAY['write', 'read', 'export', 'admin']::text[] AND cardinality(scopes) > 0
            AND (kind = 'token' OR scopes <@ ARRAY['read', 'export']::text[])),
        tenant_id text COLLATE "C" CHECK (octet_length(tenant_id) BETWEEN 1 AND 512),
        created_at timestamptz NOT NULL,
        expires_at timestamptz CHECK (expires_at IS NOT NULL OR kind = 'token'),
        revoked_at timestamptz,
        used_at timestamptz CHECK (used_at IS NULL OR kind = 'link'),
        parent_id text COLLATE "C" CHECK (parent_id IS NULL OR kind <> 'token'),
        person_id text CHECK (octet_length(person_id) BETWEEN 1 AND 512),
        person_name text CHECK (octet_length(person_name) <= 4096)
    )
    """,
    "CREATE INDEX credentials_by_kind ON muniment.credentials (kind, expires_at)",
)

LASTING = (
    """
    CREATE FUNCTION muniment.refuse_revival() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        IF (OLD.revoked_at IS NULL OR NEW.revoked_at <= OLD.revoked_at)
            AND (OLD.used_at IS NULL OR NEW.used_at = OLD.used_at)
            AND to_jsonb(NEW) - '{revoked_at,used_at}'::text[]
                = to_jsonb(OLD) - '{revoked_at,used_at}'::text[]
        THEN RETURN NEW; END IF;
        RAISE EXCEPTION 'muniment.credentials: what was revoked or used stays so'
            USING ERRCODE = 'insufficient_privilege', HINT = 'Make a new credential.';
    END $$
    """,
    """
    CREATE TRIGGER refuse_revival BEFORE UPDATE ON muniment.credentials
        FOR EACH ROW EXECUTE FUNCTION muniment.refuse_revival()
    """,
    "ALTER TABLE muniment.credentials ENABLE ALWAYS TRIGGER refuse_revival",
    "REVOKE ALL ON FUNCTION muniment.refuse_revival() FROM PUBLIC",
)

SECURITY = (
    """
    DO $$
    BEGIN
        ALTER TABLE muniment.credentials ENABLE ROW LEVEL SECURITY;
        ALTER TABLE muniment.credentials FORCE ROW LEVEL SECURITY;
        CREATE POLICY seen ON muniment.credentials FOR SELECT TO muniment_service USING (true);
        CREATE POLICY made ON muniment.credentials FOR INSERT TO muniment_service
            WITH CHECK (true);
        CREATE POLICY ended ON muniment.credentials FOR UPDATE TO muniment_service USING (true);
        -- Tokens stay, revoked ones too: what they did is in the log.
        CREATE POLICY removed ON muniment.credentials FOR DELETE TO muniment_service
            USING (kind <> 'token' AND expires_at < now());
        EXECUTE format('CREATE POLICY owner ON muniment.credentials TO %I USING (true) '
                       'WITH CHECK (true)', current_user);
    END $$
    """,
    "GRANT SELECT ON muniment.epochs, muniment.schema_version TO muniment_service",
    "GRANT SELECT, INSERT, DELETE ON muniment.credentials TO muniment_service",
    "GRANT UPDATE (revoked_at, used_at) ON muniment.credentials TO muniment_service",
)


def upgrade() -> None:
    """Create everything."""
    for part in (ROLE, TABLES, LASTING, SECURITY):
        for statement in part:
            op.get_bind().exec_driver_sql(statement)
