from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import pymerkle
import pytest
import pytest_asyncio
import scitt_cose

from muniment import Actor, AuditLog
from muniment.anchoring import Anchoring
from muniment.anchors.base import Anchor, Prove
from muniment.checkpoint import open_checkpoint
from muniment.diagnostics import Diagnostics
from muniment.errors import (
    AnchorError,
    EventNotFound,
    InvalidConfig,
    InvalidQuery,
    NotPublished,
    StoreUnavailable,
    VerificationError,
)
from muniment.keys import KeyKind, SigningKey, write_key
from muniment.merkle import leaf_hash
from muniment.proofs import InclusionProof
from muniment.sequencer import Sequencer, SequencerOptions, make_sequencer, sequencer_options
from muniment.signing import Signer
from muniment.stores import open_store
from muniment.stores.base import Store
from muniment.stores.trees import Lag, Published, Tree, Trees
from muniment.testing import FaultyTrees
from muniment.testing.contract import sealed
from tests.scripted import LONG, until

_KEY = SigningKey.from_seed("example.com/audit", bytes(range(32)))
_KEYS = [_KEY.verifier.for_tenant("acme")]


@pytest_asyncio.fixture
async def store(log_url: str) -> AsyncIterator[Store]:
    """An open store without events."""
    store = open_store(log_url)
    await store.open()
    yield store
    await store.close()


@pytest_asyncio.fixture
async def signing_log(log_url: str, tmp_path: Path) -> AsyncIterator[AuditLog]:
    """A log that signs."""
    async with AuditLog.open(
        log_url,
        spool_dir=tmp_path / "spool",
        signing_keys=[_KEY],
        sequence_interval=0.02,
    ) as log:
        yield log


def _sequencer(store: Store, **options: Any) -> Sequencer:
    given = {"signer": Signer([_KEY]), "interval": 60.0, **options}
    return Sequencer(store.trees, diagnostics=Diagnostics(), **given)


async def _record(log: AuditLog, count: int, tenant_id: str = "acme") -> list[str]:
    """Record events; returns their ids."""
    receipts = [
        await log.record("login", tenant_id=tenant_id, actor=Actor.user(f"u{n}"))
        for n in range(count)
    ]
    await log.await_published(receipts[-1])
    return [receipt.event_id for receipt in receipts]


# --- rounds


async def test_a_round_integrates_and_publishes(store: Store) -> None:
    """After one, every event has its leaf, and every tenant a checkpoint that its key signed."""
    await store.append([sealed(n, tenant_id=("acme", "globex")[n % 2]) for n in range(9)])
    sequencer = _sequencer(store, batch=4)
    assert await sequencer.round() == 9
    for tenant_id, size in (("acme", 5), ("globex", 4)):
        published = await store.trees.checkpoint(tenant_id)
        assert published is not None
        key = _KEY.verifier.for_tenant(tenant_id)
        assert open_checkpoint(published.note, [key]).tree_size == size


async def test_a_tenant_without_new_events_gets_no_new_checkpoint(store: Store) -> None:
    """Of many tenants, a round signs for those that grew, and touches no other."""
    tenants = [f"tenant-{n:05}" for n in range(10_000)]
    for start in range(0, len(tenants), 2_000):
        part = tenants[start : start + 2_000]
        await store.append([sealed(1, tenant_id=tenant) for tenant in part])
    first = _sequencer(store)
    while await first.round():
        pass
    assert first.state().published == len(tenants)
    await store.append([sealed(2, tenant_id=tenant) for tenant in tenants[5:7]])
    second = _sequencer(store)
    assert await second.round() == 2
    assert await second.round() == 0
    assert second.state().published == 2
    for tenant, count in ((tenants[4], 1), (tenants[5], 2), (tenants[6], 2), (tenants[7], 1)):
        assert (await store.trees.row_counts(tenant)).checkpoints == count


async def test_without_a_key_trees_grow_and_nothing_is_published(store: Store) -> None:
    """A key that comes later signs for all there is by then."""
    await store.append([sealed(n) for n in range(3)])
    await _sequencer(store, signer=None).round()
    assert await store.trees.checkpoint("acme") is None
    await _sequencer(store).round()
    published = await store.trees.checkpoint("acme")
    assert published is not None
    assert published.tree_size == 3


