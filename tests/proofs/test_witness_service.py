"""A witness over HTTP, in a process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from pathlib import Path

import aiohttp
import pytest

from muniment.checkpoint import add_signatures, cosignatures
from muniment.witness import Ledger, Seen, Witness
from muniment.witness.server import MAX_BODY_BYTES, WitnessServer
from tests.proofs.trails import OTHER_LOG_KEY, WITNESS_KEY, Trail
from tests.proofs.witness_process import running_witness
from tests.proofs.witnessing import body_of


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[int, str, str]:
    async with session.post(f"{url}/add-checkpoint", data=body) as response:
        return response.status, await response.text(), response.content_type


async def test_a_real_witness_cosigns_and_refuses(tmp_path: Path) -> None:
    """Over HTTP: cosigned, a conflict with its size, a fork, an unknown log; each is logged."""
    trail, fork = Trail(), Trail(story="another")
    with running_witness(tmp_path) as process:
        async with aiohttp.ClientSession() as session:
            code, line, _ = await _post(session, process.url, body_of(trail, 0, 5))
            assert code == 200
            note = add_signatures(trail.checkpoint(5).note, [line])
            assert cosignatures(note, [WITNESS_KEY.verifier])
            assert await _post(session, process.url, body_of(trail, 0, 6)) == (
                409,
                "5\n",
                "text/x.tlog.size",
            )
            assert (await _post(session, process.url, body_of(fork, 5, 9)))[0] == 422
            stranger = Trail(key=OTHER_LOG_KEY)
            assert (await _post(session, process.url, body_of(stranger, 0, 5)))[0] == 404
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
            assert (await _post(session, process.url, body_of(trail, 0, 5)))[0] == 200
            process.process.send_signal(signal.SIGKILL)
            process.process.wait(30)
        with running_witness(tmp_path) as process:
            fork = Trail(story="another")
            assert (await _post(session, process.url, body_of(fork, 0, 9)))[:2] == (409, "5\n")
            assert (await _post(session, process.url, body_of(fork, 5, 9)))[0] == 422
            assert (await _post(session, process.url, body_of(trail, 5, 9)))[0] == 200


async def test_of_many_from_the_same_size_one_is_cosigned(tmp_path: Path) -> None:
    """Each of them is a fork of the others: the rest learn the size of the first."""
    trails = [Trail(story=f"story {n}") for n in range(8)]
    with running_witness(tmp_path) as process:
        async with aiohttp.ClientSession() as session:
            answers = await asyncio.gather(
                *(
                    _post(session, process.url, body_of(trail, 0, 5 + n))
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
            await _post(session, process.url, body_of(Trail(), 0, 5))
        process.process.send_signal(number)
        assert process.process.wait(30) == 0
        assert [each["code"] for each in process.decisions()] == [200]


async def test_a_huge_body_is_refused_unread(witness: Witness) -> None:
    """413, and the witness goes on."""
    server = WitnessServer(witness)
    url = await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        code, _, _ = await _post(session, url, b"x" * (MAX_BODY_BYTES + 1))
        assert code == 413
        assert (await _post(session, url, body_of(Trail(), 0, 5)))[0] == 200
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


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "add-checkpoint"), ("GET", f"{'0' * 64}/checkpoint")]
)
async def test_more_than_it_takes_at_once_are_put_off(
    method: str, path: str, witness: Witness
) -> None:
    """503 with Retry-After, while others keep it busy; only to read makes it no less work."""
    server = WitnessServer(witness, at_once=1)
    url = await server.start("127.0.0.1", 0)
    host, port = url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nold")
    await writer.drain()
    async with aiohttp.ClientSession() as session:
        codes = set()
        for _ in range(200):
            async with session.request(method, f"{url}/{path}") as response:
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
        assert (await _post(session, url, body_of(Trail(), 0, 5)))[0] == 500
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
