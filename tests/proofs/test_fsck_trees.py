"""fsck compares what is kept of trees with the leaves, and goes on where it was interrupted."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from muniment.errors import InvalidConfig
from muniment.fsck import Finding, FindingKind, Summary, fsck
from muniment.fsck.growth import bundles_due, tiles_due
from muniment.keys import SigningKey
from tests.proofs.live import extend
from tests.proofs.rewriting import rewrite
from tests.proofs.tampering import KEY, Tampered, opened
from tests.proofs.trails import LOG_KEY, WITNESS_KEY


async def _fsck(url: str, **options: Any) -> tuple[Summary, list[Finding]]:
    found: list[Finding] = []
    async with opened(url) as store:
        return await fsck(store, tell=found.append, **options), found


# --- trees and checkpoints


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
    rewrite(long_url, statement)
    _, found = await _fsck(long_url, keys=[LOG_KEY.verifier])
    assert any(each.kind == kind and message in each.message for each in found), found
    assert {each.tenant_id for each in found} == {"acme"}


async def test_an_altered_leaf_is_narrowed_down(long_url: str) -> None:
    """By the event that it no longer is the leaf of, and by checkpoints before and after."""
    rewrite(
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
    rewrite(long_url, "DELETE FROM muniment_tiles WHERE level = 0 AND tile_index = 1")
    _, found = await _fsck(long_url)
    assert [each.kind for each in found] == [FindingKind.TREE]
    assert "leaves 256 to 511, has 0 of 256" in found[0].message


async def test_a_bundle_that_names_another_event_is_found(long_url: str) -> None:
    """The hash of the leaf tells which event it is."""
    rewrite(
        long_url,
        "UPDATE muniment_bundles SET event_ids = CAST(substr(event_ids, 1, 160) || randomblob(16) "
        "|| substr(event_ids, 177) AS BLOB) WHERE bundle_index = 1",
    )
    _, (found,) = await _fsck(long_url)
    assert found.kind is FindingKind.TREE
    assert "bundle 1 names another event for leaf 266" in found.message


async def test_a_tree_that_is_gone_is_found(long_url: str) -> None:
    """The rows that are left over tell that there was one."""
    rewrite(long_url, "DELETE FROM muniment_trees")
    _, found = await _fsck(long_url)
    assert [(each.kind, each.tenant_id) for each in found] == [(FindingKind.TREE, "acme")]


async def test_a_tenant_that_only_looks_the_same_is_another(long_url: str) -> None:
    """As bytes it is no text to SQLite, and no search finds it."""
    rewrite(long_url, "UPDATE muniment_events SET tenant_id = CAST('acme' AS BLOB) WHERE seq = 9")
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
    rewrite(long_url, f"UPDATE muniment_sequencer_state SET seq = {seq}")
    summary, found = await _fsck(long_url)
    assert [each.kind for each in found] == [FindingKind.TREE]
    assert "was set back" in found[0].message
    assert structs.replace(summary, findings=0) == whole


async def test_a_position_that_was_set_back_hides_nothing(long_url: str) -> None:
    """What was done to the events behind it is found as ever."""
    rewrite(
        long_url,
        "UPDATE muniment_sequencer_state SET seq = 500",
        "DELETE FROM muniment_events WHERE seq = 550",
    )
    _, found = await _fsck(long_url)
    assert [each.kind for each in found] == [FindingKind.TREE, FindingKind.MISSING]
    assert found[1].leaf_index == 549


async def test_an_event_moved_behind_the_position_is_out_of_order(long_url: str) -> None:
    """The position is as it was, and is not said to be otherwise."""
    rewrite(long_url, "UPDATE muniment_events SET seq = 10000 WHERE seq = 100")
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


async def _interrupted(url: str, path: Path) -> None:
    """Begin to look at a log, and keep in that file how far it came."""
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(asyncio.CancelledError):
        await _fsck(url, resume=path, progress=lambda *_: task.cancel() and None)
    task.uncancel()


async def test_a_state_without_keys_is_not_gone_on_with_keys(long_url: str, tmp_path: Path) -> None:
    """Its trees were looked at without a signature verified, and would pass for signed."""
    path = tmp_path / "state"
    await _interrupted(long_url, path)
    with pytest.raises(InvalidConfig, match="with 0 keys"):
        await _fsck(long_url, resume=path, keys=[LOG_KEY.verifier])
    assert path.exists()


async def test_a_state_of_another_log_is_refused(
    long_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    """Nothing would fit together."""
    await extend(sqlite_url, 3)
    path = tmp_path / "state"
    await _interrupted(long_url, path)
    with pytest.raises(InvalidConfig, match="name another file"):
        await _fsck(sqlite_url, resume=path)
    path.write_text("{}")
    with pytest.raises(InvalidConfig, match="is no state of a run of fsck"):
        await _fsck(sqlite_url, resume=path)
