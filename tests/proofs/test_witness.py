from __future__ import annotations

import asyncio
import base64
import hashlib
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tlog_scales.signing import Vkey, VkeySet
from tlog_scales.tlog import Checkpoint as ScalesCheckpoint

from muniment.anchors.add_checkpoint import MAX_PROOF_LINES, parse_request, request_body
from muniment.checkpoint import add_signatures, cosignatures, sign_note
from muniment.errors import InvalidConfig, InvalidKey, StoreError, VerificationError
from muniment.keys import SigningKey
from muniment.merkle import EMPTY_ROOT
from muniment.stores.trees import Published
from muniment.witness import Answer, Ledger, Seen, Witness
from muniment.witness.server import MAX_BODY_BYTES, WitnessServer
from tests.proofs.trails import LOG_KEY, OTHER_LOG_KEY, OTHER_WITNESS_KEY, WITNESS_KEY, Trail
from tests.proofs.witness_process import running_witness

_NOW = 1_700_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty memory."""
    ledger = Ledger(tmp_path / "witness.db")
    yield ledger
    ledger.close()


@pytest.fixture
def witness(ledger: Ledger) -> Witness:
    """A witness that has seen nothing yet."""
    return Witness(WITNESS_KEY, [LOG_KEY.verifier], ledger, clock=lambda: _NOW)


def _body(trail: Trail, old_size: int, size: int) -> bytes:
    return request_body(old_size, trail.proof(old_size, size), trail.checkpoint(size).note)


def _submit(witness: Witness, trail: Trail, old_size: int, size: int) -> Answer:
    return witness.add_checkpoint(_body(trail, old_size, size))


# --- what it decides


def test_a_first_checkpoint_is_cosigned(witness: Witness) -> None:
    """The answer is a signature line of the witness's key, with the time by its clock."""
    trail = Trail()
    answer = _submit(witness, trail, 0, 5)
    assert answer.code == 200
    note = add_signatures(trail.checkpoint(5).note, [answer.body])
    assert cosignatures(note, [WITNESS_KEY.verifier]) == [("witness.example/w1", _NOW)]


def test_other_peoples_code_verifies_the_cosignature(witness: Witness) -> None:
    """tlog-scales accepts it on the checkpoint, and not on another one."""
    trail = Trail()
    line = _submit(witness, trail, 0, 5).body
    keys = VkeySet(Vkey.from_string(WITNESS_KEY.verifier.text()))
    cosigned = ScalesCheckpoint.from_text(add_signatures(trail.checkpoint(5).note, [line]))
    assert len(keys.verify(cosigned.signatures, cosigned)) == 1
    forged = ScalesCheckpoint.from_text(
        add_signatures(Trail(story="another").checkpoint(5).note, [line])
    )
    assert keys.verify(forged.signatures, forged) == set()


@pytest.mark.parametrize(("old_size", "size"), [(5, 6), (5, 8), (8, 9), (7, 64), (1, 2)])
def test_a_tree_that_grew_is_cosigned(witness: Witness, old_size: int, size: int) -> None:
    """With a proof from the last size that the witness cosigned."""
    trail = Trail()
    _submit(witness, trail, 0, old_size)
    assert _submit(witness, trail, old_size, size).code == 200


def test_the_same_checkpoint_again_is_cosigned_again(witness: Witness) -> None:
    """A log whose answer was lost on the way asks again, from its own size."""
    trail = Trail()
    _submit(witness, trail, 0, 5)
    assert _submit(witness, trail, 5, 5).code == 200


def test_an_empty_tree_is_cosigned(witness: Witness) -> None:
    """And a tree that grew out of it, whose proof is empty too."""
    trail = Trail()
    assert _submit(witness, trail, 0, 0).code == 200
    assert _submit(witness, trail, 0, 3).code == 200


def test_an_empty_tree_has_the_empty_root(witness: Witness) -> None:
    """tlog-witness: size zero with another root is 422."""
    key = LOG_KEY.for_tenant("acme")
    root = base64.b64encode(b"\1" * 32).decode()
    note = sign_note(f"{key.name}\n0\n{root}\n", [key])
    assert EMPTY_ROOT != b"\1" * 32
    assert witness.add_checkpoint(request_body(0, [], note)).code == 422


