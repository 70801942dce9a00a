from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from muniment.keys import SigningKey
from tests.proofs.evidence_files import KEY, OTHER_KEY, bodies, body, note_of, root_of, write

_PAGE = Path(__file__).parents[2] / "docs" / "verify-without-us.md"
_LEAVES = bodies(21)
_RUN_WITHOUT_US = """
import runpy, sys
sys.modules["muniment"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _script(directory: Path, name: str) -> Path:
    """One of the scripts of the page, as a reader would save it."""
    page = _PAGE.read_text()
    found = re.search(
        rf"Save\s+this as `{name}`.*?^```py\n(.*?)^```$", page, re.DOTALL | re.MULTILINE
    )
    assert found is not None
    path = directory / name
    path.write_text(found[1])
    return path


def _run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _RUN_WITHOUT_US, str(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def _check(tmp_path: Path, file: bytes, key: SigningKey = KEY) -> subprocess.CompletedProcess[str]:
    evidence = tmp_path / "acme.jsonl"
    evidence.write_bytes(file)
    vkey = key.for_tenant("acme").verifier.text()
    return _run(_script(tmp_path, "check.py"), str(evidence), vkey)


def test_a_whole_log_holds(tmp_path: Path) -> None:
    """With other people's tools alone, the file says the same."""
    done = _check(tmp_path, write(tmp_path / "evidence", _LEAVES))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "21 events are in the tree of 21 leaves that example.com/audit/acme signed\n"
    )


@pytest.mark.parametrize("size", [1, 2, 8, 21])
def test_parts_of_a_log_hold(tmp_path: Path, size: int) -> None:
    """So does a file with leaves omitted and erased, and its consistency with an older one."""
    shown = [n for n in range(size) if n % 5 not in {2, 3}]
    file = write(
        tmp_path / "evidence", _LEAVES[:size], shown, erased=shown[1:2], old_size=size // 2
    )
    done = _check(tmp_path, file)
    assert (done.returncode, done.stderr) == (0, "")
    older = "1 leaf" if size // 2 == 1 else f"{size // 2} leaves"
    assert f"nothing in the older tree of {older} changed" in done.stdout


def _swapped(file: bytes) -> bytes:
    lines = file.splitlines(keepends=True)
    lines[3], lines[4] = lines[4], lines[3]
    return b"".join(lines)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda file: file.replace(b'"id":"u3"', b'"id":"u4"', 1),
        lambda file: b"".join(file.splitlines(keepends=True)[:-1]),
        lambda file: file[:-1],
        lambda file: file + body(50) + b"\n",
        lambda file: file.replace(b'"omitted":3', b'"omitted":4'),
        lambda file: file.replace(b'"tenant_id":"acme"', b'"tenant_id":"beta"', 2),
        lambda file: file.replace(b"\\n21\\n", b"\\n22\\n", 1),
        _swapped,
    ],
)
def test_a_file_that_was_tampered_with_does_not_hold(
    tmp_path: Path, tamper: Callable[[bytes], bytes]
) -> None:
    """What muniment finds, they find."""
    file = write(tmp_path / "evidence", _LEAVES, [0, 1, 2, 3, 7, 8, 9, *range(13, 21)])
    assert tamper(file) != file
    done = _check(tmp_path, tamper(file))
    assert (done.returncode, done.stdout) == (1, "")


def test_a_file_that_another_key_signed_does_not_hold(tmp_path: Path) -> None:
    """The key is not taken from the file."""
    done = _check(tmp_path, write(tmp_path / "evidence", _LEAVES), OTHER_KEY)
    assert (done.returncode, done.stdout) == (1, "")


def test_one_event_is_one_event(tmp_path: Path) -> None:
    """What is said of one is said in the singular."""
    done = _check(tmp_path, write(tmp_path / "evidence", _LEAVES[:1]))
    assert done.stdout == "1 event is in the tree of 1 leaf that example.com/audit/acme signed\n"


def test_the_key_of_all_tenants_is_answered_in_a_sentence(tmp_path: Path) -> None:
    """Whoever gives the key by the log's name is told which one to take."""
    evidence = tmp_path / "acme.jsonl"
    write(evidence, _LEAVES)
    done = _run(_script(tmp_path, "check.py"), str(evidence), KEY.verifier.text())
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "take the key of the tenant's own log" in done.stderr


def test_a_tenant_that_the_log_is_not_of_does_not_hold(tmp_path: Path) -> None:
    """A header can't give one tenant's tree, without a body in it, for another's."""
    file = write(tmp_path / "evidence", _LEAVES, [])
    done = _check(tmp_path, file.replace(b'"tenant_id":"acme"', b'"tenant_id":"beta"'))
    assert (done.returncode, done.stdout) == (1, "")
    assert "its log is not beta's" in done.stderr


@pytest.mark.parametrize("size", [31, 33])
def test_a_hash_of_another_length_does_not_hold(tmp_path: Path, size: int) -> None:
    """Two hashes of odd lengths could else be taken for two others."""
    file = write(tmp_path / "evidence", _LEAVES, erased=[20])
    head, _, _ = file[:-1].rpartition(b"\n")
    odd = base64.b64encode(b"h" * size)
    done = _check(tmp_path, head + b'\n{"leaf_hash":"' + odd + b'"}\n')
    assert (done.returncode, done.stdout) == (1, "")
    assert f"at leaf 20 it has a hash of {size} bytes" in done.stderr


def test_a_forged_consistency_proof_does_not_hold(tmp_path: Path) -> None:
    """Nothing is said of the older checkpoint unless its proof holds."""
    file = write(tmp_path / "evidence", _LEAVES, old_size=9)
    forked = note_of([body(99), *_LEAVES[1:]], 9)
    own = note_of(_LEAVES, 9)
    done = _check(tmp_path, file.replace(_in_json(own), _in_json(forked)))
    assert done.returncode == 1
    assert "nothing in the older tree" not in done.stdout


def _in_json(note: str) -> bytes:
    return note.replace("\n", "\\n").encode()


def test_the_root_is_the_one_that_others_compute(tmp_path: Path) -> None:
    """The second script prints the root of the checkpoint, and another one if a byte differs."""
    script = _script(tmp_path, "root.py")
    evidence = tmp_path / "acme.jsonl"
    file = write(evidence, _LEAVES)
    root = base64.b64encode(root_of(_LEAVES)).decode()
    assert _run(script, str(evidence)).stdout == f"{root}\n"
    evidence.write_bytes(file.replace(b'"id":"u3"', b'"id":"u4"', 1))
    assert _run(script, str(evidence)).stdout not in {"", f"{root}\n"}
