"""A witness as an anchor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from muniment.anchors import Anchor, anchors_from
from muniment.checkpoint import add_signatures, cosign, cosignatures
from muniment.errors import AnchorError
from muniment.keys import SigningKey
from muniment.stores.trees import Published
from muniment.witness import Ledger, Witness
from muniment.witness.server import WitnessServer
from tests.proofs.listening import no_proof, serving
from tests.proofs.trails import LOG_KEY, OTHER_LOG_KEY, OTHER_WITNESS_KEY, WITNESS_KEY, Trail


@asynccontextmanager
async def _witness(tmp_path: Path) -> AsyncIterator[str]:
    ledger = Ledger(tmp_path / "witness.db")
    server = WitnessServer(Witness(WITNESS_KEY, [LOG_KEY.verifier], ledger))
    try:
        yield await server.start("127.0.0.1", 0)
    finally:
        await server.close()
        ledger.close()


def _client(url: str, key: SigningKey = WITNESS_KEY) -> Anchor:
    (anchor,) = anchors_from([f"witness+{url}#{key.verifier.text()}"])
    return anchor


async def test_a_witness_gives_a_line_for_the_note(tmp_path: Path) -> None:
    """Again and again, as the tree grows."""
    trail = Trail()
    async with _witness(tmp_path) as url:
        anchor = _client(url)
        for size, before in ((5, 0), (9, 5), (9, 5), (40, 9)):
            checkpoint = trail.checkpoint(size, before)
            line = await anchor.anchor(checkpoint, trail.prove)
            assert line is not None
            note = add_signatures(checkpoint.note, [line])
            assert len(cosignatures(note, [WITNESS_KEY.verifier])) == 1
        await anchor.close()


async def test_a_client_learns_where_the_witness_is(tmp_path: Path) -> None:
    """After a restart of the log, or where the witness missed some checkpoints."""
    trail = Trail()
    asked = []

    async def prove(old_size: int, new_size: int) -> Sequence[bytes]:
        asked.append((old_size, new_size))
        return trail.proof(old_size, new_size)

    async with _witness(tmp_path) as url:
        first, second = _client(url), _client(url)
        await first.anchor(trail.checkpoint(5), prove)
        assert await second.anchor(trail.checkpoint(20, previous_size=9), prove)
        await first.close()
        await second.close()
    assert asked == [(9, 20), (5, 20)]


async def test_a_new_witness_is_begun_with(tmp_path: Path) -> None:
    """The log has published before, and this witness has seen nothing of it."""
    trail = Trail()
    async with _witness(tmp_path) as url:
        anchor = _client(url)
        assert await anchor.anchor(trail.checkpoint(9, previous_size=5), trail.prove)
        await anchor.close()


async def test_a_note_that_the_witness_cosigned_is_not_put_to_it_again() -> None:
    """Not even a connection is made."""
    trail = Trail()
    note = trail.checkpoint(5).note
    cosigned = add_signatures(note, [cosign(note.partition("\n\n")[0] + "\n", WITNESS_KEY, 1)])
    anchor = _client("http://127.0.0.1:9")
    checkpoint = Published(tenant_id="acme", tree_size=5, root_hash=b"", note=cosigned)
    assert await anchor.anchor(checkpoint, no_proof) is None
    await anchor.close()


async def test_a_fork_finds_no_witness(tmp_path: Path) -> None:
    """The error says so, and that history was altered."""
    trail, fork = Trail(), Trail(story="another")
    async with _witness(tmp_path) as url:
        anchor = _client(url)
        await anchor.anchor(trail.checkpoint(5), trail.prove)
        with pytest.raises(AnchorError, match="fork, or history was altered"):
            await anchor.anchor(fork.checkpoint(9, 5), fork.prove)
        await anchor.close()


async def test_a_rollback_finds_no_witness(tmp_path: Path) -> None:
    """The witness has cosigned more than the log has now."""
    trail = Trail()
    async with _witness(tmp_path) as url:
        anchor = _client(url)
        await anchor.anchor(trail.checkpoint(9), trail.prove)
        with pytest.raises(AnchorError, match=r"has cosigned 9 leaves.*rolled back"):
            await anchor.anchor(trail.checkpoint(5), trail.prove)
        await anchor.close()


async def test_a_witness_that_does_not_trust_us_says_so(tmp_path: Path) -> None:
    """With what to do about it."""
    stranger = Trail(key=OTHER_LOG_KEY)
    async with _witness(tmp_path) as url:
        anchor = _client(url)
        with pytest.raises(AnchorError, match=r"404.*give it our public key"):
            await anchor.anchor(stranger.checkpoint(5), stranger.prove)
        await anchor.close()


async def test_a_line_of_another_key_is_not_passed_on(tmp_path: Path) -> None:
    """The witness has another key than we were told."""
    trail = Trail()
    async with _witness(tmp_path) as url:
        anchor = _client(url, OTHER_WITNESS_KEY)
        with pytest.raises(AnchorError, match="is that its key"):
            await anchor.anchor(trail.checkpoint(5), trail.prove)
        await anchor.close()


@pytest.mark.parametrize(
    ("code", "media_type", "body"),
    [
        (409, "text/plain", b"5\n"),
        (409, "text/x.tlog.size", b"five\n"),
        (409, "text/x.tlog.size", b"-1\n"),
        (409, "text/x.tlog.size", b""),
        (200, "text/plain", b""),
        (200, "text/plain", b"\xff\n"),
        (200, "text/plain", b"\xe2\x80\x94 witness.example/w1 AAAAAAAAAAAA\n"),
        (200, "text/plain", b"x" * 2_000_000),
        (418, "text/html", b"<html>"),
        (500, "text/html", b"<html>"),
    ],
)
async def test_an_answer_of_no_witness_is_an_anchor_error(
    code: int, media_type: str, body: bytes
) -> None:
    """Whatever it is: nothing of it gets into a note."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(status=code, body=body, headers={"Content-Type": media_type})

    async with serving(answer) as url:
        anchor = _client(url)
        with pytest.raises(AnchorError):
            await anchor.anchor(Trail().checkpoint(9), Trail().prove)
        await anchor.close()


async def test_a_witness_that_never_agrees_is_asked_three_times() -> None:
    """One that says another size each time does not keep us for ever."""
    sizes = iter(range(1, 50))

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        headers = {"Content-Type": "text/x.tlog.size"}
        return web.Response(status=409, text=None, body=b"%d\n" % next(sizes), headers=headers)

    async with serving(answer) as url:
        anchor = _client(url)
        with pytest.raises(AnchorError, match="all the time"):
            await anchor.anchor(Trail().checkpoint(60), Trail().prove)
        await anchor.close()
    assert next(sizes) == 4