@pytest.mark.parametrize("old_size", [0, 4, 6])
def test_another_old_size_than_the_last_is_a_conflict(witness: Witness, old_size: int) -> None:
    """The answer says which size the witness has, in its own media type."""
    trail = Trail()
    _submit(witness, trail, 0, 5)
    answer = _submit(witness, trail, old_size, 7)
    assert (answer.code, answer.body, answer.media_type) == (409, "5\n", "text/x.tlog.size")


def test_a_witness_that_saw_nothing_has_size_zero(witness: Witness) -> None:
    """Whoever thinks that it saw something is told."""
    answer = _submit(witness, Trail(), 3, 5)
    assert (answer.code, answer.body) == (409, "0\n")


def test_a_smaller_checkpoint_is_not_cosigned(witness: Witness) -> None:
    """A log that was rolled back finds no witness for it."""
    trail = Trail()
    _submit(witness, trail, 0, 9)
    assert _submit(witness, trail, 5, 5).code == 409
    assert witness.add_checkpoint(request_body(9, [], trail.checkpoint(5).note)).code == 400


def test_another_tree_of_the_same_size_is_not_cosigned(witness: Witness, ledger: Ledger) -> None:
    """It is a fork, signed by the log: the witness keeps it as evidence."""
    _submit(witness, Trail(), 0, 5)
    fork = Trail(story="another")
    assert _submit(witness, fork, 5, 5).code == 422
    assert ledger.refused(fork.key.name) == [fork.checkpoint(5).note]


def test_a_tree_that_does_not_hold_the_last_one_is_not_cosigned(
    witness: Witness, ledger: Ledger
) -> None:
    """The tree was rebuilt over other leaves, and signed by the true key."""
    trail, fork = Trail(), Trail(story="another")
    _submit(witness, trail, 0, 5)
    assert _submit(witness, fork, 5, 9).code == 422
    seen = ledger.latest(trail.key.name)
    assert seen is not None
    assert seen.tree_size == 5


@pytest.mark.parametrize("change", ["missing", "extra", "altered"])
def test_a_bad_proof_is_refused(witness: Witness, change: str) -> None:
    """One hash less, one more, or another one."""
    trail = Trail()
    _submit(witness, trail, 0, 5)
    proof = trail.proof(5, 9)
    proof = {
        "missing": proof[1:],
        "extra": [*proof, b"\0" * 32],
        "altered": [b"\0" * 32, *proof[1:]],
    }[change]
    note = trail.checkpoint(9).note
    assert witness.add_checkpoint(request_body(5, proof, note)).code == 422


def test_a_proof_from_nothing_is_empty(witness: Witness) -> None:
    """tlog-witness: hashes where the old size is zero are 422."""
    note = Trail().checkpoint(5).note
    assert witness.add_checkpoint(request_body(0, [b"\0" * 32], note)).code == 422


def test_a_log_that_it_does_not_know_is_not_found(witness: Witness) -> None:
    """Whoever signed."""
    assert _submit(witness, Trail(key=OTHER_LOG_KEY), 0, 5).code == 404


@pytest.mark.parametrize("suffix", ["/a/b", "/%61cme", "/", "x/acme", "/%ff", "/acme%2f"])
def test_only_a_tenants_one_spelling_is_known(witness: Witness, suffix: str) -> None:
    """An origin below a trusted name is a tenant's, as the log itself would write it."""
    key = SigningKey.from_seed(f"{LOG_KEY.name}{suffix}", b"\1" * 32)
    root = base64.b64encode(EMPTY_ROOT).decode()
    note = sign_note(f"{key.name}\n0\n{root}\n", [key])
    assert witness.add_checkpoint(request_body(0, [], note)).code == 404