async def test_while_keys_are_rotated_both_sign(store: Store) -> None:
    """Whoever knows the old key, or only the new one, takes the checkpoint."""
    new = SigningKey.from_seed(_KEY.name, bytes(32))
    await store.append([sealed(1)])
    await _sequencer(store, signer=Signer([_KEY, new])).round()
    published = await store.trees.checkpoint("acme")
    assert published is not None
    for key in (_KEY, new):
        open_checkpoint(published.note, [key.verifier.for_tenant("acme")])


async def test_of_two_sequencers_one_publishes(store: Store) -> None:
    """Two that have seen the same tree: one keeps its checkpoint, and neither fails."""
    await store.append([sealed(n, tenant_id=f"t{n}") for n in range(40)])
    both = [_sequencer(store), _sequencer(store)]
    await asyncio.gather(*(each.round() for each in both))
    await both[0].round()
    for n in range(40):
        assert (await store.trees.row_counts(f"t{n}")).checkpoints == 1
    assert sum(each.state().published for each in both) == 40


@pytest.mark.parametrize("stores", [False, True], ids=["failed", "failed but stored"])
@pytest.mark.parametrize("step", ["integrate", "unpublished", "publish", "lag"])
async def test_a_step_that_fails_is_made_up_for(store: Store, step: str, *, stores: bool) -> None:
    """The next round does what is left, whether the store did it or only said that it failed."""
    await store.append([sealed(n) for n in range(5)])
    trees = FaultyTrees(store.trees)
    (trees.fail_but_store if stores else trees.fail)(step, times=1)
    sequencer = Sequencer(trees, diagnostics=Diagnostics(), signer=Signer([_KEY]), batch=2)
    with pytest.raises(StoreUnavailable):
        await sequencer.round()
    await sequencer.round()
    published = await store.trees.checkpoint("acme")
    assert published is not None
    assert open_checkpoint(published.note, _KEYS).tree_size == 5
    assert (await store.trees.row_counts("acme")).tiles == 1


async def test_sequencing_goes_on_after_any_error(store: Store) -> None:
    """What a round raises is told in the state, and gone once a round succeeds."""
    trees = FaultyTrees(store.trees)
    trees.fail("integrate", times=1)
    sequencer = Sequencer(trees, diagnostics=Diagnostics(), interval=0.01)
    sequencer.start()
    await store.append([sealed(1)])
    await until(lambda: sequencer.state().integrated == 1 and sequencer.state().error is None)
    await sequencer.close()


class _LosesCancellation:
    """Trees that hang, and when they are cancelled say that they failed."""

    def __init__(self) -> None:
        self.is_called = asyncio.Event()

    async def why_not(self) -> str | None:
        """Hang."""
        self.is_called.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise StoreUnavailable from None
        return None


async def test_a_sequencer_closes_over_a_store_that_loses_its_cancellation() -> None:
    """A driver that turns it into an error of its own does not keep a log from closing."""
    trees = _LosesCancellation()
    sequencer = Sequencer(cast("Trees", trees), diagnostics=Diagnostics())
    sequencer.start()
    await trees.is_called.wait()
    await asyncio.wait_for(sequencer.close(catch_up=0), LONG)


class _Deaf:
    """Trees that hang, and do not heed being cancelled, until they are let go."""

    def __init__(self) -> None:
        self.is_called = asyncio.Event()
        self.let_go = asyncio.Event()
        self.has_ended = asyncio.Event()

    async def why_not(self) -> str | None:
        """Hang."""
        self.is_called.set()
        while not self.let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.let_go.wait()
        self.has_ended.set()
        return "it is closed"

    async def lag(self) -> Lag:
        """None."""
        return Lag()


async def test_a_sequencer_closes_over_a_store_that_never_answers() -> None:
    """Nobody waits for ever; what hangs ends with the store's own connections."""
    trees = _Deaf()
    sequencer = Sequencer(cast("Trees", trees), diagnostics=Diagnostics())
    sequencer.start()
    await trees.is_called.wait()
    await asyncio.wait_for(sequencer.close(catch_up=0), LONG)
    assert not trees.has_ended.is_set()
    trees.let_go.set()
    await trees.has_ended.wait()
    await asyncio.sleep(0)


