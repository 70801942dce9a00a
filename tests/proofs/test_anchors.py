from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from muniment.anchors import (
    Anchor,
    CheckpointDirectory,
    DirectoryAnchor,
    anchors_from,
)
from muniment.anchors.base import Prove, Unreachable
from muniment.anchors.endpoint import HttpAnchor
from muniment.anchors.origins import keys_for, tenant_of
from muniment.anchors.witness import WitnessAnchor
from muniment.checkpoint import add_signatures, cosign, cosignatures, sign_note
from muniment.errors import AnchorError, InvalidConfig, StoreError, VerificationError
from muniment.keys import SigningKey, origin_of
from muniment.stores.trees import Published
from muniment.witness import Ledger, Witness
from muniment.witness.server import WitnessServer
from tests.proofs.trails import LOG_KEY, OTHER_LOG_KEY, OTHER_WITNESS_KEY, WITNESS_KEY, Trail

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def _serving(handler: _Handler) -> AsyncIterator[str]:
    """A real HTTP server on the loopback, whose every request goes to the handler."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def _never(old_size: int, new_size: int) -> Sequence[bytes]:
    raise AssertionError(f"nobody needs a proof from {old_size} to {new_size}")


# --- the contract


class _Hung(Anchor):
    """A place that never answers, and counts who asks."""

    asked = 0

    async def _put(self, checkpoint: Published, prove: Prove) -> str | None:
        del checkpoint, prove
        self.asked += 1
        await asyncio.Event().wait()
        return None

    async def close(self) -> None:
        pass


async def test_a_hung_anchor_ends_in_its_own_time() -> None:
    """Whatever it waits for: whoever called gets an `AnchorError`."""
    with pytest.raises(Unreachable, match=r"^hung: no answer within 0\.01 s$"):
        await _Hung("hung", timeout=0.01).anchor(Trail().checkpoint(5), _never)


async def test_a_hung_anchor_holds_up_no_other(tmp_path: Path) -> None:
    """The others have the checkpoint while the hung one is still waited for."""
    directory, hung = DirectoryAnchor(tmp_path), _Hung("hung", timeout=60)
    trail = Trail()
    waiting = asyncio.create_task(hung.anchor(trail.checkpoint(5), trail.prove))
    await directory.anchor(trail.checkpoint(5), trail.prove)
    assert CheckpointDirectory(tmp_path).sizes(trail.key.name) == [5]
    assert (hung.asked, waiting.done()) == (1, False)
    waiting.cancel()
    await directory.close()


async def test_a_witness_that_hangs_ends_in_its_own_time() -> None:
    """It takes the request, and says nothing."""
    asked, ended = asyncio.Event(), asyncio.Event()

    async def hang(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        asked.set()
        await ended.wait()
        return web.Response()

    async with _serving(hang) as url:
        vkey = WITNESS_KEY.verifier.text()
        (anchor,) = anchors_from([f"witness+{url}#{vkey}"], timeout=0.2)
        with pytest.raises(Unreachable, match="no answer"):
            await anchor.anchor(Trail().checkpoint(5), Trail().prove)
        assert asked.is_set()
        ended.set()
        await anchor.close()


async def test_a_hung_anchor_is_left_alone_for_a_while() -> None:
    """The next checkpoints fail at once; after a second, then two, then four, it is asked again."""
    now = 0.0
    hung = _Hung("hung", timeout=0.001, clock=lambda: now)
    asked = []
    for now in (0.0, 0.5, 1.0, 2.9, 3.0, 6.9, 7.0):  # noqa: B007 - the clock reads it
        with pytest.raises(Unreachable):
            await hung.anchor(Trail().checkpoint(5), _never)
        asked.append(hung.asked)
    assert asked == [1, 1, 2, 2, 3, 3, 4]


class _Raising(Anchor):
    """A place that fails as it is told."""

    def __init__(self, error: Exception) -> None:
        super().__init__("raising")
        self._error = error

    async def _put(self, checkpoint: Published, prove: Prove) -> str | None:
        del checkpoint, prove
        raise self._error

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), StoreError("gone"), VerificationError("no note")]
)
async def test_whatever_fails_is_an_anchor_error(error: Exception) -> None:
    """With the anchor's name, and the reason."""
    with pytest.raises(AnchorError, match=r"^raising: ") as raised:
        await _Raising(error).anchor(Trail().checkpoint(5), _never)
    assert str(error) in str(raised.value)


