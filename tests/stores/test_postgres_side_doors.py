"""Ways round the rights in PostgreSQL, tried by hand through psql: each must lead nowhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.postgres import Postgres
from tests.stores.secured import Secured, secured

_HASH = "decode(repeat('00', 32), 'hex')"
_INSERT = "INSERT INTO muniment.events (tenant_id, event_id, leaf_hash, terms, body)"
_ON_CONFLICT = "ON CONFLICT (tenant_id, event_id) DO UPDATE SET body = excluded.body"
_LEAK = """
CREATE FUNCTION pg_temp.leak(t text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
    RAISE NOTICE '%', t;
    RETURN true;
END $$;
"""
_EVIL = """
CREATE FUNCTION pg_temp.evil() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'running as %', current_user;
    INSERT INTO muniment.tenant_bindings VALUES (session_user, NULL);
    RETURN true;
END $$;
"""


@pytest.fixture(scope="module")
def place(postgres_server: Postgres) -> Iterator[Secured]:
    """A database that no test of this module changes."""
    with secured(postgres_server) as place:
        place.answer("ANALYZE")
        yield place


@pytest.fixture
def own_place(postgres_server: Postgres) -> Iterator[Secured]:
    """A database that the test may change."""
    with secured(postgres_server) as place:
        yield place


@pytest.fixture(scope="module")
def replicas(postgres_server: Postgres) -> Iterator[Secured]:
    """A database whose writer and reader may act as replicas; the writer has too many rights."""
    with secured(postgres_server) as place:
        both = f"{place.acme_writer}, {place.acme_reader}"
        place.answer(
            f"GRANT SET ON PARAMETER session_replication_role TO {both};"
            f"GRANT UPDATE, DELETE, TRUNCATE ON muniment.events, muniment.events_2021_05 "
            f"TO {place.acme_writer}"
        )
        yield place
        place.answer(f"REVOKE SET ON PARAMETER session_replication_role FROM {both}")


@pytest.mark.parametrize(
    "statement",
    [
        "COPY muniment.events TO STDOUT",
        "COPY (SELECT * FROM muniment.postings) TO STDOUT",
        "SELECT table_to_xml('muniment.events', true, false, '')",
        "SELECT query_to_xml('TABLE muniment.idempotency_keys', true, false, '')",
        "SELECT * FROM ts_stat('SELECT to_tsvector(body) FROM muniment.events')",
        "SELECT * FROM pg_stats WHERE schemaname = 'muniment'",
        "CREATE TEMP VIEW v AS SELECT * FROM muniment.events; SELECT * FROM v",
        "BEGIN; DECLARE c CURSOR FOR SELECT * FROM muniment.events; FETCH ALL c",
        "PREPARE p AS SELECT * FROM muniment.events; EXECUTE p",
        # The cheapest condition is tried first, were it not for the barrier.
        f"{_LEAK} SELECT count(*) FROM muniment.events WHERE pg_temp.leak(body)",
        "SELECT 1 FROM muniment.events WHERE 1 / (body NOT LIKE '%globex%')::int = 1",
        "SELECT * FROM muniment.tenant_bindings",
    ],
)
def test_what_a_bound_reader_gets_out(place: Secured, statement: str) -> None:
    """Exports, views, statistics, cursors and leaky functions give its own tenant's at most."""
    done = place.run(statement, place.acme_reader)
    assert done.returncode == 0, done.stderr
    assert "globex" not in done.stdout + done.stderr


@pytest.mark.parametrize("asked", ["acme_writer", "all_reader", "installer"])
def test_nobody_learns_whose_tenants_are_whose(place: Secured, asked: str) -> None:
    """Asked about another role, the database answers about the one who asks."""
    found = place.answer(
        f"SELECT muniment.bound_tenants('{getattr(place, asked)}')", place.acme_reader
    )
    assert found == ["{acme}"]


@pytest.mark.parametrize("who", ["acme_reader", "acme_writer"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM muniment.events FOR UPDATE",
        "SELECT * FROM muniment.index_state FOR SHARE",
        "BEGIN; LOCK TABLE muniment.events IN SHARE UPDATE EXCLUSIVE MODE",
        "BEGIN; LOCK TABLE muniment.index_state IN SHARE MODE",
        f"{_INSERT} VALUES ('acme', gen_random_uuid(), {_HASH}, '', '{{}}') {_ON_CONFLICT}",
        "MERGE INTO muniment.events e USING (SELECT 1) x ON true WHEN MATCHED THEN DELETE",
        "WITH gone AS (DELETE FROM muniment.events RETURNING *) SELECT * FROM gone",
        "SELECT setval('muniment.event_seq', 1)",
        "CREATE TRIGGER mine BEFORE INSERT ON muniment.events EXECUTE FUNCTION mine()",
        "CREATE RULE mine AS ON INSERT TO muniment.events DO INSTEAD NOTHING",
        "CREATE TABLE muniment.mine (n int)",
        "CREATE FUNCTION muniment.ensure_partition(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        "DROP TABLE muniment.events",
        "COPY muniment.events FROM '/dev/null'",
        "SET SESSION AUTHORIZATION postgres",
        "ALTER ROLE CURRENT_USER BYPASSRLS",
        "GRANT muniment_keeper TO CURRENT_USER",
    ],
)
def test_what_a_bound_role_is_refused(place: Secured, statement: str, who: str) -> None:
    """No lock, trigger, rule, table or right of its own stands in anybody's way."""
    done = place.run(statement, getattr(place, who))
    assert done.returncode != 0
    assert any(
        refusal in done.stderr
        for refusal in (
            "permission denied",
            "must be owner",
            "must be superuser",
            "must have admin",
        )
    ), done.stderr


@pytest.mark.parametrize("who", ["acme_reader", "acme_writer"])
@pytest.mark.parametrize(
    "change", ["DELETE FROM {}", "TRUNCATE {}", "INSERT INTO {} DEFAULT VALUES"]
)
@pytest.mark.parametrize(
    "table", ["postings", "actions", "index_state", "epochs", "tenant_bindings", "schema_version"]
)
def test_what_lies_beside_the_events_is_the_databases_own(
    place: Secured, table: str, change: str, who: str
) -> None:
    """The index, the bindings and the state are written by functions and administrators only."""
    done = place.run(change.format(f"muniment.{table}"), getattr(place, who))
    assert "permission denied" in done.stderr


def test_an_idempotency_key_of_another_tenant_is_refused(place: Secured) -> None:
    """A bound writer can't take the keys that another tenant will use."""
    done = place.run(
        "INSERT INTO muniment.idempotency_keys (tenant_id, key, event_id) "
        "VALUES ('globex', 'k9', gen_random_uuid())",
        place.acme_writer,
    )
    assert "row-level security" in done.stderr


def test_a_refusal_does_not_tell_what_is_there(place: Secured) -> None:
    """Writing another tenant's event fails alike, whether there is one of that id or not."""
    (there,) = place.answer("SELECT max(event_id::text) FROM muniment.events WHERE tenant_id > 'b'")
    answers = {
        place.run(
            f"{_INSERT} VALUES ('globex', '{event_id}', {_HASH}, '', '{{}}') {on_conflict}",
            place.acme_writer,
        ).stderr
        for event_id in (there, there[:-4] + "ffff")
        for on_conflict in ("", "ON CONFLICT DO NOTHING")
    }
    (answer,) = answers
    assert "row-level security" in answer


def test_no_event_is_written_as_erased(place: Secured) -> None:
    """Only the keeper makes an erased event, of one that was recorded."""
    (there,) = place.answer("SELECT max(event_id::text) FROM muniment.events")
    done = place.run(
        f"{_INSERT} VALUES ('acme', '{there[:-4]}ffff', {_HASH}, '', NULL)", place.acme_writer
    )
    assert "row-level security" in done.stderr


def test_a_term_that_no_index_holds_stops_the_index_for_nobody(own_place: Secured) -> None:
    """A bound writer may write such a term by hand; all other events are indexed all the same."""
    (there,) = own_place.answer("SELECT max(event_id::text) FROM muniment.events")
    random = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 400) n)"
    own_place.answer(
        f"{_INSERT} VALUES ('acme', '{there[:-4]}ffff', {_HASH}, "
        f"E'\\x1faction:' || {random} || E'\\x1factor:u1\\x1f', '{{}}')",
        own_place.acme_writer,
    )
    assert own_place.answer("SELECT muniment.index_pending(100)", own_place.acme_writer) == ["1"]


