from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from muniment import AuditLog, Event
from muniment.errors import InvalidConfig
from muniment.fsck import Finding, FindingKind, Summary, fsck
from muniment.fsck.examining import Examined
from muniment.fsck.growth import bundles_due, tiles_due
from muniment.fsck.matching import Matcher, Stray, Strays, Trail
from muniment.keys import SigningKey
from muniment.merkle import leaf_hash
from muniment.stores.trees import BUNDLE_WIDTH, Bundle
from muniment.tiles import Tile
from tests.proofs.live import extend
from tests.proofs.tampering import KEY, Tampered, forged, opened
from tests.proofs.trails import LOG_KEY, WITNESS_KEY
from tests.servers.postgres import Postgres
from tests.stores.secured import Secured, secured


async def _fsck(url: str, **options: Any) -> tuple[Summary, list[Finding]]:
    found: list[Finding] = []
    async with opened(url) as store:
        return await fsck(store, tell=found.append, **options), found


# --- what is no tampering


async def test_a_log_that_went_on_is_clean(copy: Tampered) -> None:
    """Events that were recorded behind the others have leaves too."""
    async with AuditLog.open(copy.url, signing_keys=[KEY], sequence_interval=0.02) as log:
        await log.await_published(await log.record("login", tenant_id="acme"))
    summary, found = await copy.fsck()
    assert found == []
    assert (summary.events, summary.leaves) == (61, 61)


async def test_an_erased_event_is_erased_not_tampered_with(copy: Tampered) -> None:
    """Its leaf is as it was, so it is counted and no more."""
    copy.erase(copy.honest.events["acme"][5])
    summary, found = await copy.fsck()
    assert found == []
    assert summary.erased == 1


async def test_events_without_a_leaf_yet_are_pending(log_url: str) -> None:
    """Nobody has sequenced them, so nobody can miss their leaves."""
    await extend(log_url, 3)
    async with AuditLog.open(log_url, sequence=False) as log:
        await log.record("login", tenant_id="acme")
    summary, found = await _fsck(log_url)
    assert found == []
    assert (summary.events, summary.pending) == (3, 1)


async def test_an_empty_log_is_clean(log_url: str) -> None:
    """Nothing is looked at, and nothing is wrong."""
    async with AuditLog.open(log_url, sequence=False):
        pass
    assert await _fsck(log_url) == (Summary(), [])


async def test_an_event_that_waits_for_its_leaf_is_compared_too(sqlite_url: str) -> None:
    """With its own column: there is no leaf to compare it with."""
    await extend(sqlite_url, 3)
    async with AuditLog.open(sqlite_url, sequence=False) as log:
        receipt = await log.record("login", tenant_id="acme")
    _tamper(sqlite_url, "UPDATE muniment_events SET body = body || ' ' WHERE seq = 4")
    _, (found,) = await _fsck(sqlite_url)
    assert (found.kind, found.event_id) == (FindingKind.BODY, receipt.event_id)


async def test_a_log_that_is_recorded_in_meanwhile_is_clean(log_url: str) -> None:
    """What comes while fsck looks is looked at the next time."""
    async with AuditLog.open(log_url, signing_keys=[KEY], sequence_interval=0.01) as log:

        async def record() -> None:
            for n in range(40):
                await log.record_many(
                    [Event(action="login", tenant_id=f"t{(n + i) % 5}") for i in range(20)]
                )

        recording = asyncio.create_task(record())
        rounds = 0
        while not recording.done() or rounds < 3:
            _, found = await _fsck(log_url, keys=[KEY.verifier])
            assert found == []
            rounds += 1
        await recording


