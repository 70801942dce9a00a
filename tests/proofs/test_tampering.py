"""What a superuser changes with SQL is found, and by whom; and what nobody can find is told so.

`docs/threat-model.md` has the same as a table.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from muniment.errors import VerificationError
from muniment.evidence import verify_evidence
from muniment.fsck import Finding, FindingKind
from tests.proofs.tampering import KEY, Tampered, forged, opened


def _told(found: list[Finding]) -> list[tuple[str, str, str | None]]:
    return sorted((f.kind.value, f.tenant_id, f.event_id) for f in found)


async def test_an_untouched_log_is_clean(copy: Tampered, tmp_path: Path) -> None:
    """Nothing is found by anybody, and all was looked at."""
    summary, found = await copy.fsck()
    assert found == []
    assert (summary.tenants, summary.events, summary.leaves) == (3, 60, 60)
    assert (summary.erased, summary.pending) == (0, 0)
    assert summary.signatures == summary.checkpoints >= 6
    assert await copy.watch(tmp_path / "memory") == []
    assert await copy.verify(tmp_path) is None


async def test_an_edited_body_is_found(copy: Tampered, tmp_path: Path) -> None:
    """The event is named; evidence of it can't be made. The tree is as it was."""
    event_id = copy.honest.events["acme"][7]
    copy.edit_body(event_id)
    _, found = await copy.fsck()
    assert _told(found) == [("body", "acme", event_id)]
    assert f"event {event_id}: its body was edited" in found[0].message
    assert found[0].leaf_index == 7
    assert await copy.watch(tmp_path / "memory") == []
    assert await copy.verify(tmp_path) is not None


async def test_an_event_edited_with_its_leaf_hash_is_found(copy: Tampered, tmp_path: Path) -> None:
    """All of its columns agree with its body, but its leaf is another."""
    event_id = copy.honest.events["acme"][7]
    copy.edit_event(event_id)
    _, found = await copy.fsck()
    assert _told(found) == [("body", "acme", event_id)]
    assert "its body and its leaf_hash column were edited; leaf 7" in found[0].message
    assert await copy.watch(tmp_path / "memory") == []
    assert await copy.verify(tmp_path) is not None


async def test_an_event_edited_with_its_leaf_is_narrowed_down(
    copy: Tampered, tmp_path: Path
) -> None:
    """All agrees but what grew out of the leaf: the checkpoints tell between which leaves it is."""
    copy.edit_event(copy.honest.events["acme"][7])
    copy.edit_leaf(7, copy.honest.events["acme"][7])
    _, found = await copy.fsck()
    checkpoint, edge = found
    assert {each.tenant_id for each in found} == {"acme"}
    last = (checkpoint.tree_size or 0) - 1
    assert checkpoint.kind is FindingKind.CHECKPOINT
    assert f"one of leaves 0 to {last} was altered" in checkpoint.message
    assert edge.kind is FindingKind.TREE
    assert [seen.kind for seen in await copy.watch(tmp_path / "memory")] == ["tree"]
    assert await copy.verify(tmp_path) is not None


@pytest.mark.parametrize("column", ["terms = replace(terms, 'u', 'w')", "leaf_hash = {other}"])
async def test_an_edited_column_is_found(copy: Tampered, tmp_path: Path, column: str) -> None:
    """The body was not touched; fsck names the event, and what its column should say."""
    event_id = copy.honest.events["acme"][7]
    other = copy._bytes(b"\1" * 32)
    copy.run(
        f"UPDATE {{events}} SET {column.format(other=other)} WHERE event_id = {{e}}", e=event_id
    )
    _, found = await copy.fsck()
    assert _told(found) == [("column", "acme", event_id)]
    assert column.partition(" ")[0] in found[0].message
    assert await copy.watch(tmp_path / "memory") == []


async def test_an_event_deleted_in_the_middle_is_found(copy: Tampered, tmp_path: Path) -> None:
    """It is named by the leaf that it was; evidence can't be made."""
    event_id = copy.honest.events["acme"][11]
    copy.delete([event_id])
    _, found = await copy.fsck()
    assert _told(found) == [("missing", "acme", event_id)]
    assert found[0].message == f"event {event_id}: it is gone, and was leaf 11"
    assert await copy.watch(tmp_path / "memory") == []
    assert event_id in (await copy.verify(tmp_path) or "")


async def test_the_newest_ten_deleted_are_found(copy: Tampered, tmp_path: Path) -> None:
    """Each is named, though no event comes behind them."""
    gone = copy.honest.events["acme"][-10:]
    copy.delete(gone)
    _, found = await copy.fsck()
    assert _told(found) == [("missing", "acme", event_id) for event_id in sorted(gone)]
    assert await copy.watch(tmp_path / "memory") == []
    assert gone[0] in (await copy.verify(tmp_path) or "")


async def test_two_swapped_positions_are_found(copy: Tampered, tmp_path: Path) -> None:
    """Both are named, and none of those between. Evidence is in the order of leaves, and holds."""
    one, other = copy.honest.events["acme"][3], copy.honest.events["acme"][20]
    copy.swap_positions(one, other)
    _, found = await copy.fsck()
    ordered = [each for each in found if each.kind is FindingKind.ORDER]
    assert _told(ordered) == sorted(("order", "acme", event_id) for event_id in (one, other))
    assert {each.kind for each in found} <= {FindingKind.ORDER, FindingKind.TREE}
    assert await copy.watch(tmp_path / "memory") == []
    assert await copy.verify(tmp_path) is None


