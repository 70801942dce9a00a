from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muniment import merkle
from muniment.errors import MunimentError, VerificationError
from muniment.evidence import EvidenceWriter
from tests.proofs.evidence_files import TENANT, bodies, consistency, note_of, roots, verify, write

_LEAVES = bodies(12)


def _writer(path: Path, **options: Any) -> EvidenceWriter:
    given = {"checkpoint": note_of(_LEAVES), "first_leaf": 0, "leaves": 12, **options}
    return EvidenceWriter(path, tenant_id=TENANT, **given)


def _tell(path: Path, *told: tuple[Any, ...], **options: Any) -> None:
    """Write a file by what is told: the name of a method and its arguments, one after the other."""
    with _writer(path, **options) as writer:
        for method, *arguments in told:
            getattr(writer, method)(*arguments)


_ALL = [("event", leaf) for leaf in _LEAVES]


def test_the_file_is_there_once_it_holds(tmp_path: Path) -> None:
    """While it is written there is no file of that name; then there is one, and nothing else."""
    path = tmp_path / "evidence"
    with _writer(path) as writer:
        for leaf in _LEAVES:
            writer.event(leaf, merkle.leaf_hash(leaf))
        assert not path.exists()
    assert verify(path.read_bytes()).events == 12
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_that_name_is_replaced_only_by_one_that_holds(tmp_path: Path) -> None:
    """An export that fails leaves the earlier one as it was."""
    path = tmp_path / "evidence"
    path.write_text("earlier")
    with pytest.raises(VerificationError):
        _tell(path, _ALL[0])
    assert (path.read_text(), len(list(tmp_path.iterdir()))) == ("earlier", 1)
    assert write(path, _LEAVES) == path.read_bytes() != b"earlier"


def test_each_body_is_its_leaf_s(tmp_path: Path) -> None:
    """A body that was edited in the store is named, not only found out at the end."""
    first = ("event", _LEAVES[0], merkle.leaf_hash(_LEAVES[0]))
    edited = ("event", _LEAVES[2], merkle.leaf_hash(_LEAVES[1]))
    with pytest.raises(VerificationError, match="leaf 1: the body"):
        _tell(tmp_path / "e", first, edited)
    assert list(tmp_path.iterdir()) == []


def test_leaves_that_lead_elsewhere_make_no_file(tmp_path: Path) -> None:
    """The root is compared before the file is said to be done."""
    with pytest.raises(VerificationError, match="do not lead to"):
        _tell(tmp_path / "e", *reversed(_ALL))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "run",
    [
        (1, 5, roots(_LEAVES, 1, 5)),
        (0, 13, roots(_LEAVES, 0, 5)),
        (0, 5, roots(_LEAVES, 0, 5)[:-1]),
        (0, 5, [*roots(_LEAVES, 0, 5)[:-1], b"short"]),
        (5, 0, []),
    ],
    ids=lambda run: f"{run[0]}-{run[1]}",
)
def test_leaves_are_told_one_after_the_other(tmp_path: Path, run: tuple[Any, ...]) -> None:
    """A gap is told where it is, and with the hashes that are due."""
    with pytest.raises(VerificationError):
        _tell(tmp_path / "e", ("omitted", *run))
    assert list(tmp_path.iterdir()) == []


def test_a_gap_is_told_at_once(tmp_path: Path) -> None:
    """The file has one form, so that two runs of omitted leaves never stand side by side."""
    runs = [("omitted", a, b, roots(_LEAVES, a, b)) for a, b in ((0, 4), (4, 5))]
    with pytest.raises(VerificationError, match="one run"):
        _tell(tmp_path / "e", *runs)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"action":"a\n"}', b'{"action":"' + b"x" * 2**21])
def test_what_is_no_body_is_not_written(tmp_path: Path, body: bytes) -> None:
    """A line that could be taken for another, or for two, never gets into a file."""
    with pytest.raises(VerificationError, match="leaf 0"):
        _tell(tmp_path / "e", ("event", body))


def test_more_leaves_than_there_are_make_no_file(tmp_path: Path) -> None:
    """The tree under the checkpoint ends where it ends."""
    with pytest.raises(VerificationError, match="beyond"):
        _tell(tmp_path / "e", *_ALL, _ALL[0])


@pytest.mark.parametrize("announced", [{"leaves": 11}, {"first_leaf": 1, "leaves": 11}])
def test_the_range_announced_is_the_range_told(tmp_path: Path, announced: Any) -> None:
    """The header is written first, and must not say what the file doesn't hold."""
    with pytest.raises(VerificationError, match="announced"):
        _tell(tmp_path / "e", *_ALL, **announced)


@pytest.mark.parametrize(
    "options",
    [
        {"checkpoint": "x"},
        {"checkpoint": note_of(_LEAVES, tenant_id="beta")},
        {"old_checkpoint": note_of(_LEAVES, 5)},
        {"old_checkpoint": note_of(_LEAVES, 5), "consistency": consistency(_LEAVES, 6)},
        {"consistency": consistency(_LEAVES, 6)},
        {"first_leaf": -1},
    ],
)
def test_a_header_that_would_not_be_verified_is_refused_at_once(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """Before anything is read from a store, the header is known to be sound."""
    with pytest.raises(VerificationError):
        _writer(tmp_path / "e", **options)


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A directory that isn't there is an error with the file's name, not the system's own."""
    with pytest.raises(MunimentError, match="no/where: can't be written"):
        _tell(tmp_path / "no/where")
