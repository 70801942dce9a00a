from __future__ import annotations

import pytest

from muniment import merkle
from muniment.checkpoint import Checkpoint, sign_checkpoint
from muniment.errors import VerificationError
from muniment.proofs import InclusionProof
from tests.proofs.evidence_files import KEY, body, note_of, root_of

_ACME, _BETA = KEY.for_tenant("acme").verifier, KEY.for_tenant("beta").verifier


def _proof(leaf: bytes, *, tenant_id: str) -> InclusionProof:
    """That the body is the one leaf of this tenant's log."""
    return InclusionProof(leaf_index=0, hashes=(), checkpoint=note_of([leaf], tenant_id=tenant_id))


@pytest.mark.parametrize("tenant_id", ["acme", "a/b", "é"])
def test_an_event_is_proved_by_its_tenant_s_log(tenant_id: str) -> None:
    """The tenant id stands percent-encoded in the origin."""
    leaf = body(0, tenant_id=tenant_id)
    proof = _proof(leaf, tenant_id=tenant_id)
    assert proof.verify(leaf, [KEY.for_tenant(tenant_id).verifier]).tree_size == 1


def test_an_event_in_another_tenant_s_log_is_not_proved() -> None:
    """Whoever knows the keys of several logs is not told that one tenant's event is another's."""
    leaf = body(0)
    proof = _proof(leaf, tenant_id="beta")
    with pytest.raises(VerificationError, match="audit/beta, and the event of tenant acme"):
        proof.verify(leaf, [_ACME, _BETA])


def test_an_origin_that_is_given_is_the_caller_s_word() -> None:
    """A log need not be named after its tenant where the caller says which one it is."""
    leaf = body(0)
    key = KEY.for_tenant("old-name")
    checkpoint = Checkpoint(origin=key.name, tree_size=1, root_hash=root_of([leaf]))
    proof = InclusionProof(leaf_index=0, hashes=(), checkpoint=sign_checkpoint(checkpoint, [key]))
    assert proof.verify(leaf, [key.verifier], origin=key.name) == checkpoint


@pytest.mark.parametrize("leaf", [b"", b"{}", b"\xff", b'{"tenant_id":1}', b"[" * 10_000])
def test_a_leaf_that_is_no_event_is_not_proved(leaf: bytes) -> None:
    """What is in the tree, but names no tenant, is nobody's event."""
    with pytest.raises(VerificationError, match="no event's"):
        _proof(leaf, tenant_id="acme").verify(leaf, [_ACME])


def test_a_leaf_hash_is_proved_by_the_keys_alone() -> None:
    """Where the body is erased, nothing else says whose it was."""
    leaf = body(0)
    proof = _proof(leaf, tenant_id="acme")
    assert proof.verify_leaf(merkle.leaf_hash(leaf), [_ACME]).tree_size == 1
    with pytest.raises(VerificationError):
        proof.verify_leaf(merkle.leaf_hash(leaf), [_BETA])
