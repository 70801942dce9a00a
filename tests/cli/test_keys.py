from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from muniment.keys import FILE_VARIABLE, KeyKind, SigningKey, VerifyingKey, signing_keys
from tests.cli.running import environment, muniment


def test_keygen_prints_the_public_key_and_keeps_the_private_one(tmp_path: Path) -> None:
    """Stdout is the public key alone, for scripts; the file is the private one, ours alone."""
    path = tmp_path / "audit.key"
    done = muniment("keygen", "example.com/audit", "--out", path)
    key = SigningKey.read(path)
    assert (done.exit_code, done.stdout) == (0, key.verifier.text() + "\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (key.name, key.kind) == ("example.com/audit", KeyKind.LOG)


def test_keygen_says_what_to_do_with_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting that it names makes a log sign with the new key, from any directory."""
    monkeypatch.chdir(tmp_path)
    said = muniment("keygen", "example.com/audit", "--out", "audit.key").stderr
    (setting,) = (word for word in said.split() if word.startswith(f"{FILE_VARIABLE}="))
    monkeypatch.chdir("/")
    name, _, value = setting.partition("=")
    assert signing_keys({name: value}) == (SigningKey.read(tmp_path / "audit.key"),)


def test_keygen_makes_a_witness_s_key(tmp_path: Path) -> None:
    """Its public key is one for cosignatures, and no log is told to sign with it."""
    done = muniment("keygen", "example.org/w1", "--out", tmp_path / "w1.key", "--witness")
    assert VerifyingKey.parse(done.stdout).kind is KeyKind.WITNESS
    assert SigningKey.read(tmp_path / "w1.key").kind is KeyKind.WITNESS
    assert FILE_VARIABLE not in done.stderr


def test_keygen_overwrites_nothing(tmp_path: Path) -> None:
    """A second run leaves the first key as it is, and fails."""
    path = tmp_path / "audit.key"
    muniment("keygen", "example.com/audit", "--out", path)
    before = path.read_bytes()
    done = muniment("keygen", "example.com/audit", "--out", path)
    assert (done.exit_code, done.stdout, path.read_bytes()) == (2, "", before)
    assert "name another file" in done.stderr


@pytest.mark.parametrize("name", ["", "two words", "a+b", "n" * 300])
def test_keygen_refuses_a_name_that_no_key_can_have(tmp_path: Path, name: str) -> None:
    """Nothing is written then."""
    done = muniment("keygen", name, "--out", tmp_path / "audit.key")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


def test_key_show_prints_the_public_key(tmp_path: Path) -> None:
    """What `keygen` printed can be had again."""
    made = muniment("keygen", "example.com/audit", "--out", tmp_path / "audit.key")
    done = muniment("key", "show", tmp_path / "audit.key")
    assert (done.exit_code, done.stdout, done.stderr) == (0, made.stdout, "")


def test_key_show_prints_a_tenant_s_key(tmp_path: Path) -> None:
    """One line a tenant: each can be given to that tenant's auditor."""
    path = tmp_path / "audit.key"
    muniment("keygen", "example.com/audit", "--out", path)
    done = muniment("key", "show", path, "--tenant", "acme", "--tenant", "a b")
    verifier = SigningKey.read(path).verifier
    assert done.stdout.splitlines() == [
        verifier.for_tenant("acme").text(),
        verifier.for_tenant("a b").text(),
    ]


def test_key_show_prints_every_key_of_a_file(tmp_path: Path) -> None:
    """While one key follows another a file may hold both."""
    keys = [SigningKey.generate("example.com/audit") for _ in range(2)]
    path = tmp_path / "audit.key"
    path.write_text("".join(f"{key.text()}\n" for key in keys))
    path.chmod(0o600)
    assert muniment("key", "show", path).stdout.splitlines() == [k.verifier.text() for k in keys]


def test_a_key_that_others_can_read_is_not_even_shown(tmp_path: Path) -> None:
    """The error says how to mend it."""
    path = tmp_path / "audit.key"
    muniment("keygen", "example.com/audit", "--out", path)
    path.chmod(0o644)
    done = muniment("key", "show", path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"chmod 600 {path}" in done.stderr


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    """One line, with the file and the reason."""
    done = muniment("key", "show", tmp_path / "nothing")
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{tmp_path / 'nothing'}: can't be read: No such file" in done.stderr


def test_no_command_shows_the_private_key(tmp_path: Path) -> None:
    """Neither making nor showing a key, nor failing at it, prints any of the secret part."""
    path = tmp_path / "audit.key"
    said = [muniment("keygen", "example.com/audit", "--out", path)]
    secret = path.read_text().strip().rpartition("+")[2]
    said += [muniment("key", "show", path), muniment("key", "show", path, "--tenant", "t")]
    path.write_text(path.read_text().replace("example.com/", "example.org/"))
    said.append(muniment("key", "show", path))
    assert [done.exit_code for done in said] == [0, 0, 0, 2]
    shown = "".join(done.stdout + done.stderr for done in said)
    assert not any(secret[n : n + 12] in shown for n in range(len(secret) - 11))


def test_commands_without_keys_do_without_cryptography() -> None:
    """Starting any other command doesn't wait for what only signing needs."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys, muniment.cli; print('cryptography' in sys.modules)"],
        capture_output=True,
        text=True,
        env=environment(PATH=os.environ["PATH"]),
        check=True,
    )
    assert done.stdout == "False\n"