# --- a directory


async def test_a_directory_keeps_each_checkpoint_in_a_file(tmp_path: Path) -> None:
    """Its name is the tree size, below the origin's; the same one again changes nothing."""
    anchor = DirectoryAnchor(tmp_path / "made" / "by it")
    trail = Trail("acme/eu")
    for size in (5, 9, 5):
        assert await anchor.anchor(trail.checkpoint(size), _never) is None
    directory = tmp_path / "made" / "by it" / "audit.example%2Flog%2Facme%252Feu"
    assert sorted(file.name for file in directory.iterdir()) == [f"{5:020d}", f"{9:020d}"]
    assert (directory / f"{9:020d}").read_text() == trail.checkpoint(9).note
    await anchor.close()


async def test_a_fork_is_never_written_over_a_checkpoint(tmp_path: Path) -> None:
    """The first one stays, and the error says fork."""
    anchor = DirectoryAnchor(tmp_path)
    trail = Trail()
    await anchor.anchor(trail.checkpoint(5), _never)
    with pytest.raises(AnchorError, match="fork"):
        await anchor.anchor(Trail(story="another").checkpoint(5), _never)
    assert CheckpointDirectory(tmp_path).read(trail.key.name, 5) == trail.checkpoint(5).note
    await anchor.close()


def test_more_signatures_are_no_fork(tmp_path: Path) -> None:
    """It is the text that is compared; what was there first stays."""
    trail, directory = Trail(), CheckpointDirectory(tmp_path)
    note = trail.checkpoint(5).note
    directory.keep(note)
    text = note.partition("\n\n")[0] + "\n"
    directory.keep(add_signatures(note, [cosign(text, WITNESS_KEY, 1)]))
    assert directory.read(trail.key.name, 5) == note


def test_no_draft_is_left_behind(tmp_path: Path) -> None:
    """Neither by success nor by a fork."""
    directory = CheckpointDirectory(tmp_path)
    directory.keep(Trail().checkpoint(5).note)
    with pytest.raises(AnchorError):
        directory.keep(Trail(story="another").checkpoint(5).note)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [f"{5:020d}"]


_origins = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="+"),
    min_size=1,
    max_size=300,
).filter(lambda text: not any(c.isspace() for c in text))


@given(origin=st.one_of(_origins, st.sampled_from([".", "..", "../x", "a/../b", ".x", "~"])))
def test_every_origin_has_a_directory_of_its_own(
    origin: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever it is called and however long: below the anchor's, and found again."""
    base = tmp_path_factory.mktemp("anchor")
    directory = CheckpointDirectory(base / "in")
    key = SigningKey.from_seed(origin, b"\1" * 32)
    root = "A" * 43 + "="
    directory.keep(sign_note(f"{origin}\n7\n{root}\n", [key]))
    assert directory.origins() == [origin]
    assert directory.sizes(origin) == [7]
    assert [p.name for p in base.iterdir()] == ["in"]


def test_what_lies_about_in_a_directory_is_no_checkpoint(tmp_path: Path) -> None:
    """Drafts, files of others, directories in another spelling: none of them is an origin."""
    directory = CheckpointDirectory(tmp_path)
    directory.keep(Trail().checkpoint(5).note)
    (tmp_path / "README").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a%2fb").mkdir()
    (tmp_path / "a%2fb" / f"{5:020d}").write_text("x")
    (tmp_path / "long+").mkdir()
    (tmp_path / Trail().key.name.replace("/", "%2F") / ".draft").write_text("x")
    assert directory.origins() == [Trail().key.name]
    assert directory.sizes(Trail().key.name) == [5]


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"no note", Trail("beta").checkpoint(5).note.encode()]
)
def test_a_file_that_is_not_that_checkpoint_is_not_read(tmp_path: Path, content: bytes) -> None:
    """Damaged, or moved there from another log."""
    directory = CheckpointDirectory(tmp_path)
    trail = Trail("acme")
    directory.keep(trail.checkpoint(5).note)
    (file,) = (p for p in tmp_path.rglob("*") if p.is_file())
    file.write_bytes(content)
    with pytest.raises(VerificationError, match=str(file)):
        directory.read(trail.key.name, 5)