# --- in a log


async def test_an_event_is_published_while_the_log_is_open(signing_log: AuditLog) -> None:
    """A receipt is enough to wait for the checkpoint that covers the event."""
    receipt = await signing_log.record("login", tenant_id="acme")
    published = await signing_log.await_published(receipt)
    assert open_checkpoint(published.note, _KEYS).tree_size == published.tree_size == 1


async def test_a_log_publishes_as_it_closes(log_url: str, tmp_path: Path, store: Store) -> None:
    """A program of one event need not wait: the last round is run by `close`."""
    async with AuditLog.open(
        log_url, spool_dir=tmp_path / "s", signing_keys=[_KEY], sequence_interval=600
    ) as log:
        await log.record("login", tenant_id="acme")
    assert await store.trees.checkpoint("acme") is not None


async def test_a_log_may_leave_it_to_others(log_url: str, tmp_path: Path) -> None:
    """With `sequence=False` events wait for the sequencer of another process."""
    async with AuditLog.open(log_url, spool_dir=tmp_path / "s", sequence=False) as log:
        receipt = await log.record("login", tenant_id="acme")
        with pytest.raises(NotPublished, match="it waits for its leaf, or is not in the store"):
            await log.await_published(receipt, within=2)
        with pytest.raises(NotPublished, match="waits for the sequencer"):
            await log.prove(receipt.event_id)
        assert (await log.stats())["sequencing"] == {}


async def test_without_a_key_the_remedy_is_named(log_url: str, tmp_path: Path) -> None:
    """What is missing for a checkpoint is a key, and `keygen` makes one."""
    async with AuditLog.open(log_url, spool_dir=tmp_path / "s") as log:
        await log.record("login", tenant_id="acme")
        with pytest.raises(NotPublished, match="muniment keygen"):
            await log.checkpoint("acme")


async def test_a_proof_is_checked_by_others(signing_log: AuditLog) -> None:
    """scitt-cose takes the proof of any event for true, and not for another event."""
    ids = await _record(signing_log, 13)
    for index, event_id in enumerate(ids):
        proof = await signing_log.prove(event_id)
        body = (await signing_log.body(event_id)).encode()
        checkpoint = open_checkpoint(proof.checkpoint, _KEYS)
        hashes, root = [each.hex() for each in proof.hashes], checkpoint.root_hash.hex()
        assert proof.leaf_index == index
        others = scitt_cose.verify_inclusion(body.hex(), index, checkpoint.tree_size, hashes, root)
        assert others
        assert not scitt_cose.verify_inclusion(
            (body + b" ").hex(), index, checkpoint.tree_size, hashes, root
        )


async def test_the_root_is_the_one_that_others_compute(signing_log: AuditLog) -> None:
    """pymerkle, over the bodies in their order, has the root that was signed."""
    ids = await _record(signing_log, 21)
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for event_id in ids:
        tree.append_entry((await signing_log.body(event_id)).encode())
    published = await signing_log.checkpoint("acme")
    assert tree.get_root(published.tree_size) == published.root_hash


async def test_consistency_is_proved_between_checkpoints(signing_log: AuditLog) -> None:
    """Of any earlier checkpoint with the newest, and scitt-cose says so too."""
    await _record(signing_log, 3)
    old = await signing_log.checkpoint("acme")
    await _record(signing_log, 6)
    new = await signing_log.checkpoint("acme")
    proof = await signing_log.prove_consistency(old)
    proof.verify(old.root_hash, new.root_hash)
    assert scitt_cose.verify_consistency(
        old.root_hash.hex(),
        new.root_hash.hex(),
        old.tree_size,
        new.tree_size,
        [each.hex() for each in proof.hashes],
    )
    with pytest.raises(VerificationError):
        proof.verify(new.root_hash, old.root_hash)


