"""Who may see and change what in PostgreSQL, asked in SQL written by hand, through psql."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from muniment import Actor, AuditLog
from muniment.errors import EventRefused, StoreError
from muniment.event_id import make_event_id
from tests.servers.postgres import Postgres
from tests.stores.secured import LATER_PARTITION, OLD, Secured, secured

_PARENT = "muniment.events"
_PARTITION = f"muniment.{LATER_PARTITION}"
_SECURED_TABLES = ("events", "postings", "actions", "idempotency_keys")
_ALL_EVENTS = "SELECT md5(string_agg(e::text, ',' ORDER BY e::text)) FROM muniment.events e"
_AN_ID = make_event_id(OLD, bytes(8))
_CHANGES = (
    "UPDATE {table} SET body = '{{}}'",
    "UPDATE {table} SET body = NULL",
    "UPDATE {table} SET tenant_id = 'acme'",
    "DELETE FROM {table}",
    "TRUNCATE {table}",
)


@pytest.fixture(scope="module")
def place(postgres_server: Postgres) -> Iterator[Secured]:
    """A database that no test of this module changes."""
    with secured(postgres_server) as place:
        yield place


@pytest.fixture
def own_place(postgres_server: Postgres) -> Iterator[Secured]:
    """A database that the test may change."""
    with secured(postgres_server) as place:
        yield place


@pytest.mark.parametrize("table", _SECURED_TABLES)
def test_a_bound_reader_sees_its_tenant_only(place: Secured, table: str) -> None:
    """Without any condition, a query gives the rows of the role's own tenant."""
    tenants = place.answer(f"SELECT DISTINCT tenant_id FROM muniment.{table}", place.acme_reader)
    assert tenants == ["acme"]


@pytest.mark.parametrize("table", _SECURED_TABLES)
def test_a_reader_of_all_tenants_sees_them(place: Secured, table: str) -> None:
    """A role bound to NULL sees every tenant."""
    tenants = place.answer(
        f"SELECT DISTINCT tenant_id FROM muniment.{table} ORDER BY 1", place.all_reader
    )
    assert tenants == ["acme", "globex"]


@pytest.mark.parametrize("table", _SECURED_TABLES)
def test_a_role_without_a_binding_sees_nothing(place: Secured, table: str) -> None:
    """Membership alone opens nothing: what is not bound is denied."""
    seen = place.answer(f"SELECT count(*) FROM muniment.{table}", place.unbound_writer)
    assert seen == ["0"]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM muniment.events WHERE tenant_id = 'globex'",
        "SELECT count(*) FROM muniment.events WHERE body LIKE '%globex%' OR tenant_id <> 'acme'",
        "SELECT count(*) FROM muniment.postings WHERE term = 'action:globex.secret'",
        "SELECT count(*) FROM muniment.events, muniment.actions a WHERE a.tenant_id > 'b'",
        "SELECT count(*) FROM (SELECT (e).tenant_id AS t FROM muniment.events e) x WHERE t > 'b'",
    ],
)
def test_no_query_reaches_another_tenant(place: Secured, query: str) -> None:
    """Conditions, joins and terms of the index find nothing of another tenant's."""
    assert place.answer(query, place.acme_reader) == ["0"]


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        (f"SELECT * FROM {_PARTITION}", "permission denied"),
        ("SELECT * FROM muniment.postings_2021_05", "permission denied"),
        ("SET row_security = off; SELECT * FROM muniment.events", "row-level security policy"),
        ("DELETE FROM muniment.tenant_bindings", "permission denied"),
        ("SELECT muniment.bind_role(current_user, NULL)", "permission denied"),
        ("SELECT muniment.index_pending(1)", "permission denied"),
        ("SELECT muniment.ensure_partition(now())", "permission denied"),
        (f"ALTER TABLE {_PARTITION} DISABLE ROW LEVEL SECURITY", "must be owner"),
        (f"ALTER TABLE {_PARENT} DISABLE TRIGGER ALL", "must be owner"),
        ("CREATE POLICY mine ON muniment.events USING (true)", "must be owner"),
        ("SET ROLE muniment_keeper", "permission denied"),
        ("SET session_replication_role = replica", "permission denied"),
    ],
)
def test_a_reader_can_not_get_around_it(place: Secured, statement: str, refusal: str) -> None:
    """Partitions by name, settings, policies and functions are all refused."""
    assert refusal in place.run(statement, place.acme_reader).stderr


