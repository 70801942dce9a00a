"""What a witness is told: requests that it reads, and those that it refuses."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.anchors.add_checkpoint import MAX_PROOF_LINES, parse_request, request_body
from muniment.errors import VerificationError
from muniment.witness import Ledger, Seen, Witness
from tests.proofs.trails import LOG_KEY, WITNESS_KEY, Trail
from tests.proofs.witnessing import body_of, submit


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        b"old 0",
        b"old 0\n\n",
        b"old 00\n\nx",
        b"old -1\n\nx",
        b"old +1\n\nx",
        b"old  1\n\nx",
        b"old 1 \n\nx",
        b"OLD 1\n\nx",
        b"old 1\r\n\nx",
        b"old 9223372036854775808\n\nx",
        "old \u0661\n\nx".encode(),
        b"old 1\nAAAA\n\nx",
        b"old 1\n" + base64.b64encode(b"\0" * 32).rstrip(b"=") + b"\n\nx",
        b"old 1\n" + base64.b64encode(b"\0" * 33) + b"\n\nx",
        b"old 1\n" + base64.b64encode(b"\0" * 32) + b"\r\n\nx",
        b"old 1\n\xff\n\nx",
        b"old 1\n\n\xff",
        b"old 1\n\nno note\n",
        b"old 1\n\na\n1\nAAAA\n\n\xe2\x80\x94 a AAAAAAAA\n",
    ],
)
def test_a_body_that_is_none_is_a_bad_request(witness: Witness, body: bytes) -> None:
    """Each malformation is 400, and nothing is remembered."""
    assert witness.add_checkpoint(body).code == 400


def test_over_63_proof_lines_are_a_bad_request(witness: Witness) -> None:
    """63 are still read, and then do not hold."""
    note = Trail().checkpoint(5).note
    most = [b"\0" * 32] * MAX_PROOF_LINES
    assert witness.add_checkpoint(request_body(0, most, note)).code == 422
    assert witness.add_checkpoint(request_body(0, [*most, b"\0" * 32], note)).code == 400


_hostile_lines = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"old 0", b"old 1", b"", base64.b64encode(b"\0" * 32)]),
)


@given(body=st.lists(_hostile_lines, max_size=80).map(b"\n".join))
def test_whatever_is_sent_is_read_or_refused(body: bytes) -> None:
    """The parser raises `VerificationError` only, and what it reads has the promised shape."""
    try:
        request = parse_request(body)
    except VerificationError:
        return
    assert len(request.proof) <= MAX_PROOF_LINES
    assert all(len(each) == 32 for each in request.proof)
    assert 0 <= request.old_size < 2**63


@given(
    old_size=st.integers(0, 2**63 - 1),
    proof=st.lists(st.binary(min_size=32, max_size=32), max_size=MAX_PROOF_LINES),
    note=st.text(max_size=200),
)
def test_what_the_client_writes_the_witness_reads(
    old_size: int, proof: list[bytes], note: str
) -> None:
    """Size, hashes and note come through, whatever the note."""
    request = parse_request(request_body(old_size, proof, note))
    assert (request.old_size, list(request.proof), request.note) == (old_size, proof, note)


@given(data=st.data())
def test_no_altered_byte_gets_a_cosignature(data: st.DataObject) -> None:
    """Whatever byte of a good request is changed: it is refused, or says the same as before."""
    trail = Trail()
    body = bytearray(body_of(trail, 5, 9))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    ledger = _InMemory()
    witness = Witness(WITNESS_KEY, [LOG_KEY.verifier], ledger)
    submit(witness, trail, 0, 5)
    assert witness.add_checkpoint(bytes(body)).code in {400, 403, 404, 409, 422}


class _InMemory(Ledger):
    """A memory that forgets with the process: for many examples."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}

    def latest(self, origin: str) -> Seen | None:
        return self._seen.get(origin)

    def replace(self, origin: str, before: Seen | None, now: Seen) -> bool:
        del before
        self._seen[origin] = now
        return True

    def keep_refused(self, origin: str, tree_size: int, root_hash: bytes, note: str) -> None:
        pass