def test_the_key_of_one_log_is_enough(ledger: Ledger) -> None:
    """A witness may trust a single tenant's log, by its own key."""
    witness = Witness(WITNESS_KEY, [LOG_KEY.verifier.for_tenant("acme")], ledger)
    assert _submit(witness, Trail("acme"), 0, 5).code == 200
    assert _submit(witness, Trail("beta"), 0, 5).code == 404


def test_a_key_that_is_trusted_for_one_log_vouches_for_no_other(ledger: Ledger) -> None:
    """Its seed signs for every origin below its name, and none of them is known."""
    own = LOG_KEY.for_tenant("acme")
    witness = Witness(WITNESS_KEY, [], ledger, trusted_only=[own.verifier])
    assert _submit(witness, Trail("acme"), 0, 5).code == 200
    assert _submit(witness, Trail("beta"), 0, 5).code == 404
    for below in ("acme", "zz"):
        assert _submit(witness, Trail(below, key=own), 0, 5).code == 404


def test_both_keys_of_a_rotation_are_trusted(ledger: Ledger) -> None:
    """The log goes on under a new key of the same name."""
    new = SigningKey.from_seed(LOG_KEY.name, b"\7" * 32)
    witness = Witness(WITNESS_KEY, [LOG_KEY.verifier, new.verifier], ledger)
    _submit(witness, Trail(), 0, 5)
    assert _submit(witness, Trail(key=new), 5, 9).code == 200


def test_a_checkpoint_that_no_trusted_key_signed_is_forbidden(witness: Witness) -> None:
    """The origin is a known log's, and the key another's."""
    impostor = SigningKey.from_seed(LOG_KEY.name, b"\6" * 32)
    assert _submit(witness, Trail(key=impostor), 0, 5).code == 403


def test_a_checkpoint_that_another_tenant_signed_is_forbidden(witness: Witness) -> None:
    """Tenants' keys share a seed, but not their names."""
    key, other = LOG_KEY.for_tenant("acme"), LOG_KEY.for_tenant("beta")
    root = base64.b64encode(EMPTY_ROOT).decode()
    note = sign_note(f"{key.name}\n0\n{root}\n", [other])
    assert witness.add_checkpoint(request_body(0, [], note)).code == 403


def test_a_signature_that_does_not_hold_is_forbidden(witness: Witness) -> None:
    """tlog-witness: 403 also if the key is known and the signature is wrong."""
    altered = Trail().checkpoint(5).note.replace("\n5\n", "\n6\n")
    assert witness.add_checkpoint(request_body(0, [], altered)).code == 403


def test_tenants_are_remembered_apart(witness: Witness) -> None:
    """One tenant's size says nothing of another's."""
    _submit(witness, Trail("acme"), 0, 5)
    assert _submit(witness, Trail("beta"), 0, 3).code == 200


def test_the_newest_checkpoint_is_shown_with_both_signatures(witness: Witness) -> None:
    """tlog-witness: for monitors, without signature lines of strangers."""
    trail = Trail()
    note = add_signatures(trail.checkpoint(5).note, [_a_strangers_line(trail)])
    witness.add_checkpoint(request_body(0, [], note))
    shown = witness.checkpoint(hashlib.sha256(trail.key.name.encode()).hexdigest())
    assert shown is not None
    assert shown.startswith(trail.checkpoint(5).note)
    assert len(cosignatures(shown, [WITNESS_KEY.verifier])) == 1
    assert "stranger.example" not in shown


def _a_strangers_line(trail: Trail) -> str:
    stranger = SigningKey.from_seed("stranger.example", b"\5" * 32)
    return sign_note(trail.checkpoint(5).note.partition("\n\n")[0] + "\n", [stranger]).split("\n")[
        -2
    ]


@pytest.mark.parametrize(("key", "trusted"), [(LOG_KEY, LOG_KEY), (WITNESS_KEY, OTHER_WITNESS_KEY)])
def test_a_key_of_the_wrong_kind_is_refused(
    ledger: Ledger, key: SigningKey, trusted: SigningKey
) -> None:
    """A witness does not sign with a log's key, nor trust another witness as a log."""
    with pytest.raises(InvalidKey):
        Witness(key, [trusted.verifier], ledger)
    with pytest.raises(InvalidKey):
        Witness(key, [], ledger, trusted_only=[trusted.verifier])