def test_setting_another_role_keeps_the_binding(place: Secured) -> None:
    """A role that takes on the group it is a member of still sees its own tenant only."""
    seen = place.answer(
        "SET ROLE muniment_reader; SELECT DISTINCT tenant_id FROM muniment.events",
        place.acme_reader,
    )
    assert seen == ["acme"]


@pytest.mark.parametrize("table", [_PARENT, _PARTITION])
@pytest.mark.parametrize("change", _CHANGES)
@pytest.mark.parametrize("who", ["acme_writer", "acme_reader", "all_reader"])
def test_writers_and_readers_change_nothing(
    place: Secured, who: str, change: str, table: str
) -> None:
    """UPDATE, DELETE and TRUNCATE are no right of theirs, on the parent or a partition by name."""
    done = place.run(change.format(table=table), getattr(place, who))
    assert "permission denied" in done.stderr


@pytest.mark.parametrize("table", [_PARENT, _PARTITION])
@pytest.mark.parametrize("change", _CHANGES)
@pytest.mark.parametrize("setting", ["origin", "replica"])
def test_not_even_a_superuser_changes_an_event(
    place: Secured, setting: str, change: str, table: str
) -> None:
    """The triggers refuse every role but the keeper, under session_replication_role too."""
    done = place.run(f"SET session_replication_role = {setting}; {change.format(table=table)}")
    assert "append-only" in done.stderr


@pytest.mark.parametrize("table", [_PARENT, _PARTITION])
@pytest.mark.parametrize("change", _CHANGES)
def test_the_owner_changes_no_event(place: Secured, change: str, table: str) -> None:
    """Who installed the schema is refused, or sees nothing to change in a partition by name."""
    before = place.answer(_ALL_EVENTS)
    done = place.run(change.format(table=table), place.installer)
    assert "append-only" in done.stderr or table == _PARTITION
    assert place.answer(_ALL_EVENTS) == before


@pytest.mark.parametrize("tenant", ["globex", "Acme", "acme ", ""])
def test_a_bound_writer_can_not_write_another_tenants_event(place: Secured, tenant: str) -> None:
    """An INSERT by hand under another tenant's name is refused."""
    done = place.run(
        "INSERT INTO muniment.events (tenant_id, event_id, leaf_hash, terms, body) VALUES "
        f"('{tenant}', '{_AN_ID}', decode(repeat('00', 32), 'hex'), '', '{{}}')",
        place.acme_writer,
    )
    assert "violates" in done.stderr


@pytest.mark.parametrize("column", ["xid", "seq", "epoch"])
def test_a_writer_can_not_choose_its_place_in_the_order(place: Secured, column: str) -> None:
    """What orders events by recording is the database's to give."""
    done = place.run(
        f"INSERT INTO muniment.events (tenant_id, event_id, leaf_hash, terms, body, {column}) "
        f"VALUES ('acme', '{_AN_ID}', decode(repeat('00', 32), 'hex'), '', '{{}}', '1')",
        place.acme_writer,
    )
    assert "permission denied" in done.stderr


def test_a_writer_can_not_write_to_a_partition_by_name(place: Secured) -> None:
    """Partitions carry no rights of their own."""
    done = place.run(f"INSERT INTO {_PARTITION} DEFAULT VALUES", place.acme_writer)
    assert "permission denied" in done.stderr


def test_partitions_made_later_are_as_secure(own_place: Secured) -> None:
    """A partition that a writer had made is forced under row security, without a right on it."""
    own_place.answer(
        "SELECT muniment.ensure_partition('2022-08-01Z')",
        own_place.acme_writer,
    )
    secure = own_place.answer(
        "SELECT relrowsecurity AND relforcerowsecurity, relowner = "
        f"'{own_place.installer}'::regrole, "
        "(SELECT count(*) FROM pg_trigger WHERE tgrelid = c.oid AND tgenabled = 'A') "
        "FROM pg_class c WHERE oid = 'muniment.events_2022_08'::regclass"
    )
    assert secure == ["t|t|2"]
    stranger = own_place.run("SELECT * FROM muniment.events_2022_08", own_place.acme_writer)
    assert "permission denied" in stranger.stderr


def test_the_keeper_erases_a_body_and_rewrites_nothing(own_place: Secured) -> None:
    """The keeper may set a body to NULL; the leaf hash stays, and no other text takes its place."""
    erased = own_place.run(
        "UPDATE muniment.events SET body = NULL WHERE tenant_id = 'acme'", own_place.keeper
    )
    assert "append-only" in erased.stderr  # a member of keeper must take the role on
    own_place.answer(
        "SET ROLE muniment_keeper; UPDATE muniment.events SET body = NULL WHERE tenant_id = 'acme'",
        own_place.keeper,
    )
    left = own_place.answer("SELECT DISTINCT tenant_id FROM muniment.events WHERE body IS NOT NULL")
    assert left == ["globex"]
    changed = own_place.run(
        "SET ROLE muniment_keeper; UPDATE muniment.events SET body = '{}'", own_place.keeper
    )
    assert "append-only" in changed.stderr


