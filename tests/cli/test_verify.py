from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from muniment.checkpoint import add_signatures, cosign
from muniment.keys import KeyKind, SigningKey
from tests.cli.running import PROGRAM, environment, muniment
from tests.proofs.evidence_files import KEY, OTHER_KEY, bodies, note_of, write

_LEAVES = bodies(21)
_VKEY = KEY.verifier.text()


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A file of all that is in the log."""
    write(tmp_path / "whole.jsonl", _LEAVES)
    return tmp_path / "whole.jsonl"


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A file of leaves 6 to 17, some omitted and one erased, with an older checkpoint."""
    chosen = [6, 7, 8, 9, 13, 14, 15, 16, 17]
    path = tmp_path / "part.jsonl"
    write(path, _LEAVES, chosen, erased=[8], old_size=9, filter={"action": "role_*"})
    return path


def test_what_holds_is_said_in_plain_words(whole: Path) -> None:
    """Who signed, which events are where, and that none between them is left out."""
    done = muniment("verify", whole, "--key", _VKEY)
    key_id = KEY.for_tenant("acme").verifier.key_id.hex()
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        f"{whole} holds:\n"
        f"  - signature of key example.com/audit/acme+{key_id}, on the checkpoint of "
        "example.com/audit/acme at 21 leaves\n"
        "  - 21 events of tenant acme, in leaves 0 to 20: in the tree under the checkpoint, "
        "unchanged and in this order\n"
        "  - they say that they occurred from 2026-03-04 12:00:00+00:00 to "
        "2026-03-04 12:00:20+00:00\n"
        "  - nothing between them is left out\n"
        "It does not show:\n"
        "  - what was recorded after the checkpoint, nor that what the events say is true\n"
    )


def test_what_a_part_does_not_show_is_said_too(part: Path) -> None:
    """What is left out, and what nobody proved, is not passed over."""
    done = muniment("verify", part, "--key", _VKEY)
    holds, _, open_ = done.stdout.partition("It does not show:")
    assert done.exit_code == 0
    assert "8 events of tenant acme, in leaves 6 to 17" in holds
    assert "1 event without a body (erased, or not disclosed): its hash is in the tree" in holds
    assert "consistent with the checkpoint of 9 leaves" in holds
    assert "nothing between them" not in holds
    assert "3 leaves between them" in open_
    assert "9 leaves before and behind them" in open_
    assert '{"action": "role_*"}' in open_


def test_a_file_that_does_not_hold_is_exit_code_1(whole: Path) -> None:
    """One line says what is wrong, and nothing is said to hold."""
    whole.write_bytes(whole.read_bytes().replace(b'"id":"u3"', b'"id":"u4"', 1))
    done = muniment("verify", whole, "--key", _VKEY)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"muniment: {whole} does not hold: ")
    assert done.stderr.count("\n") == 1


def test_keys_come_from_files_too(whole: Path, tmp_path: Path) -> None:
    """A file of keys, one a line, is as good as the keys; the tenant's own key is enough."""
    keys = tmp_path / "keys"
    keys.write_text(f"{OTHER_KEY.verifier.text()}\n\n{_VKEY}\n")
    own = KEY.for_tenant("acme").verifier.text()
    assert muniment("verify", whole, "--key", f"@{keys}").exit_code == 0
    assert muniment("verify", whole, "--key", own).exit_code == 0
    assert muniment("verify", whole, "--key", OTHER_KEY.verifier.text()).exit_code == 1


def test_a_witness_whose_key_is_given_must_have_cosigned(whole: Path, tmp_path: Path) -> None:
    """Whoever names a witness asks for its word; the answer says which word is missing."""
    witness = SigningKey.from_seed("example.org/witness", b"3" * 32, kind=KeyKind.WITNESS)
    given = ("--key", _VKEY, "--key", witness.verifier.text())
    done = muniment("verify", whole, *given)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "is not cosigned by the witness example.org/witness+" in done.stderr
    note = note_of(_LEAVES)
    note = add_signatures(note, [cosign(note.rpartition("\n\n")[0] + "\n", witness, 1_700_000_000)])
    cosigned = tmp_path / "cosigned.jsonl"
    write(cosigned, _LEAVES, checkpoint=note)
    done = muniment("verify", cosigned, *given)
    assert done.exit_code == 0
    assert "cosignature of witness example.org/witness+" in done.stdout