async def test_a_sequencer_set_back_is_one_finding(copy: Tampered) -> None:
    """Its events have their leaves, so that nothing is said of them."""
    copy.set_sequencer_back(copy.honest.events["acme"][4])
    summary, found = await copy.fsck()
    assert [each.kind for each in found] == ["tree"]
    assert "was set back" in found[0].message
    assert (summary.events, summary.pending) == (60, 0)


async def test_two_swapped_bodies_are_found(copy: Tampered, tmp_path: Path) -> None:
    """Both are named."""
    one, other = copy.honest.events["acme"][3], copy.honest.events["acme"][20]
    copy.swap_bodies(one, other)
    _, found = await copy.fsck()
    assert _told(found) == sorted(("body", "acme", event_id) for event_id in (one, other))
    assert other in next(each.message for each in found if each.event_id == one)
    assert await copy.watch(tmp_path / "memory") == []
    assert await copy.verify(tmp_path) is not None


@pytest.mark.parametrize("behind", [None, 12])
async def test_a_forged_event_is_found(copy: Tampered, tmp_path: Path, behind: int | None) -> None:
    """It is whole, and stands in the middle or before all others; fsck names it.

    It is in no tree, so evidence does not have it.
    """
    sealed = forged("acme")
    before = None if behind is None else copy.honest.events["acme"][behind]
    copy.insert(sealed, behind=before)
    _, found = await copy.fsck()
    assert _told(found) == [("no leaf", "acme", sealed.event_id)]
    assert "it was slipped in" in found[0].message
    assert await copy.watch(tmp_path / "memory") == []
    assert await copy.verify(tmp_path) is None


@pytest.mark.parametrize("copy", ["postgres"], indirect=True)
async def test_a_forged_event_in_the_future_is_found(copy: Tampered) -> None:
    """PostgreSQL: with a transaction id that is not given yet it would wait for a leaf for ever."""
    sealed = forged("acme")
    copy.insert(sealed, behind=copy.honest.events["acme"][12])
    copy.run("UPDATE {events} SET xid = '99999999999' WHERE event_id = {e}", e=sealed.event_id)
    _, found = await copy.fsck()
    assert _told(found) == [("no leaf", "acme", sealed.event_id)]


async def test_an_event_moved_to_another_tenant_is_found(copy: Tampered, tmp_path: Path) -> None:
    """One finding names the event and both tenants."""
    event_id = copy.honest.events["acme"][9]
    copy.move(event_id, "globex")
    _, found = await copy.fsck()
    assert _told(found) == [("moved", "acme", event_id)]
    assert "moved to tenant 'globex'; here it is leaf 9" in found[0].message
    assert await copy.watch(tmp_path / "memory") == []
    assert event_id in (await copy.verify(tmp_path) or "")


async def test_to_a_single_tenant_a_moved_event_is_gone_or_slipped_in(copy: Tampered) -> None:
    """Whoever looks at one tenant only sees its side of it."""
    event_id = copy.honest.events["acme"][9]
    copy.move(event_id, "globex")
    _, found = await copy.fsck(tenant_id="acme")
    assert _told(found) == [("missing", "acme", event_id)]
    _, found = await copy.fsck(tenant_id="globex")
    assert _told(found) == [("no leaf", "globex", event_id)]
    assert "the body 'acme'" in found[0].message


async def test_a_checkpoint_rolled_back_is_seen_by_who_remembers(
    copy: Tampered, tmp_path: Path
) -> None:
    """To fsck it looks as if the newest were not signed yet: `watch` and `verify` know better."""
    copy.roll_checkpoint_back()
    _, found = await copy.fsck()
    assert found == []
    (seen,) = await copy.watch(tmp_path / "memory")
    assert (seen.tenant_id, seen.kind) == ("acme", "rollback")
    assert await copy.verify(tmp_path) is None
    why = await copy.verify(tmp_path, copy.honest.newest_note)
    assert "the log was rolled back" in (why or "")


async def test_a_checkpoint_replaced_by_an_older_one_is_found(
    copy: Tampered, tmp_path: Path
) -> None:
    """Its note is of another size than its column: fsck and `watch` name the tenant."""
    copy.replace_checkpoint()
    _, found = await copy.fsck()
    assert _told(found) == [("checkpoint", "acme", None)]
    assert found[0].tree_size == copy.honest.size
    assert f"its note is of {copy.honest.older_size} leaves" in found[0].message
    kinds = {seen.kind for seen in await copy.watch(tmp_path / "memory")}
    assert kinds == {"rollback", "tree"}
    assert await copy.verify(tmp_path) is not None


async def test_a_tree_rebuilt_and_signed_with_the_true_key_is_a_fork(
    copy: Tampered, tmp_path: Path
) -> None:
    """In itself all agrees, so fsck is clean. Who remembers a checkpoint sees the fork.

    `watch` does, and `verify` with an older checkpoint; evidence from before shows it as well.
    """
    before = tmp_path / "before"
    before.mkdir()
    assert await copy.verify(before) is None
    copy.edit_event(copy.honest.events["acme"][7])
    assert {f.kind for f in (await copy.fsck())[1]} == {FindingKind.BODY}
    await copy.rebuild()
    _, found = await copy.fsck()
    assert found == []
    seen = {each.tenant_id: each for each in await copy.watch(tmp_path / "memory")}
    assert {tenant_id: each.kind for tenant_id, each in seen.items()} == {"acme": "fork"}
    why = await copy.verify(tmp_path, copy.honest.older_note)
    assert f"the first {copy.honest.older_size} leaves are not those of the older checkpoint" in (
        why or ""
    )
    async with opened(copy.url) as store:
        newest = await store.trees.checkpoint("acme")
    assert newest is not None
    with (before / "acme.jsonl").open("rb") as file, pytest.raises(VerificationError, match="fork"):
        verify_evidence(file, [KEY.verifier], old_checkpoint=newest.note)