# --- what it is told


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


@settings(deadline=None)
@given(data=st.data())
def test_no_altered_byte_gets_a_cosignature(data: st.DataObject) -> None:
    """Whatever byte of a good request is changed: it is refused, or says the same as before."""
    trail = Trail()
    body = bytearray(_body(trail, 5, 9))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    ledger = _InMemory()
    witness = Witness(WITNESS_KEY, [LOG_KEY.verifier], ledger)
    _submit(witness, trail, 0, 5)
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


# --- what it remembers


def _seen(trail: Trail, size: int) -> Seen:
    published: Published = trail.checkpoint(size)
    return Seen(tree_size=size, root_hash=published.root_hash, note=published.note)


def test_a_checkpoint_is_replaced_only_by_who_knows_it(ledger: Ledger) -> None:
    """Of two that go on from the same checkpoint, the second is told that it isn't the last."""
    trail = Trail()
    assert ledger.replace("x", None, _seen(trail, 5))
    assert not ledger.replace("x", None, _seen(trail, 6))
    assert ledger.replace("x", _seen(trail, 5), _seen(trail, 7))
    assert not ledger.replace("x", _seen(trail, 5), _seen(trail, 9))
    assert ledger.latest("x") == _seen(trail, 7)


def test_two_processes_share_one_memory(ledger: Ledger, tmp_path: Path) -> None:
    """What one remembers the other knows: two on one file never cosign two trees."""
    other = Ledger(tmp_path / "witness.db")
    trail = Trail()
    assert ledger.replace("x", None, _seen(trail, 5))
    assert other.latest("x") == _seen(trail, 5)
    assert not other.replace("x", None, _seen(trail, 6))
    other.close()


def test_the_file_itself_refuses_a_rollback(ledger: Ledger) -> None:
    """Even if the witness had a bug: a smaller checkpoint is never written over a larger one."""
    trail = Trail()
    ledger.replace("x", None, _seen(trail, 5))
    with pytest.raises(StoreError, match="never rolled back"):
        ledger.replace("x", _seen(trail, 5), _seen(trail, 4))


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """An audit log, say, or no database at all."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InvalidConfig, match="no witness's file"):
        Ledger(path)
    assert path.read_bytes() == before
    text = tmp_path / "text"
    text.write_text("not a database, and long enough to be looked at as one" * 20)
    with pytest.raises(InvalidConfig, match="no witness's file"):
        Ledger(text)


def test_what_can_be_kept_as_evidence_is_bounded(ledger: Ledger) -> None:
    """Whoever sends bad proofs with good checkpoints does not fill the disk."""
    for n in range(100):
        ledger.keep_refused("x", n, b"\0" * 32, "note")
    ledger.keep_refused("y", 1, b"\0" * 32, "note")
    assert (len(ledger.refused("x")), len(ledger.refused("y"))) == (64, 1)


class _FailsButStores(Ledger):
    """A memory whose commit is on disk, though its answer is lost."""

    broken = False

    def replace(self, origin: str, before: Seen | None, now: Seen) -> bool:
        replaced = super().replace(origin, before, now)
        if self.broken:
            raise StoreError("the disk did not answer")
        return replaced


def test_a_commit_that_failed_but_was_stored_is_found(tmp_path: Path) -> None:
    """No cosignature goes out without memory; the log asks again, and learns where it is."""
    ledger = _FailsButStores(tmp_path / "witness.db")
    witness = Witness(WITNESS_KEY, [LOG_KEY.verifier], ledger)
    trail = Trail()
    ledger.broken = True
    with pytest.raises(StoreError):
        _submit(witness, trail, 0, 5)
    ledger.broken = False
    assert _submit(witness, trail, 0, 5).body == "5\n"
    assert _submit(witness, trail, 5, 5).code == 200
    ledger.close()


class _Overtaken(Ledger):
    """A memory in which another request is always first."""

    def replace(self, origin: str, before: Seen | None, now: Seen) -> bool:
        super().replace(origin, before, _seen(Trail(), 9))
        return super().replace(origin, before, now)


def test_who_is_overtaken_between_check_and_commit_gets_no_cosignature(tmp_path: Path) -> None:
    """The race of tlog-witness's last paragraph: the tree is not rolled back."""
    ledger = _Overtaken(tmp_path / "witness.db")
    witness = Witness(WITNESS_KEY, [LOG_KEY.verifier], ledger)
    answer = _submit(witness, Trail(), 0, 5)
    assert (answer.code, answer.body) == (409, "9\n")
    ledger.close()


