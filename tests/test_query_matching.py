"""Which events a filter matches, and the index nominates."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from muniment.actions import Category, standard_catalogue
from muniment.canonical import encode
from muniment.event import Actor, ActorType, Context, Event, Outcome, Target
from muniment.query import EventFilter, index_terms, json_inner, make_filter

_NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
_category_of = standard_catalogue().category_of


def _filter(**given_: Any) -> EventFilter:
    return make_filter(now=_NOW, given=given_)


_ids = st.sampled_from(["u1", "a1", "é"])
_types: st.SearchStrategy[ActorType] = st.sampled_from(["user", "agent", "service", "system"])
_actions = st.sampled_from(
    ["role_assign", "role_revoke", "login", "agent_start", "invoice.void", "audit.view"]
)
_moments = st.integers(0, 3).map(lambda n: _NOW + timedelta(seconds=n))
_maybe_id = st.none() | _ids
_actors: st.SearchStrategy[Actor] = st.recursive(
    st.builds(Actor, type=_types, id=_ids),
    lambda inner: st.builds(Actor, type=_types, id=_ids, on_behalf_of=inner),
    max_leaves=3,
)
_events = st.builds(
    Event,
    action=_actions,
    tenant_id=st.sampled_from(["acme", "globex"]),
    occurred_at=_moments,
    actor=_actors,
    outcome=st.sampled_from(Outcome),
    targets=st.lists(st.builds(Target, st.sampled_from(["user", "role"]), _ids), max_size=3).map(
        tuple
    ),
    context=st.builds(
        Context, request_id=_maybe_id, session_id=_maybe_id, trace_id=_maybe_id, run_id=_maybe_id
    ),
    details=st.fixed_dictionaries({"note": st.sampled_from(['Say "hi"\n', "ÉCOLE", "plain"])}),
)
_filters = st.fixed_dictionaries(
    {},
    optional={
        "tenant_id": st.sampled_from(["acme", "globex"]),
        "action": st.lists(
            _actions | st.sampled_from(["role_*", "*", "x*"]), min_size=1, max_size=2
        ),
        "category": st.sampled_from(Category),
        "activity": st.lists(
            st.sampled_from(["people", "background", "reading"]), min_size=1, max_size=3
        ),
        "actor_type": _types,
        "actor_id": _ids,
        "user_id": _ids,
        "agent_id": _ids,
        "target_type": st.sampled_from(["user", "role"]),
        "target_id": _ids,
        "outcome": st.lists(st.sampled_from(["success", "denied"]), min_size=1),
        "request_id": _ids,
        "session_id": _ids,
        "trace_id": _ids,
        "run_id": _ids,
        "since": _moments,
        "until": _moments,
        "text": st.sampled_from(['SAY "HI"\n', "école", "École", '"note":', "plain"]),
    },
)
# One or two conditions let many events pass; all of them together hardly any.
_few_conditions = st.dictionaries(
    st.sampled_from(sorted(EventFilter.__struct_fields__)), st.none(), max_size=2
).flatmap(lambda chosen: _filters.map(lambda f: {k: v for k, v in f.items() if k in chosen}))


def _lower(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


def _chain(body: dict[str, Any]) -> list[dict[str, Any]]:
    chain = [body["actor"]]
    while "on_behalf_of" in chain[-1]:
        chain.append(chain[-1]["on_behalf_of"])
    return chain


def _first(kind: str, body: dict[str, Any]) -> str | None:
    return next((actor["id"] for actor in _chain(body) if actor["type"] == kind), None)


def _moment(body: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(body["occurred_at"])


def _inside_a_string(text: str, body: dict[str, Any]) -> bool:
    whole = json.dumps(body, ensure_ascii=False)
    return _lower(json.dumps(text, ensure_ascii=False)[1:-1]) in _lower(whole)


_ACTIVITY = {"background": "background", "reading": "reading"}
# Each condition by itself, by the documentation of filters, from the body's JSON alone.
_CONDITIONS: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
    "tenant_id": lambda wanted, body: body["tenant_id"] == wanted,
    "action": lambda wanted, body: any(fnmatchcase(body["action"], w) for w in wanted),
    "category": lambda wanted, body: _category_of(body["action"]) == wanted,
    "activity": lambda wanted, body: (
        _ACTIVITY.get(_category_of(body["action"]), "people") in wanted
    ),
    "actor_type": lambda wanted, body: body["actor"]["type"] == wanted,
    "actor_id": lambda wanted, body: body["actor"]["id"] == wanted,
    "user_id": lambda wanted, body: _first("user", body) == wanted,
    "agent_id": lambda wanted, body: _first("agent", body) == wanted,
    "outcome": lambda wanted, body: body["outcome"] in wanted,
    "request_id": lambda wanted, body: body["context"].get("request_id") == wanted,
    "session_id": lambda wanted, body: body["context"].get("session_id") == wanted,
    "trace_id": lambda wanted, body: body["context"].get("trace_id") == wanted,
    "run_id": lambda wanted, body: body["context"].get("run_id") == wanted,
    "since": lambda wanted, body: _moment(body) >= wanted,
    "until": lambda wanted, body: _moment(body) < wanted,
    "text": _inside_a_string,
}


def _expected(wanted: dict[str, Any], body: dict[str, Any]) -> bool:
    target = {k.removeprefix("target_"): v for k, v in wanted.items() if k.startswith("target_")}
    return all(_CONDITIONS[k](v, body) for k, v in wanted.items() if k in _CONDITIONS) and (
        not target or any(target.items() <= found.items() for found in body.get("targets", []))
    )


@given(_filters | _few_conditions, _events)
def test_a_filter_matches_what_its_conditions_say(wanted: dict[str, Any], event: Event) -> None:
    """An event matches exactly if each condition holds for its body, taken one by one."""
    body = encode(event).decode()
    found = _filter(**wanted).matches(event, body, _category_of)
    assert found is _expected(wanted, json.loads(body))


@given(_filters | _few_conditions, _events)
def test_the_index_nominates_every_event_that_matches(wanted: dict[str, Any], event: Event) -> None:
    """An event that matches has, for each clause, a term that satisfies it."""
    matching = _filter(**wanted)
    terms = index_terms(event)
    if matching.matches(event, encode(event).decode(), _category_of):
        for clause in matching.clauses():
            assert (
                clause.admits(event.action, _category_of(event.action))
                or any(f"\x1f{term}\x1f" in terms for term in clause.exact)
                or any(f"\x1f{prefix}" in terms for prefix in clause.prefixes)
            )


@given(_events)
def test_index_terms_are_those_of_the_event(event: Event) -> None:
    """Each value that can be searched has its term, once, between separators, the action first."""
    terms = index_terms(event)
    assert terms[0] == terms[-1] == "\x1f"
    found = terms[1:-1].split("\x1f")
    context = event.context
    pairs = [
        ("action", event.action),
        ("outcome", event.outcome.value),
        ("actor", event.actor.id),
        ("actor_type", event.actor.type),
        ("user", event.user_id),
        ("agent", event.agent_id),
        ("request", context.request_id),
        ("session", context.session_id),
        ("trace", context.trace_id),
        ("run", context.run_id),
        *(("target", target.id) for target in event.targets),
        *(("target_type", target.type) for target in event.targets),
    ]
    assert found[0] == f"action:{event.action}"
    assert len(found) == len(set(found))
    assert set(found) == {f"{kind}:{value}" for kind, value in pairs if value is not None}


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_is_found_as_it_stands_in_a_body(text: str) -> None:
    """Quotes, escapes and control characters are searched for in the form that a body has them."""
    event = Event(action="x", details={"note": f"before {text} after", "slow": 1.0})
    body = encode(event).decode()
    assert json_inner(text) in body
    assert EventFilter(text=text).matches(event, body, _category_of)