def test_a_reader_of_all_tenants_is_enough(postgres_server: Postgres) -> None:
    """Nothing is written; one tenant's reader looks at that tenant."""

    async def look(place: Secured) -> None:
        async with AuditLog.open(place.url(), signing_keys=[KEY], sequence_interval=0.02) as log:
            await log.await_published(await log.record("login", tenant_id="acme"))
            await log.await_published(await log.record("login", tenant_id="globex"))
        keys = [KEY.verifier]
        summary, found = await _fsck(place.url(place.all_reader), keys=keys)
        assert (summary.tenants, summary.events, found) == (2, 10, [])
        summary, found = await _fsck(place.url(place.acme_reader), tenant_id="acme", keys=keys)
        assert (summary.tenants, summary.events, found) == (1, 5, [])

    with secured(postgres_server) as place:
        asyncio.run(look(place))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (lambda body: body.replace(b'":', b'": ', 1), "is not canonical"),
        (lambda _: b"nothing of the kind", "is no event"),
    ],
)
async def test_a_body_that_no_muniment_recorded_is_found(
    log_url: str, body: Callable[[bytes], bytes], problem: str
) -> None:
    """Its leaf is its own, so it was recorded so: by a writer with SQL of its own."""
    sealed = forged("acme")
    other = body(sealed.body)
    async with opened(log_url) as store:
        await store.append([structs.replace(sealed, body=other, leaf_hash=leaf_hash(other))])
    await extend(log_url, 1)
    _, (found,) = await _fsck(log_url)
    assert (found.kind, found.event_id) == (FindingKind.FORM, sealed.event_id)
    assert problem in found.message


# --- trees and checkpoints