async def test_a_proof_can_be_made_later_by_anyone(
    signing_log: AuditLog, log_url: str, tmp_path: Path
) -> None:
    """The event's id is enough, for a log without keys in another process."""
    (event_id,) = await _record(signing_log, 1)
    async with AuditLog.open(log_url, spool_dir=tmp_path / "s", sequence=False) as other:
        proof = await other.prove(event_id)
        proof.verify((await other.body(event_id)).encode(), _KEYS)


async def test_no_proof_crosses_to_another_tenant(
    signing_log: AuditLog, log_url: str, tmp_path: Path
) -> None:
    """To a log bound to a tenant, another tenant's events and checkpoints do not exist."""
    receipt = await signing_log.record("login", tenant_id="acme")
    event_id = receipt.event_id
    async with AuditLog.open(log_url, tenant_id="globex", spool_dir=tmp_path / "s") as other:
        with pytest.raises(EventNotFound):
            await other.prove(event_id)
        with pytest.raises(InvalidQuery):
            await other.checkpoint("acme")
        with pytest.raises(InvalidQuery):
            await other.await_published(receipt)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [(9, None, "old: is 9"), (-1, 1, "old: is -1"), (1, 9, "new: is 9, but the tree has 2")],
)
async def test_sizes_that_never_were_are_refused(
    signing_log: AuditLog, old: int, new: int | None, named: str
) -> None:
    """The error names the argument, and the size that there is."""
    await _record(signing_log, 2)
    with pytest.raises(InvalidQuery, match=named):
        await signing_log.prove_consistency(old, new, tenant_id="acme")


async def test_a_checkpoint_is_of_one_tenant(signing_log: AuditLog) -> None:
    """Without a tenant there is none, and two of different tenants have nothing in common."""
    await _record(signing_log, 1)
    await _record(signing_log, 1, "globex")
    acme, globex = [await signing_log.checkpoint(tenant) for tenant in ("acme", "globex")]
    with pytest.raises(InvalidQuery, match="tenant_id"):
        await signing_log.prove_consistency(acme, globex)
    with pytest.raises(InvalidQuery, match="each tenant has a tree of its own"):
        await signing_log.checkpoint()


# --- proof texts


async def test_a_proof_survives_as_text(signing_log: AuditLog) -> None:
    """What `text` writes, `parse` reads, and it still proves the event."""
    ids = await _record(signing_log, 5)
    proof = await signing_log.prove(ids[2])
    again = InclusionProof.parse(proof.text())
    assert again == proof
    again.verify_leaf(leaf_hash((await signing_log.body(ids[2])).encode()), _KEYS)


def _proof_text(**changes: str) -> str:
    parts = {
        "heading": "c2sp.org/tlog-proof@v1\n",
        "index": "index 1\n",
        "hashes": base64.b64encode(bytes(32)).decode() + "\n",
        "gap": "\n",
        "note": "example.com/audit/acme\n2\n" + base64.b64encode(bytes(32)).decode() + "\n",
        **changes,
    }
    return "".join(parts.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"heading": "c2sp.org/tlog-proof@v2\n"},
        {"heading": ""},
        {"index": ""},
        {"index": "index\n"},
        {"index": "index 01\n"},
        {"index": "index -1\n"},
        {"index": "index 1e3\n"},
        {"index": f"index {'9' * 5000}\n"},
        {"index": "index \u0661\n"},
        {"hashes": "AAAA\n"},
        {"hashes": "not base64!\n"},
        {"hashes": (base64.b64encode(bytes(32)).decode() + "\n") * 64},
        {"gap": ""},
        {"note": "x" * 2_000_000},
    ],
    ids=str,
)
def test_a_malformed_proof_is_refused(changes: Mapping[str, str]) -> None:
    """Whatever is wrong with it, the error is a `VerificationError`."""
    with pytest.raises(VerificationError):
        InclusionProof.parse(_proof_text(**changes))


def test_what_a_proof_may_carry_besides_is_left_alone() -> None:
    """tlog-proof allows a line of extra data; ours have none, and do without that of others."""
    assert InclusionProof.parse(_proof_text(index="extra AAAA\nindex 1\n")).leaf_index == 1


# --- anchors