# --- over HTTP, in a process of its own


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[int, str, str]:
    async with session.post(f"{url}/add-checkpoint", data=body) as response:
        return response.status, await response.text(), response.content_type


async def test_a_real_witness_cosigns_and_refuses(tmp_path: Path) -> None:
    """Over HTTP: cosigned, a conflict with its size, a fork, an unknown log; each is logged."""
    trail, fork = Trail(), Trail(story="another")
    with running_witness(tmp_path) as process:
        async with aiohttp.ClientSession() as session:
            code, line, _ = await _post(session, process.url, _body(trail, 0, 5))
            assert code == 200
            note = add_signatures(trail.checkpoint(5).note, [line])
            assert cosignatures(note, [WITNESS_KEY.verifier])
            assert await _post(session, process.url, _body(trail, 0, 6)) == (
                409,
                "5\n",
                "text/x.tlog.size",
            )
            assert (await _post(session, process.url, _body(fork, 5, 9)))[0] == 422
            stranger = Trail(key=OTHER_LOG_KEY)
            assert (await _post(session, process.url, _body(stranger, 0, 5)))[0] == 404
            hashed = hashlib.sha256(trail.key.name.encode()).hexdigest()
            async with session.get(f"{process.url}/{hashed}/checkpoint") as response:
                assert await response.text() == note
        assert process.vkey == WITNESS_KEY.verifier.text()
        decisions = process.decisions()
    assert [each["code"] for each in decisions] == [200, 409, 422, 404]
    assert decisions[0]["origin"] == trail.key.name


async def test_what_was_cosigned_survives_sigkill(tmp_path: Path) -> None:
    """A witness that is killed after its answer knows, when it is back, what it cosigned."""
    trail = Trail()
    async with aiohttp.ClientSession() as session:
        with running_witness(tmp_path) as process:
            assert (await _post(session, process.url, _body(trail, 0, 5)))[0] == 200
            process.process.send_signal(signal.SIGKILL)
            process.process.wait(10)
        with running_witness(tmp_path) as process:
            fork = Trail(story="another")
            assert (await _post(session, process.url, _body(fork, 0, 9)))[:2] == (409, "5\n")
            assert (await _post(session, process.url, _body(fork, 5, 9)))[0] == 422
            assert (await _post(session, process.url, _body(trail, 5, 9)))[0] == 200


