"""Hostile files, for both importers that read files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from muniment import Event
from muniment.canonical import encode
from tests.cli.running import Done, muniment, search

_KINDS = ("jsonl", "cloudtrail")


def _good(kind: str, number: int = 1) -> bytes:
    if kind == "jsonl":
        event_id = f"019d0000-000{number}-7000-8000-000000000000"
        return encode(Event(action="login", event_id=event_id))
    record: dict[str, Any] = {
        "eventID": f"id-{number}",
        "eventTime": f"2023-07-10T12:00:0{number}Z",
        "eventSource": "s3.amazonaws.com",
        "eventName": "GetObject",
    }
    return json.dumps(record).encode()


def _import(kind: str, data: bytes, url: str, tmp_path: Path) -> Done:
    path = tmp_path / "source"
    path.write_bytes(data)
    return muniment("import", kind, path, url=url)


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (b"{", ("truncated", "is not JSON")),
        (b"nonsense", ("malformed", "is not JSON")),
        (b"7", ("Expected `object`", "not a JSON object")),
        (b'"text"', ("Expected `object`", "not a JSON object")),
        (b"null", ("Expected `object`", "not a JSON object")),
        (b"{}", ("missing required field `action`", "eventID: is missing")),
        (b'{"action": "\xff\xfe"}', ("'utf-8' codec", "is not UTF-8")),
        (b'{"a": ' * 5000, ("over 64 levels", "is nested too deep")),
        (
            b'{"a": ' + b"[" * 99_999 + b"]" * 99_999 + b"}",
            ("over 64 levels", "is nested too deep"),
        ),
        (b'{"a": "' + b"x" * (9 << 20) + b'"}', ("is over 8 MiB", "is over 8 MiB")),
        (b'{"action": "\x00"}', ("malformed", "Invalid control character")),
    ],
    ids=[
        *("broken", "text", "number", "string", "null", "empty", "not UTF-8"),
        *("deep and broken", "deep", "huge", "control character"),
    ],
)
def test_a_bad_line_is_refused_with_its_place_and_the_rest_goes_on(
    kind: str, bad: bytes, says: tuple[str, str], sqlite_url: str, tmp_path: Path
) -> None:
    """The lines before and after are recorded; the place is named; the exit code is 1."""
    data = b"\n".join([_good(kind, 1), bad, _good(kind, 2)])
    done = _import(kind, data, sqlite_url, tmp_path)
    assert done.exit_code == 1
    assert done.stdout.endswith("3 events (2 new, 0 recorded before, 1 refused)\n")
    assert done.stderr.startswith(f"refused {tmp_path}/source:2: ")
    assert done.stderr.count("\n") == 1
    assert says[_KINDS.index(kind)] in done.stderr
    assert len(search(sqlite_url)) == 2


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize(
    "data", [b"", b"\n\n  \r\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)], ids=repr
)
def test_an_empty_file_is_no_event(kind: str, data: bytes, sqlite_url: str, tmp_path: Path) -> None:
    """Nothing to import is not a failure."""
    done = _import(kind, data, sqlite_url, tmp_path)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "0 events" in done.stdout


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress], ids=["plain", "gzip"])
def test_a_byte_order_mark_and_other_line_ends_are_no_trouble(
    kind: str, pack: Any, sqlite_url: str, tmp_path: Path
) -> None:
    """Files that went through Windows, or gzip, are read as they were meant."""
    data = pack(b"\xef\xbb\xbf" + _good(kind, 1) + b"\r\n\r\n" + _good(kind, 2))
    done = _import(kind, data, sqlite_url, tmp_path)
    assert (done.exit_code, "2 events (2 new" in done.stdout) == (0, True)


@pytest.mark.parametrize("kind", _KINDS)
def test_a_gzip_file_that_breaks_off_is_a_failure(
    kind: str, sqlite_url: str, tmp_path: Path
) -> None:
    """An incomplete download is told of in one line, and never taken for the whole."""
    data = gzip.compress(b"\n".join(_good(kind, n) for n in range(1, 9)))[:-9]
    done = _import(kind, data, sqlite_url, tmp_path)
    assert done.exit_code == 1
    assert "can't be read" in done.stderr
    assert "safe to run this again" in done.stderr


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("name", ["nothing-here", "."])
def test_a_file_that_cannot_be_read_is_a_failure(kind: str, name: str, sqlite_url: str) -> None:
    """The file is named, and the reason."""
    done = muniment("import", kind, name, url=sqlite_url)
    assert done.exit_code == 1
    assert f"{name} can't be read" in done.stderr


@pytest.mark.parametrize("kind", _KINDS)
def test_standard_input_is_a_source_too(kind: str, sqlite_url: str) -> None:
    """`-` reads what another program writes."""
    done = muniment("import", kind, "-", url=sqlite_url, stdin=_good(kind))
    assert done.stdout == "standard input: 1 events (1 new, 0 recorded before)\n"


@pytest.mark.parametrize("kind", _KINDS)
def test_many_refusals_are_counted_and_a_hundred_shown(
    kind: str, sqlite_url: str, tmp_path: Path
) -> None:
    """A file of something else fills no screens."""
    done = _import(kind, b"nonsense\n" * 2500, sqlite_url, tmp_path)
    assert "2,500 refused" in done.stdout
    assert "refused 2,400 more" in done.stderr
    assert done.stderr.count("\n") == 101


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"Records": [{GOOD}, {GOOD2}', "breaks off"),
        ('{"Records": [{GOOD}, {GOOD2}, nonsense]}', "is not JSON"),
        ('{"Records": [{GOOD}, {GOOD2}]} trailing', "neither a document"),
        ('{"Records": [{GOOD}, 7, {GOOD2}]}', "is int, not a JSON object"),
        ('{"Records": [{GOOD}, {GOOD2}, "' + "x" * (17 << 20) + '"]}', "is over 8 MiB"),
    ],
    ids=["breaks off", "not JSON", "trailing", "number", "huge"],
)
def test_a_broken_document_gives_what_comes_before_the_break(
    text: str, says: str, sqlite_url: str, tmp_path: Path
) -> None:
    """Whole records are recorded, and the break is told of with its place."""
    good = [_good("cloudtrail", n).decode() for n in (1, 2)]
    data = text.replace("{GOOD}", good[0]).replace("{GOOD2}", good[1]).encode()
    done = _import("cloudtrail", data, sqlite_url, tmp_path)
    assert (done.exit_code, "2 new" in done.stdout) == (1, True)
    assert says in done.stderr


def test_hidden_characters_of_a_file_are_not_obeyed(sqlite_url: str, tmp_path: Path) -> None:
    """A complaint about a hostile line shows its bytes as escapes."""
    line = json.dumps({"\x1b]0;owned\u202e": 1, "action": "a"}, ensure_ascii=False).encode()
    done = _import("jsonl", line.replace(b"\\u001b", b"\\u001b"), sqlite_url, tmp_path)
    assert done.exit_code == 1
    assert set(done.stderr) & set("\x1b\u202e") == set()