def _tamper(url: str, *statements: str) -> None:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        for (name,) in rows.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            assert connection.execute(statement).rowcount
    connection.close()


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite log of 600 events of one tenant, under checkpoints of 100, 300 and 600 leaves."""
    path = tmp_path_factory.mktemp("long") / "audit.db"

    async def build() -> None:
        for count in (100, 200, 300):
            await extend(f"sqlite:///{path}", count)

    asyncio.run(build())
    return path


@pytest.fixture
def long_url(long_log: Path, tmp_path: Path) -> str:
    """The URL of a copy of it."""
    path = tmp_path / "copy.db"
    shutil.copy(long_log, path)
    return f"sqlite:///{path}"


_ZEROED = "CAST(substr(hashes, 1, 320) || zeroblob(32) || substr(hashes, 353) AS BLOB)"


@pytest.mark.parametrize(
    ("statement", "kind", "message"),
    [
        (
            "UPDATE muniment_trees SET edge = zeroblob(length(edge))",
            "tree",
            "the edge that its tree of 600 leaves grows from is not that of its leaves",
        ),
        (
            "UPDATE muniment_tiles SET hashes = zeroblob(64) WHERE level = 1",
            "tree",
            "tile 0 of level 1 is not made of the leaves below it: what it says of leaves 0 to 255",
        ),
        (
            (
                "UPDATE muniment_tiles SET hashes = "
                "CAST(substr(hashes, 1, 32) || zeroblob(32) AS BLOB) WHERE level = 1"
            ),
            "tree",
            "of leaves 256 to 511 is another hash",
        ),
        ("DELETE FROM muniment_tiles WHERE level = 1", "tree", "of leaves 0 to 255 is another"),
        (
            "INSERT INTO muniment_tiles VALUES ('acme', 5, 3, zeroblob(32))",
            "tree",
            "a tree of 600 leaves has 4 tiles, and 5 are stored",
        ),
        (
            (
                "UPDATE muniment_tiles SET hashes = CAST(hashes || zeroblob(32) AS BLOB) "
                "WHERE level = 0 AND tile_index = 2"
            ),
            "tree",
            "behind the end of its tree of 600 leaves there is more: tile 2 of level 0",
        ),
        (
            (
                "UPDATE muniment_bundles SET event_ids = CAST(event_ids || zeroblob(16) AS BLOB) "
                "WHERE bundle_index = 2"
            ),
            "tree",
            "there is more: bundle 2",
        ),
        (
            "UPDATE muniment_bundles SET first_seq = 258 WHERE bundle_index = 1",
            "tree",
            "bundle 1 gives another position for its first event",
        ),
        (
            "INSERT INTO muniment_bundles VALUES ('acme', 7, 9, zeroblob(16))",
            "tree",
            "has 3 bundles, and 4 are stored",
        ),
        (
            "UPDATE muniment_checkpoints SET root_hash = zeroblob(32) WHERE tree_size = 300",
            "checkpoint",
            "the checkpoint of 300 leaves has another root than its tree: the checkpoint was",
        ),
        (
            "DELETE FROM muniment_checkpoints WHERE tree_size = 600",
            "checkpoint",
            "its newest checkpoint should have 600 leaves, and has 300",
        ),
        ("DELETE FROM muniment_checkpoints", "checkpoint", "is gone, as are all others"),
        (
            (
                "UPDATE muniment_checkpoints SET note = "
                "replace(note, 'audit.example', 'other.example') WHERE tree_size = 300"
            ),
            "checkpoint",
            "the checkpoint of 300 leaves does not hold: ",
        ),
        (
            "UPDATE muniment_checkpoints SET note = 'nothing' WHERE tree_size = 100",
            "checkpoint",
            "the checkpoint of 100 leaves does not hold: ",
        ),
        ("UPDATE muniment_trees SET published_size = 300", "checkpoint", "should have 300"),
    ],
)
async def test_what_is_kept_of_a_tree_is_compared_with_its_leaves(
    long_url: str, statement: str, kind: str, message: str
) -> None:
    """Whatever of it was altered is named."""
    _tamper(long_url, statement)
    _, found = await _fsck(long_url, keys=[LOG_KEY.verifier])
    assert any(each.kind == kind and message in each.message for each in found), found
    assert {each.tenant_id for each in found} == {"acme"}


async def test_an_altered_leaf_is_narrowed_down(long_url: str) -> None:
    """By the event that it no longer is the leaf of, and by checkpoints before and after."""
    _tamper(
        long_url,
        f"UPDATE muniment_tiles SET hashes = {_ZEROED.replace('zeroblob(32)', 'randomblob(32)')} "
        "WHERE level = 0 AND tile_index = 1",
    )
    _, found = await _fsck(long_url)
    body, tile, checkpoint, edge = found
    assert (body.kind, body.leaf_index) == (FindingKind.BODY, 266)
    assert "leaves 256 to 511" in tile.message
    assert "one of leaves 100 to 299 was altered (1 more differ)" in checkpoint.message
    assert "edge" in edge.message


async def test_a_tile_that_is_gone_ends_the_look_at_its_tree(long_url: str) -> None:
    """Without it no root can be told; events are still compared with their own columns."""
    _tamper(long_url, "DELETE FROM muniment_tiles WHERE level = 0 AND tile_index = 1")
    _, found = await _fsck(long_url)
    assert [each.kind for each in found] == [FindingKind.TREE]
    assert "leaves 256 to 511, has 0 of 256" in found[0].message


async def test_a_bundle_that_names_another_event_is_found(long_url: str) -> None:
    """The hash of the leaf tells which event it is."""
    _tamper(
        long_url,
        "UPDATE muniment_bundles SET event_ids = CAST(substr(event_ids, 1, 160) || randomblob(16) "
        "|| substr(event_ids, 177) AS BLOB) WHERE bundle_index = 1",
    )
    _, (found,) = await _fsck(long_url)
    assert found.kind is FindingKind.TREE
    assert "bundle 1 names another event for leaf 266" in found.message


async def test_a_tree_that_is_gone_is_found(long_url: str) -> None:
    """The rows that are left over tell that there was one."""
    _tamper(long_url, "DELETE FROM muniment_trees")
    _, found = await _fsck(long_url)
    assert [(each.kind, each.tenant_id) for each in found] == [(FindingKind.TREE, "acme")]


async def test_a_tenant_that_only_looks_the_same_is_another(long_url: str) -> None:
    """As bytes it is no text to SQLite, and no search finds it."""
    _tamper(long_url, "UPDATE muniment_events SET tenant_id = CAST('acme' AS BLOB) WHERE seq = 9")
    _, (found,) = await _fsck(long_url)
    assert (found.kind, found.leaf_index) == (FindingKind.MOVED, 8)
    assert "b'acme'" in found.message


async def test_another_key_is_no_signature(long_url: str) -> None:
    """A checkpoint that no given key signed does not hold; without keys none is verified."""
    other = SigningKey.from_seed(LOG_KEY.name, b"\6" * 32)
    summary, found = await _fsck(long_url, keys=[other.verifier])
    assert [each.kind for each in found] == [FindingKind.CHECKPOINT] * 3
    assert summary.signatures == 0
    summary, found = await _fsck(long_url)
    assert (summary.checkpoints, summary.signatures, found) == (3, 0, [])


async def test_a_witness_key_is_refused(long_url: str) -> None:
    """It signs no log."""
    with pytest.raises(InvalidConfig, match="witness"):
        await _fsck(long_url, keys=[WITNESS_KEY.verifier])


@pytest.mark.parametrize("seq", [0, 1, 300, 590, 599])
async def test_a_position_that_was_set_back_is_one_finding(long_url: str, seq: int) -> None:
    """The events are where they were, so they are compared as ever: only the position differs."""
    whole, _ = await _fsck(long_url)
    _tamper(long_url, f"UPDATE muniment_sequencer_state SET seq = {seq}")
    summary, found = await _fsck(long_url)
    assert [each.kind for each in found] == [FindingKind.TREE]
    assert "was set back" in found[0].message
    assert structs.replace(summary, findings=0) == whole


async def test_a_position_that_was_set_back_hides_nothing(long_url: str) -> None:
    """What was done to the events behind it is found as ever."""
    _tamper(
        long_url,
        "UPDATE muniment_sequencer_state SET seq = 500",
        "DELETE FROM muniment_events WHERE seq = 550",
    )
    _, found = await _fsck(long_url)
    assert [each.kind for each in found] == [FindingKind.TREE, FindingKind.MISSING]
    assert found[1].leaf_index == 549


async def test_an_event_moved_behind_the_position_is_out_of_order(long_url: str) -> None:
    """The position is as it was, and is not said to be otherwise."""
    _tamper(long_url, "UPDATE muniment_events SET seq = 10000 WHERE seq = 100")
    _, found = await _fsck(long_url)
    assert [(each.kind, each.leaf_index) for each in found] == [(FindingKind.ORDER, 99)]


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600, 65_536, 65_793])
def test_the_rows_of_a_tree_are_counted(size: int) -> None:
    """As many tiles as hold the hashes of each level, as many bundles as tiles of level 0."""
    tiles, count = 0, size
    while count:
        tiles += (count + 255) // 256
        count //= 256
    assert (tiles_due(size), bundles_due(size)) == (tiles, (size + 255) // 256)


# --- going on


async def test_a_run_that_is_interrupted_again_and_again_ends_the_same(
    copy: Tampered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it stops, the next one tells all that was found before, and goes on there."""
    monkeypatch.setattr("muniment.fsck.running._MOST_EVENTS", 32)
    ids = copy.honest.events["acme"]
    copy.edit_body(ids[2])
    copy.delete(ids[5:7])
    copy.move(ids[9], "globex")
    whole, all_found = await copy.fsck()
    path = tmp_path / "state"
    task = asyncio.current_task()
    assert task is not None
    calls = 0

    def interrupt(count: int, _done: int, _total: int) -> None:
        nonlocal calls
        calls += bool(count)
        if calls == 2:
            task.cancel()

    interrupted = 0
    while True:
        calls, found = 0, list[Finding]()
        try:
            async with opened(copy.url) as store:
                summary = await fsck(
                    store, keys=[KEY.verifier], tell=found.append, progress=interrupt, resume=path
                )
            break
        except asyncio.CancelledError:
            task.uncancel()
            interrupted += 1
    assert interrupted > 2
    assert summary == whole
    assert found == all_found
    assert not path.exists()