def test_the_file_must_be_of_the_tenant_asked_for(whole: Path) -> None:
    """With the key of all tenants, somebody else's evidence is not passed off as this one's."""
    assert muniment("verify", whole, "--key", _VKEY, "--tenant", "acme").exit_code == 0
    done = muniment("verify", whole, "--key", _VKEY, "--tenant", "beta")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "is of the tenant acme, not beta" in done.stderr


def test_one_event_is_told_as_one(tmp_path: Path) -> None:
    """One leaf has no range, no order and nothing between."""
    path = tmp_path / "one.jsonl"
    write(path, _LEAVES, [5])
    done = muniment("verify", path, "--key", _VKEY)
    assert "1 event of tenant acme, in leaf 5: in the tree under the checkpoint, unchanged\n" in (
        done.stdout
    )
    assert "it says that it occurred at 2026-03-04 12:00:05+00:00\n" in done.stdout
    assert "20 leaves before and behind it\n" in done.stdout
    assert "them" not in done.stdout


def test_a_key_file_without_its_at_sign_is_recognised(whole: Path, tmp_path: Path) -> None:
    """A file's name in place of a key is answered with how to name a file."""
    keys = tmp_path / "audit.pub"
    keys.write_text(f"{_VKEY}\n")
    done = muniment("verify", whole, "--key", keys)
    assert done.exit_code == 2
    assert f"for a file, write @{keys}" in done.stderr
    assert "for a file" not in muniment("verify", whole, "--key", f"@{whole}").stderr
    assert "for a file" not in muniment("verify", whole, "--key", "x\0" + "y" * 5000).stderr


def test_a_checkpoint_that_was_kept_is_compared(whole: Path, tmp_path: Path) -> None:
    """Whoever kept a checkpoint sees that nothing before it changed, or that something did."""
    kept = tmp_path / "kept"
    kept.write_text(note_of(_LEAVES, 12))
    done = muniment("verify", whole, "--key", _VKEY, "--old-checkpoint", kept)
    assert "consistent with the checkpoint of 12 leaves" in done.stdout
    kept.write_text(note_of([*_LEAVES[:5], *_LEAVES[6:]], 12))
    done = muniment("verify", whole, "--key", _VKEY, "--old-checkpoint", kept)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "not those of the older checkpoint" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("{whole}",),
        ("{whole}.none", "--key", _VKEY),
        ("{whole}", "--key", "nonsense"),
        ("{whole}", "--key", KEY.text()),
        ("{whole}", "--key", "@{whole}.none"),
        ("{whole}", "--key", _VKEY, "--old-checkpoint", "{whole}.none"),
        ("{whole}", "{whole}", "--key", _VKEY),
    ],
)
def test_bad_use_is_exit_code_2(whole: Path, arguments: tuple[str, ...]) -> None:
    """A key or a file that is none says nothing about the evidence; no secret is repeated."""
    done = muniment("verify", *(each.format(whole=whole) for each in arguments))
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert KEY.text() not in done.stderr


def test_evidence_may_come_through_a_pipe(whole: Path) -> None:
    """A file that is kept compressed is verified without being unpacked first."""
    done = muniment("verify", "-", "--key", _VKEY, stdin=whole.read_bytes())
    assert (done.exit_code, done.stderr) == (0, "")


def test_what_the_exporter_says_cannot_control_a_terminal(tmp_path: Path) -> None:
    """A hostile file's own words are shown escaped."""
    path = tmp_path / "evidence"
    write(path, _LEAVES, filter={"action": "\x1b[2J\u202e"})
    shown = muniment("verify", path, "--key", _VKEY).stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown


_WITHOUT_A_DATABASE = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        allowed = {"muniment", "msgspec", "cryptography", "_cffi_backend", "click", "rich"}
        theirs = {"pygments", "markdown_it", "mdurl"}  # rich's own
        if name.partition(".")[0] not in sys.stdlib_module_names | allowed | theirs:
            raise ImportError(f"{name} is imported by what must do without it")

sys.meta_path.insert(0, Block())
from muniment.cli import main
main()
"""


def test_no_database_driver_is_needed(whole: Path) -> None:
    """`muniment verify` runs where SQLAlchemy and the drivers are not installed."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_A_DATABASE, "verify", str(whole), "--key", _VKEY],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "21 events" in done.stdout


def test_the_real_program_exits_with_what_it_found(whole: Path) -> None:
    """A script can go by the exit code."""
    options = [*PROGRAM, "verify", str(whole), "--key"]
    codes = [
        subprocess.run(
            [*options, key], capture_output=True, env=environment(), check=False
        ).returncode
        for key in (_VKEY, OTHER_KEY.verifier.text())
    ]
    assert codes == [0, 1]