def test_a_type_of_the_callers_own_gets_no_rights(own_place: Secured) -> None:
    """The functions that run as the owner don't take a caller's type for the built-in one."""
    domains = "".join(
        f"CREATE DOMAIN pg_temp.{name} AS pg_catalog.{name} CHECK (pg_temp.evil());"
        for name in ("text", "name", "timestamptz", "regclass", "uuid", "xid8")
    )
    done = own_place.run(
        f"{_EVIL} {domains} SELECT muniment.ensure_partition('2021-07-01Z');"
        "SELECT muniment.index_pending(10);",
        own_place.acme_writer,
    )
    assert (done.returncode, done.stderr) == (0, "")
    seen = own_place.answer("SELECT DISTINCT tenant_id FROM muniment.events", own_place.acme_writer)
    assert seen == ["acme"]


def test_a_table_of_the_callers_own_is_not_read(own_place: Secured) -> None:
    """Nor do they take a caller's table for one of the catalog's: the triggers are all on."""
    own_place.answer(
        "CREATE TABLE pg_temp.pg_trigger (tgname name, tgrelid oid);"
        "SELECT muniment.ensure_partition('2021-07-01Z')",
        own_place.acme_writer,
    )
    always = own_place.answer(
        "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'muniment.events_2021_07'::regclass "
        "AND tgenabled = 'A'"
    )
    assert always == ["2"]


