from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection
from pathlib import Path

import pytest

from muniment.anchors import CheckpointDirectory
from muniment.errors import InvalidConfig
from muniment.keys import SigningKey, VerifyingKey
from muniment.remembering import Finding, Watcher
from muniment.stores import open_store
from muniment.stores.trees import Trees
from muniment.tiles import Tile
from tests.proofs.live import extend
from tests.proofs.rewriting import rewrite
from tests.proofs.trails import LOG_KEY, OTHER_LOG_KEY, WITNESS_KEY
from tests.proofs.watching import kinds, look
from tests.servers.postgres import Postgres
from tests.stores.secured import Secured, secured

_ORIGIN = LOG_KEY.for_tenant("acme").name


@pytest.fixture
def memory(tmp_path: Path) -> CheckpointDirectory:
    """A memory in which nothing is remembered yet."""
    return CheckpointDirectory(tmp_path / "memory")


async def test_a_log_that_grew_holds_what_is_remembered(
    log_url: str, memory: CheckpointDirectory
) -> None:
    """Nothing is found, and each newest checkpoint is remembered."""
    for count in (3, 300, 1):
        await extend(log_url, count)
        assert await look(log_url, memory) == []
    assert memory.sizes(_ORIGIN) == [3, 303, 304]


async def test_a_rollback_is_found(
    sqlite_url: str, memory: CheckpointDirectory, tmp_path: Path
) -> None:
    """An older copy of the database is put in its place."""
    await extend(sqlite_url, 3)
    older = tmp_path / "older.db"
    shutil.copy(sqlite_url.removeprefix("sqlite:///"), older)
    await extend(sqlite_url, 4)
    assert await look(sqlite_url, memory) == []
    findings = await look(f"sqlite:///{older}", memory)
    assert kinds(findings) == [("acme", "rollback", 7, 3)]
    assert "has a tree size of 3; one of 7 is remembered" in findings[0].problem


async def test_a_newest_checkpoint_that_was_removed_is_a_rollback(
    sqlite_url: str, memory: CheckpointDirectory
) -> None:
    """The older one is offered as the newest, the tree being as it was."""
    await extend(sqlite_url, 3)
    await extend(sqlite_url, 4)
    assert await look(sqlite_url, memory) == []
    rewrite(
        sqlite_url,
        "DELETE FROM muniment_checkpoints WHERE tree_size = 7",
        "UPDATE muniment_trees SET published_size = 3",
    )
    assert kinds(await look(sqlite_url, memory)) == [("acme", "rollback", 7, 3)]


@pytest.mark.parametrize(
    ("forked", "problem"), [(5, "are signed, with different roots"), (9, "of 5")]
)
async def test_a_fork_that_the_true_key_signed_is_found(
    sqlite_url: str, memory: CheckpointDirectory, tmp_path: Path, forked: int, problem: str
) -> None:
    """The tree was built anew over other events: of the same size, or of a larger one."""
    await extend(sqlite_url, 5)
    assert await look(sqlite_url, memory) == []
    other = f"sqlite:///{tmp_path / 'other.db'}"
    await extend(other, forked, action="invoice.delete")
    findings = await look(other, memory)
    assert kinds(findings) == [("acme", "fork", 5, forked)]
    assert problem in findings[0].problem
    assert memory.sizes(_ORIGIN) == [5]


async def test_of_many_that_a_fork_contradicts_the_smallest_is_named(
    sqlite_url: str, memory: CheckpointDirectory, tmp_path: Path
) -> None:
    """That is where history was altered, or before."""
    for _ in range(4):
        await extend(sqlite_url, 2)
        await look(sqlite_url, memory)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    await extend(other, 9)
    findings = await look(other, memory)
    assert kinds(findings) == [("acme", "fork", 2, 9)]
    assert "3 more" in findings[0].problem


