from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from muniment.checkpoint import open_checkpoint
from muniment.diagnostics import Diagnostics
from muniment.errors import InvalidConfig, StoreUnavailable, VerificationError
from muniment.keys import KeyKind, SigningKey, write_key
from muniment.sequencer import Sequencer, SequencerOptions, make_sequencer, sequencer_options
from muniment.signing import Signer
from muniment.stores.base import Store
from muniment.stores.trees import Lag, Published, Tree, Trees
from muniment.testing import FaultyTrees
from muniment.testing.contract import sealed
from tests.scripted import LONG, until
from tests.sequencing.sequencers import KEY, KEYS, sequencer_over

# --- rounds


async def test_a_round_integrates_and_publishes(store: Store) -> None:
    """After one, every event has its leaf, and every tenant a checkpoint that its key signed."""
    await store.append([sealed(n, tenant_id=("acme", "globex")[n % 2]) for n in range(9)])
    sequencer = sequencer_over(store, batch=4)
    assert await sequencer.round() == 9
    for tenant_id, size in (("acme", 5), ("globex", 4)):
        published = await store.trees.checkpoint(tenant_id)
        assert published is not None
        key = KEY.verifier.for_tenant(tenant_id)
        assert open_checkpoint(published.note, [key]).tree_size == size


async def test_a_tenant_without_new_events_gets_no_new_checkpoint(store: Store) -> None:
    """Of many tenants, a round signs for those that grew, and touches no other."""
    tenants = [f"tenant-{n:05}" for n in range(10_000)]
    for start in range(0, len(tenants), 2_000):
        part = tenants[start : start + 2_000]
        await store.append([sealed(1, tenant_id=tenant) for tenant in part])
    first = sequencer_over(store)
    while await first.round():
        pass
    assert first.state().published == len(tenants)
    await store.append([sealed(2, tenant_id=tenant) for tenant in tenants[5:7]])
    second = sequencer_over(store)
    assert await second.round() == 2
    assert await second.round() == 0
    assert second.state().published == 2
    for tenant, count in ((tenants[4], 1), (tenants[5], 2), (tenants[6], 2), (tenants[7], 1)):
        assert (await store.trees.row_counts(tenant)).checkpoints == count


async def test_without_a_key_trees_grow_and_nothing_is_published(store: Store) -> None:
    """A key that comes later signs for all there is by then."""
    await store.append([sealed(n) for n in range(3)])
    await sequencer_over(store, signer=None).round()
    assert await store.trees.checkpoint("acme") is None
    await sequencer_over(store).round()
    published = await store.trees.checkpoint("acme")
    assert published is not None
    assert published.tree_size == 3


async def test_while_keys_are_rotated_both_sign(store: Store) -> None:
    """Whoever knows the old key, or only the new one, takes the checkpoint."""
    new = SigningKey.from_seed(KEY.name, bytes(32))
    await store.append([sealed(1)])
    await sequencer_over(store, signer=Signer([KEY, new])).round()
    published = await store.trees.checkpoint("acme")
    assert published is not None
    for key in (KEY, new):
        open_checkpoint(published.note, [key.verifier.for_tenant("acme")])


async def test_of_two_sequencers_one_publishes(store: Store) -> None:
    """Two that have seen the same tree: one keeps its checkpoint, and neither fails."""
    await store.append([sealed(n, tenant_id=f"t{n}") for n in range(40)])
    both = [sequencer_over(store), sequencer_over(store)]
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
    sequencer = Sequencer(trees, diagnostics=Diagnostics(), signer=Signer([KEY]), batch=2)
    with pytest.raises(StoreUnavailable):
        await sequencer.round()
    await sequencer.round()
    published = await store.trees.checkpoint("acme")
    assert published is not None
    assert open_checkpoint(published.note, KEYS).tree_size == 5
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


# --- anchors


async def test_a_tree_that_can_not_be_signed_keeps_no_other_from_it(store: Store) -> None:
    """It is told whose tree it is, and everybody else is published."""

    class _Choosy(Signer):
        def sign(self, tree: Tree) -> Published:
            if tree.tenant_id == "acme":
                raise VerificationError("it is damaged")
            return super().sign(tree)

    await store.append([sealed(1), sealed(2, tenant_id="zeta")])
    sequencer = sequencer_over(store, signer=_Choosy([KEY]))
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

    sequencer = sequencer_over(store, batch=2, interval=600.0, clock=clock)
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


# --- options


def test_keys_and_anchors_come_from_the_environment(tmp_path: Path) -> None:
    """Unless they are given."""
    write_key(tmp_path / "key", KEY)
    environment = {
        "MUNIMENT_SIGNING_KEY_FILE": str(tmp_path / "key"),
        "MUNIMENT_ANCHORS": f"dir:{tmp_path} ",
    }
    found = sequencer_options(keys=None, anchors=None, interval=1.0, environment=environment)
    assert found == SequencerOptions(keys=(KEY,), anchors=(f"dir:{tmp_path}",))
    given = sequencer_options(keys=[], anchors=[], interval=1.0, environment=environment)
    assert given == SequencerOptions()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"interval": 0.0}, "sequence_interval"),
        ({"anchors": ["ftp://x"]}, "anchors"),
        ({"keys": [KEY, SigningKey.generate("other")]}, "signing_keys"),
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
    options = SequencerOptions(keys=(KEY,), anchors=(f"dir:{tmp_path / 'anchor'}",))
    sequencer = make_sequencer(store.trees, options, diagnostics=Diagnostics())
    await store.append([sealed(1)])
    await sequencer.run_once()
    (file,) = [path for path in (tmp_path / "anchor").rglob("*") if path.is_file()]
    published = await store.trees.checkpoint("acme")
    assert published is not None
    assert file.read_text() == published.note


def test_the_state_is_ready_for_json(store: Store) -> None:
    """Figures are plain values."""
    figures = sequencer_over(store).state().figures()
    assert msgspec.json.decode(msgspec.json.encode(figures)) == figures