def test_a_writer_can_not_make_partitions_without_end(own_place: Secured) -> None:
    """Whatever moments it asks for: one for each month from 2020 to a year from now, no more."""
    own_place.answer(
        "SELECT count(muniment.ensure_partition(m)) FROM "
        "generate_series('1000-01-01Z', now() + interval '1 year', interval '15 days') AS m;"
        "SELECT muniment.ensure_partition('-infinity'), muniment.ensure_partition(NULL)",
        own_place.acme_writer,
    )
    too_many = own_place.answer(
        "SELECT count(*) > (extract(year FROM now()) - 2020 + 2) * 12 + 1 "
        "FROM pg_inherits WHERE inhparent = 'muniment.events'::regclass"
    )
    assert too_many == ["f"]
    for moment in ("9999-01-01", "infinity"):
        done = own_place.run(f"SELECT muniment.ensure_partition('{moment}')", own_place.acme_writer)
        assert "over a year ahead" in done.stderr


@pytest.mark.parametrize("change", ["UPDATE {} SET body = NULL", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize("table", ["muniment.events", "muniment.events_2021_05"])
@pytest.mark.parametrize("who", ["acme_reader", "acme_writer"])
def test_acting_as_a_replica(replicas: Secured, table: str, change: str, who: str) -> None:
    """It changes nothing, for who has no right to, nor for who was given it by mistake."""
    before = replicas.answer("SELECT count(body) FROM muniment.events")
    done = replicas.run(
        f"SET session_replication_role = replica; {change.format(table)}", getattr(replicas, who)
    )
    if who == "acme_reader":
        assert "permission denied for table" in done.stderr
    elif table == "muniment.events" or change.startswith("TRUNCATE"):
        assert "append-only" in done.stderr
    # By its name a partition shows nothing, so that there is nothing to refuse.
    assert replicas.answer("SELECT count(body) FROM muniment.events") == before