async def test_a_tenant_that_is_gone_is_found(
    log_url: str, memory: CheckpointDirectory, tmp_path: Path
) -> None:
    """By name, and if all are looked at; a tenant of whom nothing is remembered is not missed."""
    await extend(log_url, 3)
    await extend(log_url, 2, tenant_id="beta")
    assert await look(log_url, memory) == []
    other = f"sqlite:///{tmp_path / 'other.db'}"
    await extend(other, 1, tenant_id="gamma")
    gone = ("acme", "disappeared", 3, 0)
    assert kinds(await look(other, memory)) == [gone, ("beta", "disappeared", 2, 0)]
    assert kinds(await look(other, memory, ["acme"])) == [gone]


async def test_a_tenant_that_nobody_knows_is_missing_only_if_asked_for(
    log_url: str, memory: CheckpointDirectory
) -> None:
    """A misspelt tenant is not silently well; one that has no checkpoint yet is no problem."""
    await extend(log_url, 3, key=None)
    assert await look(log_url, memory) == []
    assert kinds(await look(log_url, memory, ["acme"])) == [("acme", "missing", None, None)]


@pytest.mark.parametrize("key", [SigningKey.from_seed(LOG_KEY.name, b"\6" * 32), OTHER_LOG_KEY])
async def test_a_checkpoint_of_another_key_is_found(
    log_url: str, memory: CheckpointDirectory, key: SigningKey
) -> None:
    """Under the same name or another: without the log's signature it says nothing."""
    await extend(log_url, 3, key=key)
    assert kinds(await look(log_url, memory)) == [("acme", "signature", None, 3)]
    assert memory.sizes(_ORIGIN) == []


async def test_an_altered_note_is_found(sqlite_url: str, memory: CheckpointDirectory) -> None:
    """Its signature does not hold."""
    await extend(sqlite_url, 3)
    rewrite(
        sqlite_url, "UPDATE muniment_checkpoints SET note = replace(note, char(10)||3, char(10)||2)"
    )
    assert kinds(await look(sqlite_url, memory)) == [("acme", "signature", None, 3)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE muniment_checkpoints SET root_hash = zeroblob(32)",
        "UPDATE muniment_tiles SET hashes = zeroblob(length(hashes))",
        "UPDATE muniment_tiles SET hashes = substr(hashes, 1, 32)",
        "DELETE FROM muniment_tiles",
    ],
)
async def test_a_checkpoint_that_is_not_its_trees_is_found(
    sqlite_url: str, memory: CheckpointDirectory, statement: str
) -> None:
    """A column, a tile, or a part of one was altered: the signed root is not the tree's."""
    await extend(sqlite_url, 3)
    rewrite(sqlite_url, statement)
    assert kinds(await look(sqlite_url, memory)) == [("acme", "tree", None, 3)]


async def test_a_log_goes_on_under_a_new_key(log_url: str, memory: CheckpointDirectory) -> None:
    """With both keys given, old and new checkpoints hold; with the new one alone, it is said."""
    new = SigningKey.from_seed(LOG_KEY.name, b"\7" * 32)
    await extend(log_url, 3)
    await look(log_url, memory)
    await extend(log_url, 3, key=new)
    assert await look(log_url, memory, keys=[LOG_KEY.verifier, new.verifier]) == []
    findings = await look(log_url, memory, keys=[new.verifier])
    assert kinds(findings) == [("acme", "memory", 3, None)]


async def test_a_tenants_own_key_is_enough(log_url: str, memory: CheckpointDirectory) -> None:
    """An auditor of one tenant is given that tenant's key."""
    await extend(log_url, 3)
    keys = [LOG_KEY.for_tenant("acme").verifier]
    assert await look(log_url, memory, ["acme"], keys=keys) == []
    assert memory.sizes(_ORIGIN) == [3]