class _Place(Anchor):
    """Keeps what it gets, unless it is told to fail or to hang."""

    def __init__(self, name: str) -> None:
        super().__init__(name, timeout=LONG)
        self.kept: list[tuple[str, int]] = []
        self.is_down = False
        self.lines: str | None = None

    async def _put(self, checkpoint: Published, prove: Prove) -> str | None:
        if self.is_down:
            raise AnchorError(f"{self.name} is down")
        await prove(0, checkpoint.tree_size)
        self.kept.append((checkpoint.tenant_id, checkpoint.tree_size))
        return self.lines

    async def close(self) -> None:
        """Nothing is open."""


class _Hanging(_Place):
    async def _put(self, checkpoint: Published, prove: Prove) -> str | None:  # noqa: ARG002
        return await cast("asyncio.Future[str | None]", asyncio.get_running_loop().create_future())


async def _anchored(store: Store, *anchors: Anchor) -> tuple[Sequencer, Anchoring]:
    anchoring = Anchoring(store.trees, anchors, diagnostics=Diagnostics())
    anchoring.start()
    return _sequencer(store, anchoring=anchoring), anchoring


async def _rounds(sequencer: Sequencer, until_so: Callable[[], bool]) -> None:
    """Rounds until it is so: a mark that is just being set may hold up what one would integrate."""
    async with asyncio.timeout(LONG):
        while not until_so():
            await sequencer.round()
            await asyncio.sleep(0.002)


async def test_what_is_published_is_brought_to_the_anchors(store: Store) -> None:
    """Every anchor gets the checkpoint; its lines stand in the note, and it is marked."""
    place = _Place("a")
    place.lines = "\u2014 witness AAAA\n"
    sequencer, anchoring = await _anchored(store, place, _Place("b"))
    await store.append([sealed(1)])
    await sequencer.round()
    await anchoring.close()
    assert place.kept == [("acme", 1)]
    published = await store.trees.checkpoint("acme")
    assert published is not None
    assert published.note.endswith(place.lines)
    assert await store.trees.unanchored(9) == []


async def test_an_anchor_that_hangs_delays_no_other(store: Store) -> None:
    """The others get their checkpoints, and sequencing goes on; the mark is left for later."""
    place = _Place("a")
    sequencer, anchoring = await _anchored(store, _Hanging("hanging"), place)
    for n in range(2):
        await store.append([sealed(n)])
        await _rounds(sequencer, lambda: len(place.kept) == n + 1)  # noqa: B023 - waited for here
    assert len(await store.trees.unanchored(9)) == 1
    await anchoring.close(patience=0)


async def test_an_anchor_that_comes_back_gets_the_newest(store: Store) -> None:
    """While it is down the reason is told; of what it missed it gets each tenant's newest."""
    place = _Place("a")
    place.is_down = True
    sequencer, anchoring = await _anchored(store, place)
    for n in range(2):
        await store.append([sealed(n)])
        await _rounds(sequencer, lambda: sequencer.state().published == n + 1)  # noqa: B023
    await until(lambda: "a is down" in sequencer.state().unanchored.get("a", ""))
    place.is_down = False
    await until(lambda: place.kept == [("acme", 2)])
    await anchoring.close()


class _Forked(_Place):
    """Refuses one tenant's checkpoints, as a witness that saw another tree."""

    async def _put(self, checkpoint: Published, prove: Prove) -> str | None:
        if checkpoint.tenant_id == "acme":
            raise AnchorError("it was forked")
        return await super()._put(checkpoint, prove)


async def test_a_fork_that_an_anchor_refuses_is_told_until_it_is_resolved(store: Store) -> None:
    """The other tenants' checkpoints that it takes do not hide it."""
    place = _Forked("a")
    sequencer, anchoring = await _anchored(store, place)
    for n in range(3):
        await store.append([sealed(n), sealed(n, tenant_id="zeta")])
        await _rounds(sequencer, lambda: len(place.kept) == n + 1)  # noqa: B023 - waited for here
        assert sequencer.state().unanchored == {"a": "tenant 'acme': it was forked"}
    await anchoring.close()


