"""Where events end in a body: however it is cut into chunks, the same events come out."""

from __future__ import annotations

import itertools
import json
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.http.api.framing import Elements, Framing, Lines
from muniment.http.problems import Refusal

_LONGEST: Final = 24
_MALFORMED: Final = b"malformed"

_pieces = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b" ",
        b"\xef\xbb\xbf",
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b'"',
        b"\\",
        b'\\"',
        b'{"a":1}',
        b'{"a":"],\\"["}',
        b"\xff",
        b"x" * 20,
        "ß".encode(),
    ]
)
_bodies = st.lists(_pieces, max_size=30).map(b"".join)
_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def _framed(framing: Framing, chunks: list[bytes]) -> list[bytes | None]:
    found: list[bytes | None] = []
    try:
        for chunk in chunks:
            found += framing.feed(chunk)
        found += framing.finish()
    except Refusal:
        found.append(_MALFORMED)
    return found


def _cut(body: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [body[a:b] for a, b in itertools.pairwise(places)]


@pytest.mark.parametrize("kind", [Lines, Elements])
@given(body=_bodies, cuts=st.lists(st.integers(0, 1_000), max_size=12))
def test_chunks_make_no_difference(
    kind: type[Lines | Elements], body: bytes, cuts: list[int]
) -> None:
    """Any body, cut anywhere, gives what it gives in one piece."""
    assert _framed(kind(_LONGEST), _cut(body, cuts)) == _framed(kind(_LONGEST), [body])


@given(st.lists(_values, max_size=5), st.sampled_from([None, 1]), st.booleans())
def test_elements_are_those_of_the_array(
    values: list[object],
    indent: int | None,
    ascii_only: bool,  # noqa: FBT001 - drawn
) -> None:
    """An array's elements come out one by one, whatever is in them and between them."""
    body = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    found = _framed(Elements(10_000), [body])
    assert [json.loads(each or b"") for each in found] == values


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", []),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\nb", [b"a", b"b"]),
        (b"\n \r\n\na\n\t\n", [b"a"]),
        (b"\xef\xbb\xbfa\nb", [b"a", b"b"]),
        (b"x" * 25 + b"\nb", [None, b"b"]),
        (b"a\n" + b"x" * 10**6, [b"a", None]),
        (b"x" * 24 + b"\n", [b"x" * 24]),
    ],
)
def test_lines(body: bytes, found: list[bytes | None]) -> None:
    """Blank lines are none, a byte order mark is skipped, and a line that is too long is None."""
    assert _framed(Lines(_LONGEST), [body]) == found


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"[]", []),
        (b" \xef\xbb\xbf", [_MALFORMED]),
        (b"\xef\xbb\xbf [ ] ", []),
        (b"[1,]", [b"1", b""]),
        (b"[,]", [b"", b""]),
        (b"[1", [_MALFORMED]),
        (b'["a', [_MALFORMED]),
        (b"[1]]", [b"1", _MALFORMED]),
        (b"[1] x", [b"1", _MALFORMED]),
        (b'{"a":1}', [_MALFORMED]),
        (b"", [_MALFORMED]),
        (b'["\\"],", 2]', [b'"\\"],"', b" 2"]),
        (b"[" + b"x" * 25 + b",1]", [None, b"1"]),
    ],
)
def test_elements(body: bytes, found: list[bytes | None]) -> None:
    """What ends before an array breaks is found; the break itself is a 400."""
    assert _framed(Elements(_LONGEST), [body]) == found


@pytest.mark.parametrize("kind", [Lines, Elements])
def test_what_is_too_long_is_not_kept(kind: type[Lines | Elements]) -> None:
    """A line or element without an end takes no more memory than one of the longest."""
    framing = kind(1_000)
    framing.feed(b"[" + b"x" * 500)
    for _ in range(100):
        framing.feed(b"y" * 900)
    held = framing._rest if isinstance(framing, Lines) else framing._part
    assert len(held) <= 1_000
