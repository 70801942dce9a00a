"""A log that sequences: what it publishes and proves while it is open, and as it closes."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from functools import partialmethod
from pathlib import Path

import pymerkle
import pytest
import pytest_asyncio
import scitt_cose

from muniment import Actor, AuditLog
from muniment.checkpoint import open_checkpoint
from muniment.errors import EventNotFound, InvalidQuery, NotPublished, VerificationError
from muniment.merkle import leaf_hash
from muniment.proofs import InclusionProof
from muniment.sequencer import Sequencer
from muniment.stores.base import Store
from tests.scripted import LONG
from tests.sequencing.sequencers import KEY, KEYS


@pytest_asyncio.fixture
async def signing_log(log_url: str, tmp_path: Path) -> AsyncIterator[AuditLog]:
    """A log that signs."""
    async with AuditLog.open(
        log_url,
        spool_dir=tmp_path / "spool",
        signing_keys=[KEY],
        sequence_interval=0.02,
    ) as log:
        yield log


async def _record(log: AuditLog, count: int, tenant_id: str = "acme") -> list[str]:
    """Record events; returns their ids."""
    receipts = [
        await log.record("login", tenant_id=tenant_id, actor=Actor.user(f"u{n}"))
        for n in range(count)
    ]
    await log.await_published(receipts[-1])
    return [receipt.event_id for receipt in receipts]


# --- in a log


async def test_an_event_is_published_while_the_log_is_open(signing_log: AuditLog) -> None:
    """A receipt is enough to wait for the checkpoint that covers the event."""
    receipt = await signing_log.record("login", tenant_id="acme")
    published = await signing_log.await_published(receipt)
    assert open_checkpoint(published.note, KEYS).tree_size == published.tree_size == 1


async def test_a_log_publishes_as_it_closes(
    log_url: str, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of one event need not wait: the last round is run by `close`."""
    patient = partialmethod(Sequencer.close, catch_up=LONG)
    monkeypatch.setattr(Sequencer, "close", patient)
    async with AuditLog.open(
        log_url, spool_dir=tmp_path / "s", signing_keys=[KEY], sequence_interval=600
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
        checkpoint = open_checkpoint(proof.checkpoint, KEYS)
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
        proof.verify((await other.body(event_id)).encode(), KEYS)


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
    again.verify_leaf(leaf_hash((await signing_log.body(ids[2])).encode()), KEYS)


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
