"""`POST /v1/events`: one event, durable before the answer."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from muniment import Event
from muniment.errors import SpoolError
from muniment.http.access import Scope
from muniment.spool import Spool
from tests.http.api.calling import Api
from tests.http.api.posting import over_faulty_store, post, stored_actions

_KEY = "Idempotency-Key"


async def test_a_new_event_is_created_and_stored(api: Api) -> None:
    """201 with the receipt of an event that the log then has, every field as it was given."""
    given = {
        "action": "role_assign",
        "tenant_id": "acme",
        "occurred_at": "2026-01-31T12:00:00Z",
        "actor": {"type": "agent", "id": "a7", "on_behalf_of": {"type": "user", "id": "u1"}},
        "outcome": "denied",
        "reason": "no",
        "targets": [{"type": "user", "id": "u2", "name": "Grüße"}],
        "changes": [{"field": "role", "old": None, "new": "admin"}],
        "context": {"request_id": "r1"},
        "details": {"n": 1, "ratio": 0.5, "whole": 2.0, "ß": ["x"]},
    }
    answer = await post(api, given)
    receipt = answer.json()
    event = await api.log.get(receipt["event_id"], tenant_id="acme")
    stored = json.loads((await api.log.store.get(receipt["event_id"], "acme")).body)  # type: ignore[union-attr, arg-type]
    assert (answer.status_code, receipt["durable_in"], event.outcome) == (201, "store", "denied")
    assert {name: stored[name] for name in given} == given


async def test_the_same_event_again_is_no_new_one(api: Api) -> None:
    """200 with the first one's receipt, by event_id as by key."""
    for same in ({"idempotency_key": "k"}, {"event_id": "019d0000-0000-7000-8000-000000000000"}):
        first = await post(api, {"action": "a", **same})
        again = await post(api, {"action": "a", **same})
        assert [first.status_code, again.status_code] == [201, 200]
        assert again.json() == {**first.json(), "already": True}


async def test_the_key_may_come_as_a_header(api: Api) -> None:
    """`Idempotency-Key` says the same as the event's own `idempotency_key`."""
    first = await post(api, {"action": "a", "tenant_id": "acme"}, {_KEY: "k"})
    again = await post(api, {"action": "a", "tenant_id": "acme", "idempotency_key": "k"})
    both = await post(
        api, {"action": "a", "tenant_id": "acme", "idempotency_key": "k"}, {_KEY: "k"}
    )
    assert [first.status_code, again.status_code, both.status_code] == [201, 200, 200]
    assert first.json()["event_id"] == again.json()["event_id"] == both.json()["event_id"]


async def test_a_key_with_a_time_leads_to_the_same_id_as_in_the_library(api: Api) -> None:
    """The header is no other way of naming an event: it has the id that `Event` gives it."""
    fields: dict[str, Any] = {"action": "a", "tenant_id": "acme"}
    answer = await post(api, {**fields, "occurred_at": "2026-01-31T12:00:00Z"}, {_KEY: "k"})
    event = Event(**fields, idempotency_key="k", occurred_at=datetime(2026, 1, 31, 12, tzinfo=UTC))
    assert answer.json()["event_id"] == event.event_id


async def test_two_keys_are_one_too_many(api: Api) -> None:
    """A header that contradicts the event is a 400, and nothing is stored."""
    answer = await post(api, {"action": "a", "idempotency_key": "k"}, {_KEY: "other"})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:muniment:problem:two-keys")
    assert await stored_actions(api) == []


async def test_two_headers_with_different_keys_are_one_too_many(api: Api) -> None:
    """Which one counts can't be told: 400, and nothing is stored. The same one twice is one."""
    application: Any = api.app
    answers = []
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(application), base_url="http://here"
    ) as client:
        for keys in (("k", "other"), ("k", "k")):
            headers = [("Content-Type", "application/json"), *api.headers.items()]
            headers += [(_KEY, key) for key in keys]
            answers.append(
                await client.post("/v1/events", content=b'{"action":"a"}', headers=headers)
            )
    assert [answer.status_code for answer in answers] == [400, 201]
    assert answers[0].json()["type"] == "urn:muniment:problem:two-keys"


