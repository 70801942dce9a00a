"""What a search asks for: filter, cursor, page, and the index terms of an event.

A store's index only nominates events; `EventFilter.matches` decides on the event itself, so every
store, and the tail, agree on what a filter means.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from muniment.actions import Activity, Category, activity_of
from muniment.checks import as_utc, check_id
from muniment.errors import InvalidEvent, InvalidQuery
from muniment.event import ActorType, Event, Outcome
from muniment.event_id import is_event_id

Order = Literal["newest", "oldest"]
MAX_PAGE: Final = 10_000
MAX_ALTERNATIVES: Final = 200
TERM_SEPARATOR: Final = "\x1f"
"""Stands between the terms of an event; ids can't hold control characters."""


def index_terms(event: Event) -> str:
    """The terms under which an event is found, each between two separators; the action first."""
    actor = event.actor
    found = (
        f"\x1faction:{event.action}\x1foutcome:{event.outcome._value_}\x1factor:{actor.id}"
        f"\x1factor_type:{actor.type}\x1f"
    )
    if actor.type == "user":
        found += f"user:{actor.id}\x1f"
    elif actor.type == "agent":
        found += f"agent:{actor.id}\x1f"
    behalf = actor.on_behalf_of
    if behalf is not None and behalf.on_behalf_of is None and behalf.type != actor.type:
        if behalf.type in {"user", "agent"}:
            found += f"{behalf.type}:{behalf.id}\x1f"
    elif behalf is not None:
        if actor.type != "user" and (user_id := event.user_id) is not None:
            found += f"user:{user_id}\x1f"
        if actor.type != "agent" and (agent_id := event.agent_id) is not None:
            found += f"agent:{agent_id}\x1f"
    if event.targets:
        named = [f"target:{target.id}\x1ftarget_type:{target.type}" for target in event.targets]
        if len(named) > 1:
            named = list(dict.fromkeys("\x1f".join(named).split("\x1f")))
        found += "\x1f".join(named) + "\x1f"
    context = event.context
    if context.request_id is not None:
        found += f"request:{context.request_id}\x1f"
    if context.trace_id is not None:
        found += f"trace:{context.trace_id}\x1f"
    if context.run_id is not None:
        found += f"run:{context.run_id}\x1f"
    if context.session_id is not None:
        found += f"session:{context.session_id}\x1f"
    return found


