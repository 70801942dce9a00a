"""What goes over the wire: queries, and the bodies of answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from muniment import filter_language
from muniment.actions import ActionInfo, Activity, Category
from muniment.checks import MAX_ID_BYTES, check_id
from muniment.errors import InvalidEvent, InvalidQuery
from muniment.event import ActorType, Event, Outcome
from muniment.http.problems import Problem
from muniment.query import MAX_ALTERNATIVES, Order

_Id = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_ID_BYTES, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]*$"),
]
_Text = Annotated[str, Meta(min_length=1, max_length=1024)]
_Pattern = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_ID_BYTES, pattern="^[^*\\x00-\\x1f\\x7f-\\x9f]*[*]?$"),
]
_Time = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        extra_json_schema={"anyOf": [{"format": "date-time"}, {"pattern": "^[1-9][0-9]?[smhdw]$"}]},
    ),
]
EventId = Annotated[
    str,
    Meta(
        extra_json_schema={"format": "uuid"},
        description="The event's id: a UUIDv7 in lower case.",
    ),
]


class Filters(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Which events: all conditions that are given hold."""

    tenant_id: Annotated[_Id, Meta(description="Of this tenant; else of all that you may see.")] | (
        UnsetType
    ) = UNSET
    action: (
        Annotated[
            tuple[_Pattern, ...],
            Meta(
                min_length=1,
                max_length=MAX_ALTERNATIVES,
                description="This action, or with a `*` at the end all that begin so; repeated: "
                "any of them.",
            ),
        ]
        | UnsetType
    ) = UNSET
    category: Annotated[Category, Meta(description="Actions of this kind.")] | UnsetType = UNSET
    activity: (
        Annotated[
            tuple[Activity, ...],
            Meta(
                min_length=1,
                max_length=8,
                description="What people do, what goes on in the background, or reading the trail; "
                "repeated: any of them.",
            ),
        ]
        | UnsetType
    ) = UNSET
    actor_type: Annotated[ActorType, Meta(description="What kind of actor.")] | UnsetType = UNSET
    actor_id: Annotated[_Id, Meta(description="Who acted.")] | UnsetType = UNSET
    user_id: (
        Annotated[_Id, Meta(description="The person who acted, or was acted for.")] | UnsetType
    ) = UNSET
    agent_id: Annotated[_Id, Meta(description="The agent that acted.")] | UnsetType = UNSET
    target_type: Annotated[_Id, Meta(description="What kind of target.")] | UnsetType = UNSET
    target_id: Annotated[_Id, Meta(description="What was acted upon.")] | UnsetType = UNSET
    outcome: (
        Annotated[
            tuple[Outcome, ...],
            Meta(min_length=1, max_length=8, description="How it ended; repeated: any of them."),
        ]
        | UnsetType
    ) = UNSET
    request_id: Annotated[_Id, Meta(description="Of this request.")] | UnsetType = UNSET
    session_id: Annotated[_Id, Meta(description="Of this session.")] | UnsetType = UNSET
    trace_id: Annotated[_Id, Meta(description="Of this trace.")] | UnsetType = UNSET
    run_id: Annotated[_Id, Meta(description="Of this agent's run.")] | UnsetType = UNSET
    since: (
        Annotated[_Time, Meta(description="From then on (ISO 8601), or for so long: 30m, 24h, 7d.")]
        | UnsetType
    ) = UNSET
    until: Annotated[_Time, Meta(description="Before then.")] | UnsetType = UNSET
    text: Annotated[_Text, Meta(description="With this text anywhere in the body.")] | UnsetType = (
        UNSET
    )
    q: (
        Annotated[
            _Text,
            Meta(description="The same in the filter language: `action:role_* outcome:denied`."),
        ]
        | UnsetType
    ) = UNSET

    def arguments(self) -> dict[str, Any]:
        """The arguments of `AuditLog.search`.

        Raises `InvalidQuery`, also if `q` and a parameter say different things.
        """
        given = {
            name: value
            for name in Filters.__struct_fields__
            if name != "q" and (value := getattr(self, name)) is not UNSET
        }
        if self.q is not UNSET:
            for name, value in filter_language.parse(self.q).items():
                if name in given and _plain(given[name]) != _plain(value):
                    raise InvalidQuery(name, "is given in q and as a parameter, and they differ")
                given[name] = value
        if "tenant_id" in given:
            _check_tenant(given["tenant_id"])
        return given