async def test_a_bound_writer_records_and_finds(own_place: Secured) -> None:
    """An ordinary application role, no superuser, records and searches within its tenant."""
    async with AuditLog.open(own_place.url(own_place.acme_writer)) as log:
        receipt = await log.record("invoice.delete", tenant_id="acme", actor=Actor.user("u1"))
        assert receipt.durable_in == "store"
        page = await log.search()
        assert {event.tenant_id for event in page.events} == {"acme"}
        assert page.events[0].action == "invoice.delete"


async def test_a_bound_writer_is_refused_through_the_log(own_place: Secured) -> None:
    """Another tenant's event is refused for its own sake; the neighbours are stored."""
    async with AuditLog.open(own_place.url(own_place.acme_writer)) as log:
        with pytest.raises(EventRefused):
            await log.record("login", tenant_id="globex")
        assert (await log.record("login", tenant_id="acme")).durable_in == "store"


async def test_a_reader_can_not_record(own_place: Secured) -> None:
    """A role without the right to write gets a clear error from `record_in`."""
    async with AuditLog.open(own_place.url(own_place.acme_writer)) as log:
        connection = await asyncpg.connect(own_place.url(own_place.acme_reader))
        try:
            async with connection.transaction():
                with pytest.raises(StoreError, match="permission denied"):
                    await log.record_in(connection, "login", tenant_id="acme")
        finally:
            await connection.close()


@pytest.fixture
async def application(own_place: Secured) -> AsyncIterator[tuple[AuditLog, AsyncEngine]]:
    """A log and an engine of an application's own role, which has a table of its own."""
    role = own_place.acme_writer
    own_place.answer(f"CREATE TABLE invoices (id int); GRANT ALL ON invoices TO {role}")
    engine = create_async_engine(
        own_place.url(role).replace("postgresql://", "postgresql+asyncpg://")
    )
    async with AuditLog.open(own_place.url(role)) as log:
        yield log, engine
    await engine.dispose()


_INVOICE = text("INSERT INTO invoices VALUES (1)")


async def test_an_application_role_records_in_its_transactions(
    application: tuple[AuditLog, AsyncEngine], own_place: Secured
) -> None:
    """Commit and rollback take its data and its events together, those of far-off months too."""
    log, engine = application
    async with AsyncSession(engine) as session:
        await session.execute(_INVOICE)
        await log.record_in(session, "kept", tenant_id="acme", idempotency_key="k9")
        await log.record_in(
            session, "kept.old", tenant_id="acme", occurred_at=OLD.replace(year=2022)
        )
        await session.commit()
        await session.execute(_INVOICE)
        await log.record_in(session, "gone", tenant_id="acme")
        await session.rollback()
    found = [event.action for event in (await log.search(action=["kept*", "gone"])).events]
    assert (found, own_place.answer("SELECT count(*) FROM invoices")) == (
        ["kept", "kept.old"],
        ["1"],
    )


async def test_an_application_role_can_not_record_anothers_event(
    application: tuple[AuditLog, AsyncEngine], own_place: Secured
) -> None:
    """Its transaction fails as a whole: no data without its event."""
    log, engine = application
    async with AsyncSession(engine) as session:
        await session.execute(_INVOICE)
        with pytest.raises(EventRefused, match="row-level security"):
            await log.record_in(session, "login", tenant_id="globex")
        with pytest.raises(DBAPIError):
            await session.execute(_INVOICE)
        await session.rollback()
    assert own_place.answer("SELECT count(*) FROM invoices") == ["0"]


async def test_a_key_that_stands_for_no_event(own_place: Secured) -> None:
    """A writer that spoils a key of its own tenant is told so when it uses it; others go on."""
    own_place.answer(
        "INSERT INTO muniment.idempotency_keys (tenant_id, key, event_id) "
        f"VALUES ('acme', 'spoilt', '{_AN_ID}')",
        own_place.acme_writer,
    )
    async with AuditLog.open(own_place.url(own_place.acme_writer)) as log:
        with pytest.raises(EventRefused, match="key stands for event"):
            await log.record("login", tenant_id="acme", idempotency_key="spoilt")
        assert (await log.record("login", tenant_id="acme")).durable_in == "store"