async def test_another_event_under_the_same_key_is_a_conflict(api: Api) -> None:
    """409, which names what differs; the first one is kept."""
    await post(api, {"action": "a", "idempotency_key": "k"})
    answer = await post(api, {"action": "b", "idempotency_key": "k"})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:muniment:problem:conflict")
    assert "action" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"action":""}', "action"),
        (b'{"action":5}', "action"),
        (b"{}", "event"),
        (b"[]", "event"),
        (b"", "event"),
        (b"nope", "event"),
        (b'{"action":"a"} x', "event"),
        (b'{"action":"\xff"}', "event"),
        (b'{"action":"\\ud800"}', "action"),
        (b'{"action":"a","details":' + b'{"a":' * 5000 + b"1" + b"}" * 5001, "event"),
        (b'{"action":"a","details":' + b'{"a":' * 70 + b"1" + b"}" * 71, "details"),
        (b'{"action":"a","details":{"a":' + b"[" * 500 + b"]" * 500 + b"}}", "details"),
        (
            b'{"action":"a","changes":[{"field":"f","new":' + b"[" * 500 + b"]" * 500 + b"}]}",
            "changes[0].new",
        ),
        (b'{"action":"a","details":' + b'{"a":' * 500 + b"1" + b"}" * 501, None),
        (b'{"action":"a","details":{"a":' + b"[" * 500 + b"]" * 500 + b"}}", None),
        (
            b'{"action":"a","changes":[{"field":"f","new":' + b"[" * 500 + b"]" * 500 + b"}]}",
            None,
        ),
        (b'{"action":"a","details":{"n":9007199254740993}}', "details.n"),
        (b'{"action":"a","details":{"n":1e999}}', None),
        (b'{"action":"a","details":{"n":' + b"1" * 5000 + b"}}", None),
        (b'{"action":"a","details":[]}', "details"),
        (b'{"action":"a","colour":1}', "colour"),
        (b'{"action":"a","actor":{"type":"user","id":"u","mail":"x"}}', "actor.mail"),
        (b'{"action":"a","actor":{"type":"robot","id":"u"}}', "actor.type"),
        (b'{"action":"a","actor":{"type":"user","id":""}}', "actor.id"),
        (
            b'{"action":"a","targets":[{"type":"t","id":"i"},{"type":"","id":"i"}]}',
            "targets[1].type",
        ),
        (b'{"action":"a","context":{"request_id":"\\u0000"}}', "context.request_id"),
        (b'{"action":"a","occurred_at":"2026-01-31T12:00:00"}', "occurred_at"),
        (b'{"action":"a","occurred_at":"9999-01-31T12:00:00Z"}', "occurred_at"),
        (b'{"action":"a","event_id":"7"}', "event_id"),
        (b'{"action":"a","recorded_at":"2026-01-31T12:00:00Z"}', "recorded_at"),
        (b'{"action":"a","salt":"00"}', "salt"),
        (b'{"action":"a","stamped":["occurred_at"]}', "stamped"),
        (b'{"action":"a","stamped":[]}', "stamped"),
        (b'{"action":"a","schema_version":2}', "schema_version"),
        (b'{"action":"a","tenant_id":"a\\u0007"}', "tenant_id"),
        (b'{"action":"a","tenant_id":"a\x7f"}', "tenant_id"),
    ],
)
async def test_what_is_no_event_is_refused_by_name(
    api: Api, body: bytes, field: str | None
) -> None:
    """422 as problem details that name the field, and nothing is stored."""
    answer = await post(api, body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:muniment:problem:invalid-event"
    if field is not None:
        assert answer.json()["field"] == field
    assert await stored_actions(api) == []


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "event: is empty; give a JSON object"),
        (b'{"action":"a"', "event: is cut off: its JSON does not end"),
        (b"nope", "event: is not JSON: invalid character (byte 4)"),
        (b'{"action":"a"} x', "event: is not JSON: trailing characters (byte 16)"),
        (b'{"action":"\\ud800"}', "action: has the lone surrogate U+D800; it isn't text"),
        (b'{"action":"a","details":{"\\ud800":1}}', "details: has the lone surrogate U+D800"),
        (
            b'{"action":"a","details":{"x":["\\udc00"]}}',
            "details.x[0]: has the lone surrogate U+DC00; it isn't text",
        ),
        (b'{"action":"\\ud800"', "event: is cut off: its JSON does not end"),
        (b'{"action":"\\ud800\\u0041"', "event: is not JSON: invalid utf-16 surrogate pair"),
        (b'{"action":"a","details":' + b'{"a":' * 5_000, "event: is nested over 64 levels"),
    ],
)
async def test_what_is_no_json_is_told_what_it_is(api: Api, body: bytes, detail: str) -> None:
    """What is wrong is said, and where: a text that can't be is not taken for one cut off."""
    assert (await post(api, body)).json()["detail"].startswith(detail)


