from __future__ import annotations

import base64

import pytest

from muniment import Event
from muniment.checkpoint import open_checkpoint
from muniment.http.access import Scope
from muniment.keys import SigningKey, keys_of_log
from muniment.proofs import InclusionProof
from muniment.receipts import Receipt
from tests.http.api.calling import Api

_KEY = SigningKey.from_seed("example.com/audit", b"1" * 32)


async def _published(api: Api, tenant_id: str = "acme") -> Receipt:
    receipts = await api.log.record_many(
        [Event(action="login", tenant_id=tenant_id, details={"n": n}) for n in range(5)]
    )
    await api.log.await_published(receipts[-1])
    return receipts[2]


async def test_a_proof_can_be_checked_by_its_text(api: Api) -> None:
    """As text it is C2SP tlog-proof, which verifies against the event's body and the log's key."""
    receipt = await _published(api)
    found = await api.get(f"/v1/events/{receipt.event_id}/proof", headers={"Accept": "text/plain"})
    body = (await api.get(f"/v1/events/{receipt.event_id}")).content
    known_keys = keys_of_log([_KEY.verifier], "acme")
    assert InclusionProof.parse(found.text).verify(body, known_keys).tree_size >= 5


async def test_a_proof_as_json_says_the_same(api: Api) -> None:
    """Its pieces, in base64, are those of its text and of the checkpoint under it."""
    receipt = await _published(api)
    found = (await api.get(f"/v1/events/{receipt.event_id}/proof")).json()
    parsed = InclusionProof.parse(found["text"])
    assert found["hashes"] == [base64.b64encode(each).decode() for each in parsed.hashes]
    assert (found["leaf_index"], found["checkpoint"]) == (parsed.leaf_index, parsed.checkpoint)
    assert base64.b64decode(found["leaf_hash"]) == receipt.leaf_hash


async def test_a_checkpoint_is_the_signed_note(api: Api) -> None:
    """As text it is what an auditor keeps, signed by the log; as JSON what that says."""
    await _published(api)
    note = (await api.get("/v1/checkpoint?tenant_id=acme")).text
    opened = open_checkpoint(note, keys_of_log([_KEY.verifier], "acme"))
    told = await api.get("/v1/checkpoint?tenant_id=acme", headers={"Accept": "application/json"})
    assert told.json()["origin"] == opened.origin


async def test_a_checkpoint_needs_a_tenant(api: Api) -> None:
    """Each tenant has a tree of its own: who may see several must say which."""
    found = await api.get("/v1/checkpoint")
    assert (found.status_code, found.json()["field"]) == (400, "tenant_id")


@pytest.mark.parametrize("path", ["/v1/checkpoint?tenant_id=nobody"])
async def test_what_is_not_published_yet_is_told_apart(api: Api, path: str) -> None:
    """Without a checkpoint there is a problem of its own type: it may be there in a second."""
    found = await api.get(path)
    assert (found.status_code, found.json()["type"]) == (404, "urn:muniment:problem:not-published")


async def test_proofs_are_of_the_callers_tenant_only(api: Api) -> None:
    """Another tenant's event has no proof, and another tenant's checkpoint is refused."""
    receipt = await _published(api)
    other = await api.token(Scope.READ, tenant_id="globex")
    proof = await api.get(f"/v1/events/{receipt.event_id}/proof", headers=other)
    checkpoint = await api.get("/v1/checkpoint?tenant_id=acme", headers=other)
    assert (proof.status_code, checkpoint.status_code) == (404, 403)