async def test_a_tree_that_can_not_be_signed_keeps_no_other_from_it(store: Store) -> None:
    """It is told whose tree it is, and everybody else is published."""

    class _Choosy(Signer):
        def sign(self, tree: Tree) -> Published:
            if tree.tenant_id == "acme":
                raise VerificationError("it is damaged")
            return super().sign(tree)

    await store.append([sealed(1), sealed(2, tenant_id="zeta")])
    sequencer = _sequencer(store, signer=_Choosy([_KEY]))
    await sequencer.round()
    assert await store.trees.checkpoint("zeta") is not None
    assert sequencer.state().error == "tenant 'acme': it is damaged"


async def test_a_backlog_is_worked_off_without_a_pause(store: Store) -> None:
    """An interval is only waited for once there is nothing left to do."""
    await store.append([sealed(n) for n in range(9)])
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 600  # every look at it is past the interval
        return now

    sequencer = _sequencer(store, batch=2, interval=600.0, clock=clock)
    sequencer.start()
    await until(lambda: sequencer.state().integrated == 9)
    await sequencer.close()


async def test_a_round_that_does_not_end_is_lag() -> None:
    """When the store hangs, the figures do not stand still."""
    trees, now = _Deaf(), 0.0
    sequencer = Sequencer(
        cast("Trees", trees), diagnostics=Diagnostics(), interval=1.0, clock=lambda: now
    )
    sequencer.start()
    await trees.is_called.wait()
    assert sequencer.state().lag_seconds == 0
    now = 60.0
    assert sequencer.state().lag_seconds == 60
    trees.let_go.set()
    await sequencer.close()


async def test_what_a_dead_process_left_is_anchored(store: Store) -> None:
    """A checkpoint that was published and not anchored is found by the next sequencer."""
    await store.append([sealed(1)])
    await _sequencer(store).round()
    place = _Place("a")
    sequencer, anchoring = await _anchored(store, place)
    await sequencer.round()
    await anchoring.close()
    assert place.kept == [("acme", 1)]


# --- options


def test_keys_and_anchors_come_from_the_environment(tmp_path: Path) -> None:
    """Unless they are given."""
    write_key(tmp_path / "key", _KEY)
    environment = {
        "MUNIMENT_SIGNING_KEY_FILE": str(tmp_path / "key"),
        "MUNIMENT_ANCHORS": f"dir:{tmp_path} ",
    }
    found = sequencer_options(keys=None, anchors=None, interval=1.0, environment=environment)
    assert found == SequencerOptions(keys=(_KEY,), anchors=(f"dir:{tmp_path}",))
    given = sequencer_options(keys=[], anchors=[], interval=1.0, environment=environment)
    assert given == SequencerOptions()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"interval": 0.0}, "sequence_interval"),
        ({"anchors": ["ftp://x"]}, "anchors"),
        ({"keys": [_KEY, SigningKey.generate("other")]}, "signing_keys"),
        ({"keys": [SigningKey.generate("w", kind=KeyKind.WITNESS)]}, "signing_keys"),
        ({"environment": {"MUNIMENT_SIGNING_KEY": "secret"}}, "MUNIMENT_SIGNING_KEY"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], named: str) -> None:
    """Before anything begins."""
    given = {"keys": None, "anchors": None, "interval": 1.0, "environment": {}, **options}
    with pytest.raises(InvalidConfig, match=named):
        sequencer_options(**given)


async def test_a_sequencer_is_made_of_options(store: Store, tmp_path: Path) -> None:
    """With keys it signs, and with anchors it brings them there."""
    options = SequencerOptions(keys=(_KEY,), anchors=(f"dir:{tmp_path / 'anchor'}",))
    sequencer = make_sequencer(store.trees, options, diagnostics=Diagnostics())
    await store.append([sealed(1)])
    await sequencer.run_once()
    (file,) = [path for path in (tmp_path / "anchor").rglob("*") if path.is_file()]
    published = await store.trees.checkpoint("acme")
    assert published is not None
    assert file.read_text() == published.note


def test_the_state_is_ready_for_json(store: Store) -> None:
    """Figures are plain values."""
    figures = _sequencer(store).state().figures()
    assert msgspec.json.decode(msgspec.json.encode(figures)) == figures