async def test_a_directory_that_can_not_be_written_is_an_anchor_error(tmp_path: Path) -> None:
    """With the path that it was about."""
    (tmp_path / "file").write_text("in the way")
    anchor = DirectoryAnchor(tmp_path / "file")
    with pytest.raises(AnchorError, match="file"):
        await anchor.anchor(Trail().checkpoint(5), _never)
    await anchor.close()


# --- an HTTP endpoint


class _Endpoint:
    """Keeps what is PUT, and never overwrites; `fails` requests are answered 503 before."""

    def __init__(self, fails: int = 0) -> None:
        self.kept: dict[str, str] = {}
        self.fails = fails
        self.seen: list[web.BaseRequest] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(request)
        if self.fails:
            self.fails -= 1
            return web.Response(status=503)
        path = request.raw_path
        if request.method == "GET":
            return web.Response(text=self.kept[path])
        if path in self.kept and request.headers.get("If-None-Match") == "*":
            return web.Response(status=412)
        self.kept[path] = await request.text()
        return web.Response(status=201)


async def test_an_endpoint_gets_each_checkpoint_under_a_url_of_its_own() -> None:
    """The origin is one segment of the path; the same checkpoint again is fine."""
    endpoint, trail = _Endpoint(), Trail("a/b")
    async with _serving(endpoint) as url:
        (anchor,) = anchors_from([f"{url}/audit"])
        for size in (5, 9, 5):
            assert await anchor.anchor(trail.checkpoint(size), _never) is None
        await anchor.close()
    origin = "audit.example%2Flog%2Fa%252Fb"
    assert list(endpoint.kept) == [f"/audit/{origin}/5", f"/audit/{origin}/9"]
    assert endpoint.kept[f"/audit/{origin}/9"] == trail.checkpoint(9).note


async def test_a_url_says_where_origin_and_size_belong() -> None:
    """Before a query that it needs, for instance."""
    endpoint, trail = _Endpoint(), Trail()
    async with _serving(endpoint) as url:
        (anchor,) = anchors_from([url + "/{size}/of/{origin}?token=secret"])
        await anchor.anchor(trail.checkpoint(5), _never)
        assert "secret" not in anchor.name
        await anchor.close()
    assert list(endpoint.kept) == ["/5/of/audit.example%2Flog%2Facme?token=secret"]


async def test_an_endpoint_that_has_another_checkpoint_says_fork() -> None:
    """What is there is read back and compared."""
    async with _serving(_Endpoint()) as url:
        (anchor,) = anchors_from([url])
        await anchor.anchor(Trail().checkpoint(5), _never)
        with pytest.raises(AnchorError, match="fork"):
            await anchor.anchor(Trail(story="another").checkpoint(5), _never)
        await anchor.close()


async def test_an_endpoint_is_tried_three_times() -> None:
    """Two failures are made good; after three it is left alone."""
    endpoint = _Endpoint(fails=2)
    async with _serving(endpoint) as url:
        anchor = HttpAnchor("endpoint", url + "/{origin}/{size}")
        await anchor.anchor(Trail().checkpoint(5), _never)
        endpoint.fails = 9
        with pytest.raises(Unreachable, match="503"):
            await anchor.anchor(Trail().checkpoint(6), _never)
        await anchor.close()
    assert len(endpoint.seen) == 6


async def test_a_redirect_is_not_followed() -> None:
    """Who was given the URL is whom the checkpoint is given to."""

    async def elsewhere(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"http://{request.host}/there"})

    async with _serving(elsewhere) as url:
        (anchor,) = anchors_from([url])
        with pytest.raises(AnchorError, match="refuses with 307"):
            await anchor.anchor(Trail().checkpoint(5), _never)
        await anchor.close()


async def test_an_account_in_the_url_is_used_and_never_shown() -> None:
    """As basic authentication; neither the name nor an error has it."""
    endpoint = _Endpoint()
    async with _serving(endpoint) as url:
        (anchor,) = anchors_from([url.replace("//", "//user:s3cret@")])
        await anchor.anchor(Trail().checkpoint(5), _never)
    assert endpoint.seen[0].headers["Authorization"] == "Basic dXNlcjpzM2NyZXQ="
    with pytest.raises(AnchorError) as raised:
        await anchor.anchor(Trail().checkpoint(6), _never)
    assert "s3cret" not in f"{raised.value} {anchor.name}"
    await anchor.close()


