"""What a schema can't say of valid requests, told to Schemathesis: `SCHEMATHESIS_HOOKS` names it.

Each rule is one of the service's own, stated in words in the API's description, and each has its
tests elsewhere. Nothing here touches what a schema does say.
"""

from __future__ import annotations

from typing import Any, Final

import schemathesis

from muniment.canonical import canonical_json
from muniment.errors import InvalidEvent, InvalidQuery
from muniment.filter_language import parse

_NO_EVENT: Final = "01956366-8510-7000-8b24-ea88ced69780"


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:  # noqa: ARG001
    """The case, keeping to what no schema can say if it is meant to be valid."""
    query = case.query if isinstance(case.query, dict) else None
    if query is not None and case.operation.path == "/v1/tail":
        query.setdefault("after", _NO_EVENT)  # or it would never end
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    if query is not None:
        _mend_filters(query)
        query.pop("cursor", None)  # only the service makes them
        if case.operation.path == "/v1/stats":
            _mend_range(query)
        if case.operation.path == "/v1/checkpoint":
            query.setdefault("tenant_id", "acme")
    if case.operation.path == "/v1/viewer-links":
        seconds = case.body.get("lifetime_seconds")
        if isinstance(seconds, float):
            case.body["lifetime_seconds"] = int(seconds)  # written without a fraction
    if case.operation.path == "/v1/exports" and isinstance(case.body, dict):
        _mend_filters(case.body.setdefault("filters", {}))
        if case.body.get("format") == "evidence":
            case.body["filters"].setdefault("tenant_id", "acme")
    if case.operation.path.startswith("/v1/events") and case.headers:
        case.headers.pop("Idempotency-Key", None)  # or it would differ from the body's
    if case.operation.path.startswith("/v1/events"):
        for event in case.body if isinstance(case.body, list) else [case.body]:
            if isinstance(event, dict):
                _mend_event(event)
    return case


def _mend_range(query: dict[str, Any]) -> None:
    """What lies ahead can't be counted, nor what ends before the last seven days begin."""
    if query.get("since", "") > "2026":
        del query["since"]
    if "since" not in query:
        query.pop("until", None)


def _mend_filters(filters: dict[str, Any]) -> None:
    """A `q` is in its language and contradicts nothing; a range ends after it begins."""
    if "q" in filters:
        try:
            is_right = parse(filters["q"]).keys().isdisjoint(filters)
        except InvalidQuery:
            is_right = False
        if not is_right:
            del filters["q"]
    if "since" in filters:
        filters.pop("until", None)


def _mend_event(event: dict[str, Any]) -> None:
    """The id carries the event's time, from 1970 to now; JSON holds what JCS can carry."""
    if event.get("event_id"):
        event["event_id"] = _NO_EVENT[:18] + event["event_id"][18:]
        event.pop("occurred_at", None)
    elif not "1971" <= event.get("occurred_at", "1971") < "2026":
        del event["occurred_at"]
    for name in ("details", "changes"):
        if name in event:
            try:
                canonical_json(event[name])
            except InvalidEvent:
                del event[name]