async def test_a_state_without_keys_is_not_gone_on_with_keys(long_url: str, tmp_path: Path) -> None:
    """Its trees were looked at without a signature verified, and would pass for signed."""
    path = tmp_path / "state"
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(asyncio.CancelledError):
        await _fsck(long_url, resume=path, progress=lambda *_: task.cancel() and None)
    task.uncancel()
    with pytest.raises(InvalidConfig, match="with 0 keys"):
        await _fsck(long_url, resume=path, keys=[LOG_KEY.verifier])
    assert path.exists()


async def test_a_state_of_another_log_is_refused(
    long_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    """Nothing would fit together."""
    await extend(sqlite_url, 3)
    path = tmp_path / "state"
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(asyncio.CancelledError):
        await _fsck(long_url, resume=path, progress=lambda *_: task.cancel() and None)
    task.uncancel()
    with pytest.raises(InvalidConfig, match="name another file"):
        await _fsck(sqlite_url, resume=path)
    path.write_text("{}")
    with pytest.raises(InvalidConfig, match="is no state of a run of fsck"):
        await _fsck(sqlite_url, resume=path)


# --- matching


class _Leaves:
    """The leaves of one tenant, as a store would give them."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.events = {number: _event(number) for number in numbers}

    async def bundles(self, _tenant_id: str, first: int, count: int) -> list[Bundle]:
        found = []
        for index in range(first, first + count):
            part = list(self.events.values())[index * BUNDLE_WIDTH : (index + 1) * BUNDLE_WIDTH]
            if part:
                ids = b"".join(event.event_id for event in part)
                found.append(Bundle(index=index, first_position=part[0].position, event_ids=ids))
        return found

    async def tiles(self, _tenant_id: str, wanted: Collection[Tile]) -> dict[Tile, bytes]:
        everyone = list(self.events.values())
        found = {}
        for level, index in wanted:
            part = everyone[index * BUNDLE_WIDTH : (index + 1) * BUNDLE_WIDTH]
            if part:
                found[level, index] = b"".join(event.leaf_hash for event in part)
        return found

    async def leaf_index(self, _tenant_id: str, event_id: str) -> int | None:
        number = int.from_bytes(UUID(event_id).bytes, "big")
        return list(self.events).index(number) if number in self.events else None


def _event(number: int) -> Examined:
    event_id = number.to_bytes(16, "big")
    leaf = leaf_hash(event_id)
    return Examined(str(number), "acme", event_id, leaf, leaf)


async def _matched(
    leaves: Sequence[int], events: Sequence[int], page: int
) -> tuple[set[int], set[int], set[int]]:
    """The numbers of the leaves without an event, the events without a leaf, and the displaced."""
    told: list[Finding] = []
    strays = Strays()
    trails: dict[str, Trail] = {}
    matcher = Matcher(_Leaves(leaves), trails, strays, told.append)  # type: ignore[arg-type]
    for start in range(0, len(events), page):
        await matcher.take("acme", [_event(number) for number in events[start : start + page]])
    await matcher.finish("acme", len(leaves))
    displaced = [f for f in told if f.kind is FindingKind.ORDER]
    # A bundle gives the position of its first event; here a position is a number.
    assert all(f.kind in {FindingKind.ORDER, FindingKind.TREE} for f in told)
    ids = [UUID(f.event_id or "").int for f in displaced]
    assert len(set(ids)) == len(ids)

    def numbers(strays: Sequence[Stray]) -> set[int]:
        found = [int.from_bytes(stray.event_id, "big") for stray in strays]
        assert len(set(found)) == len(found)
        return set(found)

    return numbers(strays.leaves), numbers(strays.events), set(ids)


@settings(deadline=None)
@given(data=st.data())
async def test_what_was_removed_and_slipped_in_is_found_and_nothing_else(
    data: st.DataObject,
) -> None:
    """However much it is, wherever it stands, and however events come in pages."""
    count = data.draw(st.integers(1, 700))
    page = data.draw(st.sampled_from([1, 3, 64, 200, 1000]))
    leaves = range(1, count + 1)
    starts = data.draw(st.lists(st.tuples(st.integers(1, count), st.integers(1, 90)), max_size=4))
    gone = {n for start, length in starts for n in range(start, start + length)} & set(leaves)
    events = [n for n in leaves if n not in gone]
    forged = data.draw(st.lists(st.integers(0, len(events)), max_size=90))
    for n, place in enumerate(forged):
        events.insert(place, 100_000 + n)
    missing, extra, displaced = await _matched(leaves, events, page)
    assert missing == gone
    assert extra == {100_000 + n for n in range(len(forged))}
    assert displaced == set()


@settings(deadline=None)
@given(data=st.data())
async def test_two_that_were_swapped_are_found_and_nothing_else(data: st.DataObject) -> None:
    """However far they are apart."""
    count = data.draw(st.integers(4, 3000))
    one, other = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=2, max_size=2)))
    page = data.draw(st.sampled_from([1, 7, 64, 500]))
    events = list(range(1, count + 1))
    events[one], events[other] = events[other], events[one]
    missing, extra, displaced = await _matched(range(1, count + 1), events, page)
    assert (missing, extra) == (set(), set())
    if other - one > 2:
        assert displaced == {one + 1, other + 1}
    else:
        # Of two or three in the wrong order, it can't be told which are out of place.
        assert displaced


async def test_a_large_part_that_is_gone_has_no_follow_ups() -> None:
    """Behind it events are leaves again."""
    leaves = range(1, 20_001)
    events = [n for n in leaves if not 5_000 <= n < 15_000]
    missing, extra, displaced = await _matched(leaves, events, 500)
    assert missing == set(range(5_000, 15_000))
    assert (extra, displaced) == (set(), set())