async def test_of_many_from_the_same_size_one_is_cosigned(tmp_path: Path) -> None:
    """Each of them is a fork of the others: the rest learn the size of the first."""
    trails = [Trail(story=f"story {n}") for n in range(8)]
    with running_witness(tmp_path) as process:
        async with aiohttp.ClientSession() as session:
            answers = await asyncio.gather(
                *(
                    _post(session, process.url, _body(trail, 0, 5 + n))
                    for n, trail in enumerate(trails)
                )
            )
    codes = [code for code, _, _ in answers]
    (won,) = (n for n, code in enumerate(codes) if code == 200)
    assert {text for code, text, _ in answers if code == 409} == {f"{5 + won}\n"}
    assert codes.count(409) == len(trails) - 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_witness_that_is_told_to_end_ends_well(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Exit code 0, and nothing on stderr but its decisions."""
    with running_witness(tmp_path) as process:
        async with aiohttp.ClientSession() as session:
            await _post(session, process.url, _body(Trail(), 0, 5))
        process.process.send_signal(number)
        assert process.process.wait(20) == 0
        assert [each["code"] for each in process.decisions()] == [200]


async def test_a_huge_body_is_refused_unread(witness: Witness) -> None:
    """413, and the witness goes on."""
    server = WitnessServer(witness)
    url = await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        code, _, _ = await _post(session, url, b"x" * (MAX_BODY_BYTES + 1))
        assert code == 413
        assert (await _post(session, url, _body(Trail(), 0, 5)))[0] == 200
    await server.close()


async def test_a_body_that_does_not_come_is_given_up(witness: Witness) -> None:
    """408 after the time that a body may take."""
    server = WitnessServer(witness, body_seconds=0.01)
    url = await server.start("127.0.0.1", 0)
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nold")
    assert (await reader.readline()).split()[1] == b"408"
    writer.close()
    await writer.wait_closed()
    await server.close()


async def test_more_than_it_takes_at_once_are_put_off(witness: Witness) -> None:
    """503 with Retry-After, while others keep it busy."""
    server = WitnessServer(witness, at_once=1)
    url = await server.start("127.0.0.1", 0)
    host, port = url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nold")
    await writer.drain()
    async with aiohttp.ClientSession() as session:
        codes = set()
        for _ in range(200):
            async with session.post(f"{url}/add-checkpoint", data=b"") as response:
                codes.add(response.status)
                if response.status == 503:
                    assert response.headers["Retry-After"] == "1"
                    break
    assert 503 in codes
    writer.close()
    await writer.wait_closed()
    await server.close()


async def test_a_memory_that_fails_is_no_cosignature(witness: Witness, ledger: Ledger) -> None:
    """500, and the log asks again later."""
    server = WitnessServer(witness)
    url = await server.start("127.0.0.1", 0)
    ledger.close()
    async with aiohttp.ClientSession() as session:
        assert (await _post(session, url, _body(Trail(), 0, 5)))[0] == 500
    await server.close()


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/add-checkpoint", 405),
        ("POST", "/", 404),
        ("GET", f"/{'0' * 64}/checkpoint", 404),
        ("GET", "/..%2f/checkpoint", 404),
    ],
)
async def test_other_requests_are_refused(
    witness: Witness, method: str, path: str, code: int
) -> None:
    """The witness has two paths, and no others."""
    server = WitnessServer(witness)
    url = await server.start("127.0.0.1", 0)
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{url}{path}") as response,
    ):
        assert response.status == code
    await server.close()


async def test_an_encoded_body_is_refused(
    witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    """400, and no traceback in the log: nothing is unpacked, whatever it claims to be."""
    server = WitnessServer(witness)
    url = await server.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as session:
            headers = {"Content-Encoding": "gzip"}
            async with session.post(f"{url}/add-checkpoint", data=b"x", headers=headers) as answer:
                assert answer.status == 400
    finally:
        await server.close()
    assert [record for record in caplog.records if record.exc_info] == []


async def test_who_asks_for_checkpoints_is_put_off_too(witness: Witness) -> None:
    """503 while others keep it busy: that it only reads makes it no less work."""
    server = WitnessServer(witness, at_once=1)
    url = await server.start("127.0.0.1", 0)
    host, port = url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nold")
    await writer.drain()
    async with aiohttp.ClientSession() as session:
        codes = set()
        for _ in range(200):
            async with session.get(f"{url}/{'0' * 64}/checkpoint") as response:
                codes.add(response.status)
                if response.status == 503:
                    assert response.headers["Retry-After"] == "1"
                    break
    assert 503 in codes
    writer.close()
    await writer.wait_closed()
    await server.close()


def test_a_fork_is_kept_however_much_was_refused_before(ledger: Ledger) -> None:
    """Anybody can send old checkpoints with bad proofs; they take no place from a fork."""
    root = b"\1" * 32
    ledger.replace("log", None, Seen(tree_size=100, root_hash=root, note="true\n"))
    for size in range(1, 80):
        ledger.keep_refused("log", size, root, f"old {size}\n")
    ledger.keep_refused("log", 100, b"\2" * 32, "fork\n")
    kept = ledger.refused("log")
    assert (len(kept), kept[-1]) == (65, "fork\n")
    assert ledger.count() == 1