class Clause(msgspec.Struct, frozen=True):
    """One condition on terms: an event has one of `exact`, or one that starts with a prefix."""

    kind: str
    exact: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    category: Category | None = None
    activity: tuple[Activity, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether the terms that satisfy it must be looked up first."""
        return bool(self.prefixes or self.category or self.activity)

    def admits(self, action: str, category: Category) -> bool:
        """Whether events with that action, of that category, satisfy it."""
        term = f"action:{action}"
        return (
            term in self.exact
            or (bool(self.prefixes) and term.startswith(self.prefixes))
            or category == self.category
            or activity_of(category) in self.activity
        )


class EventFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which events: all given conditions hold; None asks nothing.

    `action`, `activity` and `outcome` hold alternatives. An action ending in `*` is a prefix.
    `since` is inclusive, `until` exclusive, both on `occurred_at`. `text` is a part of the body,
    compared without regard to ASCII case. `user_id` and `agent_id` are the first person and the
    first agent in the chain of actors. `activity` goes by the action's category.
    """

    tenant_id: str | None = None
    action: tuple[str, ...] = ()
    category: Category | None = None
    activity: tuple[Activity, ...] = ()
    actor_type: str | None = None
    actor_id: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    target_type: str | None = None
    target_id: str | None = None
    outcome: tuple[Outcome, ...] = ()
    request_id: str | None = None
    session_id: str | None = None
    trace_id: str | None = None
    run_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None

    def clauses(self) -> list[Clause]:
        """The conditions that the index of terms can answer, the most selective kinds first."""
        found = []
        for kind, value in (
            ("request", self.request_id),
            ("session", self.session_id),
            ("trace", self.trace_id),
            ("run", self.run_id),
            ("target", self.target_id),
            ("actor", self.actor_id),
            ("user", self.user_id),
            ("agent", self.agent_id),
        ):
            if value is not None:
                found.append(Clause(kind, (f"{kind}:{value}",)))
        if self.action:
            exact = tuple(f"action:{a}" for a in self.action if not a.endswith("*"))
            prefixes = tuple(f"action:{a[:-1]}" for a in self.action if a.endswith("*"))
            found.append(Clause("action", exact, prefixes))
        if self.category is not None:
            found.append(Clause("action", category=self.category))
        if self.activity:
            found.append(Clause("action", activity=self.activity))
        if self.target_type is not None:
            found.append(Clause("target_type", (f"target_type:{self.target_type}",)))
        if self.outcome:
            found.append(Clause("outcome", tuple(f"outcome:{o.value}" for o in self.outcome)))
        if self.actor_type is not None:
            found.append(Clause("actor_type", (f"actor_type:{self.actor_type}",)))
        return found

    def matches(self, event: Event, body: str, category_of: Callable[[str], Category]) -> bool:
        """Whether the event, with that body, is one that the filter asks for."""
        context = event.context
        return (
            _is(self.tenant_id, event.tenant_id)
            and (not self.action or any(_action_matches(p, event.action) for p in self.action))
            and (self.category is None or category_of(event.action) == self.category)
            and (not self.activity or activity_of(category_of(event.action)) in self.activity)
            and _is(self.actor_type, event.actor.type)
            and _is(self.actor_id, event.actor.id)
            and _is(self.user_id, event.user_id)
            and _is(self.agent_id, event.agent_id)
            and self._target_matches(event)
            and (not self.outcome or event.outcome in self.outcome)
            and _is(self.request_id, context.request_id)
            and _is(self.session_id, context.session_id)
            and _is(self.trace_id, context.trace_id)
            and _is(self.run_id, context.run_id)
            and (self.since is None or event.occurred_at >= self.since)
            and (self.until is None or event.occurred_at < self.until)
            and (self.text is None or ascii_lower(json_inner(self.text)) in ascii_lower(body))
        )

    def _target_matches(self, event: Event) -> bool:
        if self.target_type is None and self.target_id is None:
            return True
        return any(
            _is(self.target_type, t.type) and _is(self.target_id, t.id) for t in event.targets
        )


def make_filter(*, now: datetime, given: Mapping[str, Any]) -> EventFilter:
    """An `EventFilter` from the arguments of a search, checked; relative times count from `now`.

    Raises `InvalidQuery`, naming the argument.
    """
    values: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    for name in values:
        if name not in EventFilter.__struct_fields__:
            raise InvalidQuery(
                name, f"is no filter; there are {', '.join(EventFilter.__struct_fields__)}"
            )
    actions = [_check_pattern(a) for a in _several("action", values.get("action"))]
    outcomes = [_choice(Outcome, "outcome", o) for o in _several("outcome", values.get("outcome"))]
    values["action"] = tuple(dict.fromkeys(actions))
    values["outcome"] = tuple(dict.fromkeys(outcomes))
    values["activity"] = tuple(_activities(values.get("activity")))
    if "category" in values:
        values["category"] = _choice(Category, "category", values["category"])
    if "actor_type" in values and values["actor_type"] not in get_args(ActorType):
        raise InvalidQuery("actor_type", f"is none of {', '.join(get_args(ActorType))}")
    for name in ("since", "until"):
        if name in values:
            values[name] = parse_time(name, values[name], now=now)
    for name, value in values.items():
        if name in _PLAIN_FIELDS and not isinstance(value, str):
            raise InvalidQuery(name, f"is {type(value).__name__}, not a string")
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, str):
                _check_searchable(name, part)
    return EventFilter(**values)


_PLAIN_FIELDS = frozenset(EventFilter.__struct_fields__) - {
    "action",
    "activity",
    "outcome",
    "category",
    "since",
    "until",
}


_AGO = re.compile(r"(\d{1,6})\s*([smhdw])").fullmatch
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_time(name: str, value: datetime | str, *, now: datetime) -> datetime:
    """A time from a datetime, ISO 8601 text, or an age: `30m`, `24h`, `7d`, `2w` before `now`.

    ISO 8601 without an offset is taken as UTC. Raises `InvalidQuery`.
    """
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, str):
        ago = _AGO(value.strip())
        try:
            if ago:
                return now - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
            moment = datetime.fromisoformat(value.strip())
        except (ValueError, OverflowError):
            raise InvalidQuery(
                name, f"{value!r:.60} is neither ISO 8601 (2026-01-31T12:00Z) nor an age (24h, 7d)"
            ) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
    else:
        raise InvalidQuery(name, f"is {type(value).__name__}, not a datetime or text")
    try:
        return as_utc(name, moment)
    except InvalidEvent as error:
        raise InvalidQuery(name, error.problem) from None