def _check_tenant(tenant_id: str) -> None:
    try:
        check_id("tenant_id", tenant_id)
    except InvalidEvent as error:
        raise InvalidQuery("tenant_id", error.problem) from None


def _plain(value: Any) -> list[str]:
    several = value if isinstance(value, list | tuple) else (value,)
    return sorted({str(one) for one in several})


class Find(Filters, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The query of a search."""

    order: Annotated[Order, Meta(description="What comes first.")] = "newest"
    limit: (
        Annotated[
            int,
            Meta(
                ge=1,
                description="At most so many events: on a page (50 unless given), or in a stream "
                "(all unless given).",
            ),
        ]
        | UnsetType
    ) = UNSET
    cursor: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=16_384,
                description="The `next_cursor` of a page, to go on behind it: with the same filter "
                "and order.",
            ),
        ]
        | UnsetType
    ) = UNSET


class Tail(Filters, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The query of a tail."""

    after: (
        Annotated[
            EventId,
            Meta(
                description="Begin behind this event; else with what is recorded from now on. "
                "`Last-Event-ID` goes before it."
            ),
        ]
        | UnsetType
    ) = UNSET


class Count(Filters, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The query of a count. Without `since` it is of the 7 days before `until`."""

    bars: Annotated[
        int, Meta(ge=1, le=500, description="About so many bars in the histogram, at most.")
    ] = 60


class OfTenant(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The query of what is of one tenant."""

    tenant_id: (
        Annotated[_Id, Meta(description="The tenant; a credential of one tenant may leave it out.")]
        | UnsetType
    ) = UNSET

    def given(self) -> str | None:
        """The tenant that was asked for. Raises `InvalidQuery`."""
        if self.tenant_id is UNSET:
            return None
        _check_tenant(self.tenant_id)
        return self.tenant_id


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A page of events. `next_cursor` leads to what follows; null at the end.

    `searched_to` is a time if there was none left to look further: the page has what was found up
    to then, maybe nothing, and `next_cursor` goes on from there. Else it is null.
    """

    events: list[Event]
    next_cursor: str | None
    searched_to: datetime | None


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Proves that an event is in its tenant's trail, under a signed checkpoint.

    Hashes are in base64; `hashes` lowest first (RFC 6962, section 2.1.1). `checkpoint` is the
    signed note, `text` all of it as C2SP tlog-proof.
    """

    event_id: str
    tenant_id: str
    leaf_index: int
    leaf_hash: bytes
    origin: str
    tree_size: int
    root_hash: bytes
    hashes: tuple[bytes, ...]
    checkpoint: str
    text: str


class NewestCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's newest checkpoint: what its signed note (C2SP tlog-checkpoint) says, and itself.

    `root_hash` is in base64.
    """

    tenant_id: str
    origin: str
    tree_size: int
    root_hash: bytes
    checkpoint: str


class KnownAction(ActionInfo, frozen=True, kw_only=True):
    """An action; `seen` says whether there are events of it."""

    seen: bool


class Actions(msgspec.Struct, frozen=True, kw_only=True):
    """The catalogue, and the actions that events have beside it."""

    actions: list[KnownAction]


ExportFormat = Literal["jsonl", "csv", "evidence"]
ExportState = Literal["waiting", "running", "done", "failed", "cancelled"]


class NewExport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be exported: `evidence` is of one tenant, and proves what it holds."""

    format: ExportFormat
    filters: Filters = Filters()


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """An export: how far it is, and what became of it.

    `done` counts what is done of `total`, which is null while nobody knows: events, or for
    `evidence` twice the leaves. `events` and `bytes` are what the file holds, once it is there;
    at `expires_at` it is deleted. `problem` says why it failed.
    """

    export_id: str
    format: ExportFormat
    tenant_id: str | None
    filters: Filters
    state: ExportState
    created_at: datetime
    done: int = 0
    total: int | None = None
    events: int | None = None
    bytes: int | None = None
    expires_at: datetime | None = None
    problem: Problem | None = None


class Exports(msgspec.Struct, frozen=True, kw_only=True):
    """The exports of the credential, newest first."""

    exports: list[Export]


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """The service runs."""

    state: Literal["ok"] = "ok"


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """How the log does, or that the service shuts down. Metrics and `muniment db stats` say why."""

    state: Literal["ok", "degraded", "failing", "closing"]


JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"
TEXT: Final = "text/plain"
EVENT_STREAM: Final = "text/event-stream"