async def test_what_the_log_gives_may_be_null(api: Api) -> None:
    """A client that writes all fields of an event writes null for those that it hasn't got."""
    answer = await post(
        api, {"action": "a", "recorded_at": None, "salt": None, "schema_version": 1}
    )
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-ndjson"}, 415),
        ({"Content-Type": "application/json; charset=latin1"}, 415),
        ({"Content-Type": "application/json; charset=UTF-8"}, 201),
        ({"Content-Encoding": "br"}, 415),
        ({"Content-Encoding": "gzip"}, 400),
    ],
)
async def test_a_body_must_be_what_it_says(api: Api, headers: dict[str, str], status: int) -> None:
    """JSON in UTF-8, as it is or in gzip; anything else is a 415, and gzip that isn't a 400."""
    assert (await post(api, b'{"action":"a"}', headers)).status_code == status


async def test_a_body_may_be_compressed(api: Api) -> None:
    """gzip, in one member or in several."""
    for body in (
        gzip.compress(b'{"action":"a"}'),
        gzip.compress(b'{"action"') + gzip.compress(b':"a"}'),
    ):
        assert (await post(api, body, {"Content-Encoding": "gzip"})).status_code == 201


async def test_a_body_can_not_grow_without_bound(api: Api) -> None:
    """What is small on the wire and huge unpacked is a 413; half of a gzip file is a 400."""
    packed = gzip.compress(b'{"action":"a","details":{"x":"' + b" " * 50_000_000 + b'"}}')
    huge = await post(api, packed, {"Content-Encoding": "gzip"})
    half = await post(api, packed[:30], {"Content-Encoding": "gzip"})
    assert (huge.status_code, half.status_code) == (413, 400)


async def test_a_token_of_one_tenant_writes_for_that_tenant(api: Api) -> None:
    """Left out, the tenant is the token's; another one is a 403; a key is the tenant's own."""
    bound = await api.token(Scope.WRITE, tenant_id="acme")
    plain = await post(api, {"action": "a"}, bound)
    keyed = await post(api, {"action": "a", "idempotency_key": "k"}, bound)
    named = await post(api, {"action": "a", "idempotency_key": "k", "tenant_id": "acme"}, bound)
    assert [plain.status_code, keyed.status_code, named.status_code] == [201, 201, 200]
    assert {plain.json()["tenant_id"], keyed.json()["tenant_id"]} == {"acme"}
    for body in (
        b'{"action":"a","tenant_id":"globex"}',
        b'{"action":"a","tenant_id":"system"}',
        b'{"action":"a","tenant_id":"acme","tenant_id":"globex"}',
        b'{"action":"a","tenant_id":"acme\\u0000"}',
        b'{"action":"a","tenant_id":"globe\\u0078"}',
        b'{"action":"a","tenant_id":null}',
    ):
        assert (await post(api, body, bound)).status_code in {403, 422}
    assert {event.tenant_id for event in (await api.log.search(actor_type="system")).events} == {
        "acme"
    }


async def test_reading_is_not_writing(api: Api) -> None:
    """A token without the scope `write` records nothing."""
    reader = await api.token(Scope.READ, Scope.EXPORT, Scope.ADMIN)
    assert (await post(api, {"action": "a"}, reader)).status_code == 403


async def test_an_event_in_the_spool_is_accepted(sqlite_url: str) -> None:
    """202 while the store can't be reached: durable beside it, and so the receipt says."""
    async with over_faulty_store(sqlite_url) as (api, store):
        store.fail()
        answer = await post(api, {"action": "a"})
    assert (answer.status_code, answer.json()["durable_in"]) == (202, "spool")


async def test_what_is_not_durable_is_not_accepted(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with Retry-After once the spool fails too, and not a word about paths."""

    def full(*_: object) -> None:
        raise SpoolError("/var/secret: no space left")

    async with over_faulty_store(sqlite_url) as (api, store):
        store.fail()
        with monkeypatch.context() as patch:
            patch.setattr(Spool, "append", full)
            answer = await post(api, {"action": "a"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["type"] == "urn:muniment:problem:not-durable"
    assert "secret" not in answer.text


async def test_an_event_that_the_store_refuses_is_told_so(sqlite_url: str) -> None:
    """422: trying again won't help. Where it is put aside is nothing for a client."""
    async with over_faulty_store(sqlite_url) as (api, store):
        store.refuse(lambda event: b"poison" in event.body)
        answer = await post(api, {"action": "poison"})
    assert (answer.status_code, answer.json()["type"]) == (
        422,
        "urn:muniment:problem:event-refused",
    )
    assert "/" not in answer.json()["detail"]
