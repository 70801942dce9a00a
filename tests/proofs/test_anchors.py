from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from muniment.anchors import Anchor, CheckpointDirectory, DirectoryAnchor, anchors_from
from muniment.anchors.base import Prove, Unreachable
from muniment.anchors.endpoint import HttpAnchor
from muniment.anchors.origins import keys_for, tenant_of
from muniment.anchors.witness import WitnessAnchor
from muniment.checkpoint import add_signatures, cosign, sign_note
from muniment.errors import AnchorError, InvalidConfig, StoreError, VerificationError
from muniment.keys import SigningKey, origin_of
from muniment.stores.trees import Published
from tests.proofs.listening import no_proof, serving
from tests.proofs.trails import LOG_KEY, WITNESS_KEY, Trail

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
        await _Hung("hung", timeout=0.01).anchor(Trail().checkpoint(5), no_proof)


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

    async with serving(hang) as url:
        vkey, timeout = WITNESS_KEY.verifier.text(), 0.2
        while not asked.is_set():  # a machine may be too busy to ask in that time
            (anchor,) = anchors_from([f"witness+{url}#{vkey}"], timeout=timeout)
            with pytest.raises(Unreachable, match="no answer"):
                await anchor.anchor(Trail().checkpoint(5), Trail().prove)
            await anchor.close()
            timeout *= 4
        ended.set()


async def test_a_hung_anchor_is_left_alone_for_a_while() -> None:
    """The next checkpoints fail at once; after a second, then two, then four, it is asked again."""
    now = 0.0
    hung = _Hung("hung", timeout=0.001, clock=lambda: now)
    asked = []
    for now in (0.0, 0.5, 1.0, 2.9, 3.0, 6.9, 7.0):  # noqa: B007 - the clock reads it
        with pytest.raises(Unreachable):
            await hung.anchor(Trail().checkpoint(5), no_proof)
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
        await _Raising(error).anchor(Trail().checkpoint(5), no_proof)
    assert str(error) in str(raised.value)


# --- a directory


async def test_a_directory_keeps_each_checkpoint_in_a_file(tmp_path: Path) -> None:
    """Its name is the tree size, below the origin's; the same one again changes nothing."""
    anchor = DirectoryAnchor(tmp_path / "made" / "by it")
    trail = Trail("acme/eu")
    for size in (5, 9, 5):
        assert await anchor.anchor(trail.checkpoint(size), no_proof) is None
    directory = tmp_path / "made" / "by it" / "audit.example%2Flog%2Facme%252Feu"
    assert sorted(file.name for file in directory.iterdir()) == [f"{5:020d}", f"{9:020d}"]
    assert (directory / f"{9:020d}").read_text() == trail.checkpoint(9).note
    await anchor.close()


async def test_a_fork_is_never_written_over_a_checkpoint(tmp_path: Path) -> None:
    """The first one stays, and the error says fork."""
    anchor = DirectoryAnchor(tmp_path)
    trail = Trail()
    await anchor.anchor(trail.checkpoint(5), no_proof)
    with pytest.raises(AnchorError, match="fork"):
        await anchor.anchor(Trail(story="another").checkpoint(5), no_proof)
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
        await anchor.anchor(Trail().checkpoint(5), no_proof)
    await anchor.close()


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
