"""The command that checks an evidence file, with no store at hand."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from muniment.cli.known_keys import KEY_OR_FILE, known_keys
from muniment.cli.progress import Progress
from muniment.errors import VerificationError
from muniment.visible import visible

# What verifies is imported where it is needed: other commands do without.
if TYPE_CHECKING:
    from muniment.evidence import Verified


@click.command(
    epilog="\b\nFor example:\n"
    "  muniment verify acme.jsonl --key example.com/audit+530d903a+AekyeRrm...\n"
    "  muniment verify acme.jsonl --key @audit.pub --old-checkpoint kept.txt"
)
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)
@click.option(
    "--key",
    "keys",
    required=True,
    multiple=True,
    metavar=KEY_OR_FILE,
    help="A public key, as `muniment keygen` printed it, or a file of some, one a line: the log's "
    "or the tenant's own, and those of witnesses, who must have cosigned; may be given again.",
)
@click.option("--tenant", "tenant_id", metavar="ID", help="The file must be of this tenant.")
@click.option(
    "--old-checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A checkpoint that you kept: nothing before it may have changed.",
)
def verify(
    *, file: Path, keys: Sequence[str], tenant_id: str | None, old_checkpoint: Path | None
) -> None:
    """Check an evidence file, without a database ('-' is stdin).

    Nothing is asked of the log that the file is from. What the file proves is said line by line.
    The exit code is 1 if it does not hold.
    """
    from muniment.evidence import verify_evidence

    known = known_keys(keys, option="--key")
    given = None if old_checkpoint is None else old_checkpoint.read_bytes()
    name = "stdin" if str(file) == "-" else str(file)
    counted = 0
    with _opened(file) as source, _progress(name) as progress:
        size = _size_of(source)

        def on_chunk(done: int, events: int) -> None:
            nonlocal counted
            progress.advance(events - counted, done=done, total=size)
            counted = events

        try:
            found = verify_evidence(
                source, known, tenant_id=tenant_id, old_checkpoint=given, progress=on_chunk
            )
        except VerificationError as error:
            raise VerificationError(f"{name} does not hold: {error}") from None
    click.echo(visible(f"{name} holds:"))
    for line in _what_holds(found):
        click.echo(visible(f"  - {line}"))
    click.echo("It does not show:")
    for line in _what_is_open(found):
        click.echo(visible(f"  - {line}"))


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """The file, or stdin, which stays open."""
    if str(file) == "-":
        yield sys.stdin.buffer
    else:
        with file.open("rb") as opened:
            yield opened


def _progress(name: str) -> Progress:
    return Progress(f"Verifying {name}", unit="events", beside_output=True)


def _size_of(file: BinaryIO) -> int | None:
    try:
        found = os.fstat(file.fileno())
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _what_holds(found: Verified) -> Iterator[str]:
    """What is proved, in plain words."""
    for signature in found.signatures:
        key = f"{signature.name}+{signature.key_id.hex()}"
        if signature.seconds is None:
            yield (
                f"signature of key {key}, on the checkpoint of {found.origin} at "
                f"{_count(found.tree_size, 'leaf')}"
            )
        else:
            yield f"cosignature of witness {key} on it, of {_moment(signature.seconds)}"
    if found.first_leaf is None:
        yield f"the tree is this tenant's, {found.tenant_id}; no event of it is in the file"
        return
    is_one = found.first_leaf == found.last_leaf
    leaves = f"leaf {found.first_leaf:,}"
    if not is_one:
        leaves = f"leaves {found.first_leaf:,} to {found.last_leaf:,}"
    yield (
        f"{_count(found.events, 'event')} of tenant {found.tenant_id}, in {leaves}: in the tree "
        f"under the checkpoint, unchanged{'' if is_one else ' and in this order'}"
    )
    if found.first_occurred_at is not None and found.last_occurred_at is not None:
        first = found.first_occurred_at.isoformat(" ", "seconds")
        last = found.last_occurred_at.isoformat(" ", "seconds")
        if found.events == 1:
            yield f"it says that it occurred at {first}"
        else:
            yield f"they say that they occurred from {first} to {last}"
    if found.erased:
        yield (
            f"{_count(found.erased, 'event')} without a body (erased, or not disclosed): "
            f"{'their hashes are' if found.erased > 1 else 'its hash is'} in the tree"
        )
    if not found.omitted_within and not is_one:
        yield "nothing between them is left out"
    for size in found.consistent_with:
        yield (
            f"consistent with the checkpoint of {_count(size, 'leaf')}: nothing before it was "
            "edited, removed, reordered or put in"
        )


def _what_is_open(found: Verified) -> Iterator[str]:
    """What a reader might take for proved, and isn't."""
    before_and_behind = found.omitted - found.omitted_within
    if found.omitted_within:
        yield (
            f"what is in {_count(found.omitted_within, 'leaf')} between them, which the file "
            "leaves out"
        )
    if before_and_behind:
        them = "it" if found.first_leaf == found.last_leaf else "them"
        yield f"what is in {_count(before_and_behind, 'leaf')} before and behind {them}"
    if found.filter:
        asked = json.dumps(found.filter, ensure_ascii=False)
        yield f"that these are all events which the exporter says were asked for: {asked}"
    if found.unknown_key_ids:
        yield f"who signed as {', '.join(found.unknown_key_ids)}: no key was given for that"
    yield "what was recorded after the checkpoint, nor that what the events say is true"


def _moment(seconds: int) -> str:
    """A witness's time, which may be of any year."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds")
    except (ValueError, OverflowError):
        return f"{seconds} Unix seconds"


def _count(number: int, what: str) -> str:
    if number == 1:
        return f"1 {what}"
    return f"{number:,} {'leaves' if what == 'leaf' else what + 's'}"
