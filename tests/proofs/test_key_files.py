"""Keys in files and in the environment."""

from __future__ import annotations

import hashlib
import os
import stat
import traceback
from pathlib import Path

import pytest

from muniment.errors import InvalidKey
from muniment.keys import (
    FILE_VARIABLE,
    KEY_VARIABLE,
    KeyKind,
    SigningKey,
    read_keys,
    signing_keys,
    write_key,
)

_SEED = bytes(range(32))
_KEY = SigningKey.from_seed("example.com/audit", _SEED)
_OTHER = SigningKey.from_seed("example.com/audit", _SEED[::-1])
_WITNESS = SigningKey.from_seed("example.org/witness", _SEED, kind=KeyKind.WITNESS)


# --- files


def _file(path: Path, *keys: SigningKey, mode: int = 0o600) -> Path:
    path.write_text("".join(f"{key.text()}\n" for key in keys))
    path.chmod(mode)
    return path


def test_a_written_key_is_ours_alone_and_read_again(tmp_path: Path) -> None:
    """The new file has mode 0600 under any umask, and holds the key."""
    path = tmp_path / "audit.key"
    before = os.umask(0)
    try:
        write_key(path, _KEY)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.read(path) == _KEY


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    """A lost private key can't be made again: what is there stays, even if it is no key."""
    path = tmp_path / "audit.key"
    path.write_text("precious")
    with pytest.raises(InvalidKey, match="name another file"):
        write_key(path, _KEY)
    assert path.read_text() == "precious"


def test_a_key_is_not_written_through_a_link(tmp_path: Path) -> None:
    """A link that leads elsewhere counts as a file that exists."""
    path = tmp_path / "audit.key"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidKey, match="exists"):
        write_key(path, _KEY)
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_that_can_t_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk fails, no half-written key is in the way of the next attempt."""

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InvalidKey, match="No space left"):
        write_key(tmp_path / "audit.key", _KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """The error names the file and what the system says."""
    with pytest.raises(InvalidKey, match=r"audit\.key: can't be written: No such file"):
        write_key(tmp_path / "missing" / "audit.key", _KEY)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_that_only_we_can_read_is_read(tmp_path: Path, mode: int) -> None:
    """Whether we may also write it does not matter."""
    assert SigningKey.read(_file(tmp_path / "audit.key", _KEY, mode=mode)) == _KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666])
def test_a_file_that_others_have_rights_to_is_refused(tmp_path: Path, mode: int) -> None:
    """A private key that others can read is none; who can write it can choose who signs."""
    path = _file(tmp_path / "a key", _KEY, mode=mode)
    with pytest.raises(InvalidKey) as raised:
        SigningKey.read(path)
    assert f"chmod 600 '{path}'" in str(raised.value)


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could read it, or put another key there."""
    path = _file(tmp_path / "audit.key", _KEY)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(InvalidKey, match="chown"):
        SigningKey.read(path)


def test_a_pipe_or_directory_is_refused_at_once(tmp_path: Path) -> None:
    """Reading never waits for somebody to write into a named pipe."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(InvalidKey, match="no regular file"):
            SigningKey.read(path)


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xff\xfe", b"x" * 70_000], ids=len)
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever a file holds, if it is no key it raises `InvalidKey`, with the file's name."""
    path = tmp_path / "audit.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidKey, match=r"audit\.key: "):
        read_keys(path)


def test_one_key_is_asked_for_and_two_are_there(tmp_path: Path) -> None:
    """Which of two keys is meant is never guessed."""
    path = _file(tmp_path / "audit.key", _KEY, _OTHER)
    assert read_keys(path) == (_KEY, _OTHER)
    with pytest.raises(InvalidKey, match="2 keys"):
        SigningKey.read(path)


# --- the environment


@pytest.mark.parametrize("environ", [{}, {KEY_VARIABLE: " \n"}, {FILE_VARIABLE: ""}])
def test_without_a_setting_there_is_no_key(environ: dict[str, str]) -> None:
    """Neither variable set, or set to nothing: a log without keys."""
    assert signing_keys(environ) == ()


def test_keys_come_from_the_environment() -> None:
    """Several keys stand with white space between them; the same one twice is one."""
    environ = {KEY_VARIABLE: f"{_KEY.text()}\n {_OTHER.text()}\n{_KEY.text()}"}
    assert signing_keys(environ) == (_KEY, _OTHER)


def test_keys_come_from_files(tmp_path: Path) -> None:
    """Several files stand with a colon between them, and each may hold several keys."""
    third = SigningKey.from_seed(_KEY.name, bytes(32))
    paths = [_file(tmp_path / "new", _OTHER), _file(tmp_path / "old", _KEY, third)]
    environ = {FILE_VARIABLE: os.pathsep.join(map(str, paths))}
    assert signing_keys(environ) == (_OTHER, _KEY, third)


def test_keys_come_from_one_place(tmp_path: Path) -> None:
    """With both variables set nobody could tell which key signs."""
    environ = {KEY_VARIABLE: _KEY.text(), FILE_VARIABLE: str(_file(tmp_path / "key", _KEY))}
    with pytest.raises(InvalidKey, match="unset one"):
        signing_keys(environ)


def test_a_bad_key_is_named_by_its_place() -> None:
    """The variable and the number of the key are said, and nothing of the key."""
    bad = _OTHER.text()[:-3]
    with pytest.raises(InvalidKey, match=f"^{KEY_VARIABLE}: key 2: ") as raised:
        signing_keys({KEY_VARIABLE: f"{_KEY.text()} {bad}"})
    assert bad[-20:] not in "".join(traceback.format_exception(raised.value))


def test_a_missing_file_is_an_error() -> None:
    """A log that should sign never goes on without, since a file is gone."""
    with pytest.raises(InvalidKey, match="No such file"):
        signing_keys({FILE_VARIABLE: "/nowhere/audit.key"})


def test_the_keys_of_a_log_have_one_name() -> None:
    """Origins begin with the name: with two of them, nobody could say what a log is called."""
    other = SigningKey.from_seed("example.com/other", _SEED)
    with pytest.raises(InvalidKey, match="share a name"):
        signing_keys({KEY_VARIABLE: f"{_KEY.text()} {other.text()}"})


def test_a_log_does_not_sign_with_a_witness_s_key() -> None:
    """A key that was made with `--witness` isn't taken for a log's."""
    with pytest.raises(InvalidKey, match="witness"):
        signing_keys({KEY_VARIABLE: _WITNESS.text()})


def test_a_key_id_is_what_the_specification_says() -> None:
    """Four bytes of SHA-256 over name, newline, type and key (signed-note, "Signatures")."""
    hashed = b"example.com/audit\n\x01" + _KEY.verifier.public_key
    assert _KEY.verifier.key_id == hashlib.sha256(hashed).digest()[:4]