@pytest.mark.parametrize("keys", [[], [WITNESS_KEY.verifier]])
def test_a_watcher_needs_the_logs_key(
    memory: CheckpointDirectory, keys: list[VerifyingKey]
) -> None:
    """Without it nothing can be told from a forgery."""
    with pytest.raises(InvalidConfig):
        Watcher(open_store("sqlite:///x.db").trees, memory, keys)


class _Counting:
    """A store's trees, of which it is counted how often tiles are read."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees
        self.reads = 0
        self.checkpoint = trees.checkpoint
        self.trees = trees.trees

    async def tiles(self, tenant_id: str, wanted: Collection[Tile]) -> dict[Tile, bytes]:
        self.reads += 1
        return await self._trees.tiles(tenant_id, wanted)


async def test_a_watcher_that_stays_proves_once(
    sqlite_url: str, memory: CheckpointDirectory
) -> None:
    """However much is remembered: what it proved is proven by what it proved last."""
    published = [await extend(sqlite_url, 1) for _ in range(5)]
    for each in published[:-1]:
        assert each is not None
        memory.keep(each.note)
    store = open_store(sqlite_url)
    await store.open()
    trees = _Counting(store.trees)
    watcher = Watcher(trees, memory, [LOG_KEY.verifier])  # type: ignore[arg-type]
    read: list[list[tuple[str, int]]] = []
    original = memory.read

    def counted(origin: str, tree_size: int) -> str:
        read[-1].append((origin, tree_size))
        return original(origin, tree_size)

    memory.read = counted  # type: ignore[method-assign]
    for _ in range(2):
        read.append([])
        assert await watcher.look() == []
    await store.close()
    assert [len(each) for each in read] == [4, 0]
    assert watcher.looked_at == 1


async def test_a_watcher_that_stays_knows_what_it_saw(
    sqlite_url: str, memory: CheckpointDirectory, tmp_path: Path
) -> None:
    """Even if the memory is lost under it, a rollback is found."""
    older = tmp_path / "older.db"
    await extend(sqlite_url, 3)
    shutil.copy(sqlite_url.removeprefix("sqlite:///"), older)
    await extend(sqlite_url, 3)
    newer, old = open_store(sqlite_url), open_store(f"sqlite:///{older}")
    await newer.open()
    await old.open()
    watcher = Watcher(newer.trees, memory, [LOG_KEY.verifier])
    assert await watcher.look() == []
    shutil.rmtree(memory.path)
    watcher._trees = old.trees
    for _ in range(2):
        assert kinds(await watcher.look()) == [("acme", "rollback", 6, 3)]
    await newer.close()
    await old.close()


def test_an_auditor_that_may_only_read_can_watch(
    postgres_server: Postgres, memory: CheckpointDirectory
) -> None:
    """A role bound to all tenants sees all of them, one bound to a tenant that one."""

    async def watched(place: Secured) -> list[list[Finding]]:
        for tenant_id in ("acme", "globex"):
            await extend(place.url(), 3, tenant_id=tenant_id)
        everything = await look(place.url(place.all_reader), memory)
        assert len(memory.origins()) == 2
        reader = place.url(place.acme_reader)
        return [everything] + [await look(reader, memory, [t]) for t in ("acme", "globex")]

    with secured(postgres_server) as place:
        everything, own, hidden = asyncio.run(watched(place))
    assert (everything, own) == ([], [])
    assert [(f.tenant_id, f.kind) for f in hidden] == [("globex", "disappeared")]


async def test_a_tenants_own_key_sees_it_disappear(
    sqlite_url: str, memory: CheckpointDirectory
) -> None:
    """With `--all` too, though nothing else tells that there was such a tenant."""
    await extend(sqlite_url, 3)
    own = [LOG_KEY.verifier.for_tenant("acme")]
    assert await look(sqlite_url, memory, keys=own) == []
    rewrite(sqlite_url, "DELETE FROM muniment_checkpoints", "DELETE FROM muniment_trees")
    assert kinds(await look(sqlite_url, memory, keys=own)) == [("acme", "disappeared", 3, 0)]