async def test_a_place_that_is_not_there_can_not_be_reached() -> None:
    """Nobody listens: an `AnchorError` with the reason."""
    async with _serving(_Endpoint()) as url:
        (anchor,) = anchors_from([url])
    with pytest.raises(Unreachable, match="can't be reached"):
        await anchor.anchor(Trail().checkpoint(5), _never)
    await anchor.close()


# --- a witness


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
    assert await anchor.anchor(checkpoint, _never) is None
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

    async with _serving(answer) as url:
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

    async with _serving(answer) as url:
        anchor = _client(url)
        with pytest.raises(AnchorError, match="all the time"):
            await anchor.anchor(Trail().checkpoint(60), Trail().prove)
        await anchor.close()
    assert next(sizes) == 4


# --- URLs


def test_urls_name_anchors() -> None:
    """Each form, in order."""
    found = anchors_from(
        [
            "dir:/srv/anchors",
            "https://worm.example/audit/",
            f"witness+https://w.example/#{WITNESS_KEY.verifier.text()}",
            f"witness+http://w.example:7340#{WITNESS_KEY.verifier.text()}",
        ],
        timeout=3,
    )
    assert [type(each) for each in found] == [
        DirectoryAnchor,
        HttpAnchor,
        WitnessAnchor,
        WitnessAnchor,
    ]
    assert {each.timeout for each in found} == {3}
    assert [each.name for each in found[:2]] == ["dir:/srv/anchors", "https://worm.example/audit/"]


@pytest.mark.parametrize(
    "urls",
    [
        [""],
        ["/srv/anchors"],
        ["dir:"],
        ["dir://host/path"],
        ["ftp://host/"],
        ["file:///x"],
        ["https://"],
        ["https:///x"],
        ["https://host:port/"],
        ["https://host:0/"],
        ["https://h ost/"],
        ["https://[::1/"],
        ["http://worm.example/"],
        ["https://host/#x"],
        ["https://host/?query"],
        ["https://host/{origin}"],
        ["https://host/{size}"],
        ["witness+https://host/"],
        ["witness+https://host/#nonsense"],
        [f"witness+https://host/#{LOG_KEY.verifier.text()}"],
        [f"witness+https://host/?q#{WITNESS_KEY.verifier.text()}"],
        ["dir:/a", "dir:/a"],
    ],
)
def test_a_url_of_no_anchor_is_refused(urls: list[str]) -> None:
    """Before anything is opened."""
    with pytest.raises(InvalidConfig):
        anchors_from(urls)


@pytest.mark.parametrize(
    "url",
    [
        "https://u:s3cret@h ost/",
        "x+https://u:s3cret@host/?s3cret#s3cret",
        "u:s3cret@host/path",
        "https:u:s3cret@host/path",
    ],
)
def test_what_is_secret_in_a_bad_url_is_not_shown(url: str) -> None:
    """Errors end up in logs."""
    with pytest.raises(InvalidConfig) as raised:
        anchors_from([url])
    assert "s3cret" not in str(raised.value)


# --- origins


@given(tenant_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50))
def test_the_origin_of_a_tenant_names_it(tenant_id: str) -> None:
    """Back and forth, whatever its id."""
    origin = origin_of("audit.example/log", tenant_id)
    assert tenant_of("audit.example/log", origin) == tenant_id
    assert keys_for(origin, [LOG_KEY.verifier]) == (LOG_KEY.verifier.for_tenant(tenant_id),)


def test_a_tenants_own_key_vouches_for_no_second_log_of_it() -> None:
    """Its seed is the same as that of every origin below it."""
    own = LOG_KEY.verifier.for_tenant("acme")
    assert keys_for(own.name, [own]) == (own,)
    assert keys_for(f"{own.name}/acme", [own]) == ()


@given(origin=st.text(max_size=30).map(lambda text: f"audit.example/log{text}"))
def test_no_two_origins_are_of_one_tenant(origin: str) -> None:
    """Whatever is not written as the log would write it belongs to nobody."""
    tenant_id = tenant_of("audit.example/log", origin)
    assert tenant_id is None or origin_of("audit.example/log", tenant_id) == origin