_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The place behind which a page ended, and the search that it belongs to."""

    version: int
    order: Order
    event_id: str
    tenant_id: str
    filter_digest: str
    since: _Moment | None
    until: _Moment | None

    def encode(self) -> str:
        """The cursor as opaque text, safe in URLs."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


_CURSOR_VERSION: Final = 1
_cursor_decoder = msgspec.json.Decoder(Cursor)


def filter_digest(wanted: EventFilter) -> str:
    """Names a filter, but for its times: those may be relative, so a cursor carries them."""
    bare = msgspec.structs.replace(wanted, since=None, until=None)
    return hashlib.sha256(msgspec.json.encode(bare)).hexdigest()[:16]


def cursor_after(event_id: str, tenant_id: str, order: Order, wanted: EventFilter) -> str:
    """The opaque cursor for what follows an event's place in a search."""
    digest = filter_digest(wanted)
    cursor = Cursor(_CURSOR_VERSION, order, event_id, tenant_id, digest, wanted.since, wanted.until)
    return cursor.encode()


def resume(text: str, order: Order, wanted: EventFilter) -> tuple[Cursor, EventFilter]:
    """The cursor in `text`, and the filter with the times of the search's first page.

    Raises `InvalidQuery` if the text isn't a cursor, or is one of another search.
    """
    try:
        raw = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
        cursor = _cursor_decoder.decode(raw)
        check_id("cursor", cursor.tenant_id)
    except (ValueError, AttributeError, RecursionError):
        cursor = None
    if cursor is None or cursor.version != _CURSOR_VERSION or not is_event_id(cursor.event_id):
        raise InvalidQuery("cursor", "isn't one; pass the next_cursor of a page as it came")
    if cursor.order != order or cursor.filter_digest != filter_digest(wanted):
        raise InvalidQuery(
            "cursor", "belongs to another search; repeat that one's filter and order"
        )
    return cursor, msgspec.structs.replace(wanted, since=cursor.since, until=cursor.until)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some events of a search, and the cursor for what follows (None at the end).

    When the search's budget ended first, `searched_to` is the time (of event_ids) to which it came.
    """

    events: list[Event]
    next_cursor: str | None = None
    searched_to: datetime | None = None


_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def ascii_lower(text: str) -> str:
    """Lower case for A-Z only: what both databases can do alike, whatever their locale."""
    return text.translate(_LOWER)


def json_inner(text: str) -> str:
    """How `text` stands inside a JSON string."""
    return msgspec.json.encode(text).decode()[1:-1]


def _is(wanted: str | None, value: str | None) -> bool:
    return wanted is None or wanted == value


def _action_matches(pattern: str, action: str) -> bool:
    return action.startswith(pattern[:-1]) if pattern.endswith("*") else action == pattern


def _several(name: str, value: str | Iterable[str] | None) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    try:
        several = list(value)
    except TypeError:
        raise InvalidQuery(name, f"is {type(value).__name__}, not a string or strings") from None
    if not several:
        raise InvalidQuery(name, "is an empty list, which nothing matches; leave it out")
    if len(several) > MAX_ALTERNATIVES:
        raise InvalidQuery(name, f"has {len(several)} alternatives; at most {MAX_ALTERNATIVES} fit")
    return several


def _activities(value: str | Iterable[str] | None) -> list[str]:
    several = _several("activity", value)
    for one in several:
        if one not in get_args(Activity):
            raise InvalidQuery("activity", f"is none of {', '.join(get_args(Activity))}")
    return list(dict.fromkeys(several))


def _check_pattern(pattern: str) -> str:
    if not isinstance(pattern, str) or not pattern:
        raise InvalidQuery("action", f"{pattern!r} is not an action")
    pattern = str.__str__(pattern)
    if "*" in pattern[:-1]:
        raise InvalidQuery("action", f"{pattern!r}: a * may stand at the end only")
    return pattern


def _choice(kind: Any, name: str, value: Any) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise InvalidQuery(name, f"{value!r:.60} is none of {', '.join(kind)}") from None


def _check_searchable(name: str, value: str) -> None:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidQuery(name, "has a lone surrogate; it isn't text") from None
    if not value:
        raise InvalidQuery(name, "is empty; leave it out")
    if size > 4096:
        raise InvalidQuery(name, "is over 4,096 bytes")
    if "\x00" in value and name != "text":
        raise InvalidQuery(name, "has a NUL, which no id holds")
