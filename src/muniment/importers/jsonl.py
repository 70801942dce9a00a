"""Imports muniment's own lines: bodies as `search --format jsonl` prints them, one a line.

An imported event keeps its event_id, its times of occurring and all else that its source supplied.
`recorded_at` and `salt` are the importing log's own, so they are given anew.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any, Final

import msgspec

from muniment import canonical
from muniment.errors import InvalidEvent
from muniment.event import SCHEMA_VERSION, Actor, Change, Context, Event, Target
from muniment.importers.base import Importer, Item, Progress
from muniment.importers.files import MAX_LINE_BYTES, SourceFile, lines_of

_MIB: Final = 1024 * 1024


class JsonlImporter(Importer):
    """Reads a file of exported events; `source` is a path, or `-` for standard input.

    With `tenant_id`, every event is recorded under that tenant, whatever its line says.
    """

    def __init__(self, source: str, *, tenant_id: str | None = None) -> None:
        self._file = SourceFile(source)
        self._tenant_id = tenant_id
        self.name = self._file.name

    async def items(self) -> AsyncGenerator[Item, None]:
        """One item for each line that isn't blank."""
        with self._file.open() as file:
            for number, line in lines_of(file):
                yield self._item(f"{self.name}:{number}", line)

    def progress(self) -> Progress:
        """How far the file has been read."""
        return self._file.progress()

    def _item(self, where: str, line: bytes | None) -> Item:
        try:
            if line is None:
                raise InvalidEvent("line", f"is over {MAX_LINE_BYTES // _MIB} MiB; it is no event")  # noqa: TRY301 - one place makes items of problems
            return Item(where=where, event=event_of_line(line.strip(), self._tenant_id))
        except InvalidEvent as problem:
            return Item(where=where, problem=problem)


def event_of_line(line: bytes, tenant_id: str | None = None) -> Event:
    """The event of an exported line, ready to be recorded. Raises `InvalidEvent`."""
    event = canonical.decode(line)
    if event.schema_version > SCHEMA_VERSION:
        raise InvalidEvent(
            "schema_version",
            f"is {event.schema_version}, newer than {SCHEMA_VERSION}, the newest this version of "
            "muniment knows: install a newer muniment",
        )
    raw = msgspec.json.decode(line)
    unknown = next(_unknown_fields(raw), None)
    if unknown is not None:
        raise InvalidEvent(
            unknown, "is no field of an event, and nothing is dropped; put it into details"
        )
    if not raw.get("event_id") and not (raw.get("occurred_at") and raw.get("idempotency_key")):
        raise InvalidEvent(
            "event_id", "is missing; give it, or both occurred_at and idempotency_key"
        )
    changes: dict[str, Any] = {"recorded_at": None, "salt": None}
    if tenant_id is not None:
        changes["tenant_id"] = tenant_id
    return msgspec.structs.replace(event, **changes)


def _unknown_fields(raw: Mapping[str, Any]) -> Iterator[str]:
    yield from _strangers("", raw, Event)
    if "context" in raw:
        yield from _strangers("context.", raw["context"], Context)
    for name, kind in (("targets", Target), ("changes", Change)):
        for n, value in enumerate(raw.get(name, ())):
            yield from _strangers(f"{name}[{n}].", value, kind)
    path, actor = "actor", raw.get("actor")
    while actor is not None:
        yield from _strangers(f"{path}.", actor, Actor)
        path, actor = f"{path}.on_behalf_of", actor.get("on_behalf_of")


def _strangers(path: str, value: Mapping[str, Any], kind: type[msgspec.Struct]) -> Iterator[str]:
    return (f"{path}{key}" for key in value if key not in kind.__struct_fields__)
