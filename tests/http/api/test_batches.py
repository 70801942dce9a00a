"""`POST /v1/events/batch`: many events, of which one that is bad spoils none of the others."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
import pytest

from muniment.event_id import make_event_id
from muniment.http.access import Scope
from muniment.http.api import batches
from muniment.http.api.given import event_of
from muniment.sealing import utc_now
from tests.http.api.calling import Api
from tests.http.api.posting import over_faulty_store, post_batch, stored_actions
from tests.scripted import until

_JSON = {"Content-Type": "application/json"}


def _lines(actions: Iterable[str], **fields: Any) -> bytes:
    return b"\n".join(json.dumps({"action": each, **fields}).encode() for each in actions)


@pytest.mark.parametrize("framing", ["ndjson", "json"])
async def test_a_batch_is_recorded_in_its_order(api: Api, framing: str) -> None:
    """200 and the counts; the store has the events as they stood in the batch."""
    actions = [f"a{n}" for n in range(5_000)]
    if framing == "json":
        body = json.dumps([{"action": each} for each in actions], indent=1)
        answer = await post_batch(api, body, _JSON)
    else:
        answer = await post_batch(api, _lines(actions))
    assert answer.status_code == 200
    assert answer.json() == {"recorded": 5_000, "already": 0, "spooled": 0}
    assert (await stored_actions(api, "system"))[-5_000:] == actions


async def test_a_batch_may_be_sent_again(api: Api) -> None:
    """With ids or keys, the second time all were there already."""
    now = utc_now()
    body = (
        b"\n".join(
            json.dumps({"action": "a", "event_id": make_event_id(now, bytes([n] * 8))}).encode()
            for n in range(10)
        )
        + b"\n"
        + _lines(["b"], idempotency_key="k", occurred_at=now.isoformat())
    )
    first, again = await post_batch(api, body), await post_batch(api, body)
    assert first.json() == {"recorded": 11, "already": 0, "spooled": 0}
    assert again.json() == {"recorded": 0, "already": 11, "spooled": 0}


async def test_receipts_are_given_when_asked_for(api: Api) -> None:
    """`?receipts=true`: one for each event, in the order of the batch."""
    answer = await post_batch(api, _lines(["a", "b"]), query="?receipts=true")
    receipts = answer.json()["receipts"]
    events = [await api.log.get(each["event_id"], tenant_id="system") for each in receipts]
    assert [event.action for event in events] == ["a", "b"]


async def test_a_bad_event_loses_no_good_one(api: Api) -> None:
    """422 with the place and the fault of each bad one; all others are stored."""
    bad = {
        1: b'{"action":""}',
        2: b"nope",
        5: b'{"action":"\xff"}',
        7: b"[" * 5_000,
        8: b'{"action":"a","details":{"n":' + b"9" * 400 + b"}}",
        9: b'{"action":"a","details":{"n":' + b"[" * 500 + b"]" * 500 + b"}}",
        11: b'{"action":"x","colour":1}',
    }
    lines = [bad.get(n, b'{"action":"good"}') for n in range(12)]
    answer = await post_batch(api, b"\r\n".join(lines))
    told = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (told["recorded"], told["refused"], told["whole"]) == (5, 7, True)
    assert [problem["index"] for problem in told["problems"]] == list(bad)
    assert told["problems"][0]["field"] == "action"
    assert (await stored_actions(api)).count("good") == 5


async def test_receipts_stand_where_their_events_do(api: Api) -> None:
    """Null is the place of one that was refused, so that a client knows which ones are recorded."""
    body = b'{"action":"a"}\nnope\n{"action":"b"}'
    receipts = (await post_batch(api, body, query="?receipts=true")).json()["receipts"]
    assert [None if each is None else each["durable_in"] for each in receipts] == [
        "store",
        None,
        "store",
    ]


async def test_a_batch_has_no_key(api: Api) -> None:
    """A key is of one event: that the header would do nothing is said, and nothing is recorded."""
    answer = await post_batch(api, b'{"action":"a"}', {"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["field"]) == (400, "Idempotency-Key")
    assert await stored_actions(api) == []


@pytest.mark.parametrize("framing", ["ndjson", "json"])
async def test_an_event_that_is_nested_too_deep_is_refused_alone(api: Api, framing: str) -> None:
    """Lists, objects and changes: each is refused by name, and its neighbours are stored."""
    good = b'{"action":"good"}'
    objects, lists = b'{"a":' * 500 + b"1" + b"}" * 500, b"[" * 500 + b"]" * 500
    events = [
        good,
        b'{"action":"bad","details":{"a":%b}}' % lists,
        good,
        b'{"action":"bad","details":%b}' % objects,
        b'{"action":"bad","changes":[{"field":"f","old":%b}]}' % lists,
        good,
    ]
    if framing == "json":
        answer = await post_batch(api, b"[" + b",".join(events) + b"]", _JSON)
    else:
        answer = await post_batch(api, b"\n".join(events))
    told = answer.json()
    assert (answer.status_code, told["recorded"], told["refused"]) == (422, 3, 3)
    assert [(problem["index"], problem["field"]) for problem in told["problems"]] == [
        (1, "details"),
        (3, "details"),
        (4, "changes[0].old"),
    ]


async def test_what_is_unforeseen_in_one_event_loses_no_other(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A 500 of that event alone, with its traceback in the service's log alone."""

    def fragile(raw: bytes, *given: Any) -> Any:
        if b"bad" in raw:
            raise ZeroDivisionError("the secret")
        return event_of(raw, *given)

    monkeypatch.setattr(batches, "event_of", fragile)
    answer = await post_batch(api, _lines(["a", "bad", "b"]))
    told = answer.json()
    assert (answer.status_code, told["recorded"], told["problems"][0]["index"]) == (500, 2, 1)
    assert await stored_actions(api) == ["a", "b"]
    assert "secret" not in answer.text
    assert "ZeroDivisionError: the secret" in caplog.text


async def test_what_is_unforeseen_in_one_piece_loses_no_count(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The events of that piece are 500s; the answer still counts what the others became."""
    monkeypatch.setattr(batches, "PIECE", 2)
    record = api.log.record_sealed

    async def fragile(events: Any) -> Any:
        if any(b"bad" in event.body for event in events):
            raise ZeroDivisionError("the secret")
        return await record(events)

    monkeypatch.setattr(api.log, "record_sealed", fragile)
    answer = await post_batch(api, _lines(["a", "b", "bad", "c", "d", "e"]))
    told = answer.json()
    assert (answer.status_code, told["recorded"], told["refused"]) == (500, 4, 2)
    assert [problem["index"] for problem in told["problems"]] == [2, 3]
    assert "ZeroDivisionError: the secret" in caplog.text


async def test_problems_are_told_in_the_order_of_the_batch(sqlite_url: str) -> None:
    """Also if one is found at once, and the one before it only when its piece commits."""
    async with over_faulty_store(sqlite_url) as (api, store):
        store.refuse(lambda event: b"poison" in event.body)
        body = _lines(["a", "poison"]) + b"\nnope\n" + _lines(["poison"])
        told = (await post_batch(api, body)).json()
    assert [problem["index"] for problem in told["problems"]] == [1, 2, 3]


async def test_no_more_than_a_hundred_problems_are_told(api: Api) -> None:
    """The rest is counted."""
    told = (await post_batch(api, b"x\n" * 250)).json()
    assert (told["refused"], len(told["problems"])) == (250, 100)


async def test_another_tenants_event_is_refused_alone(api: Api) -> None:
    """403 for it, and its neighbours land in the token's own tenant."""
    bound = await api.token(Scope.WRITE, tenant_id="acme")
    body = _lines(["a"]) + b"\n" + _lines(["b"], tenant_id="globex") + b"\n" + _lines(["c"])
    answer = await post_batch(api, body, bound)
    assert (answer.status_code, answer.json()["problems"][0]["index"]) == (403, 1)
    assert await stored_actions(api, "acme") == ["a", "c"]
    assert await stored_actions(api, "globex") == []


async def test_a_conflict_is_refused_alone(api: Api) -> None:
    """409 for the event that differs from the first one of its key; the others are stored."""
    await post_batch(api, _lines(["a"], idempotency_key="k"))
    body = _lines(["b"], idempotency_key="k") + b"\n" + _lines(["c"])
    answer = await post_batch(api, body)
    told = answer.json()
    assert (answer.status_code, told["recorded"], told["problems"][0]["index"]) == (409, 1, 0)


async def test_an_event_that_is_too_long_is_refused_alone(sqlite_url: str) -> None:
    """It is not even kept in memory; those around it are stored."""
    async with over_faulty_store(sqlite_url, max_event_bytes=2_000) as (api, _):
        long = _lines(["long"], details={"x": "y" * 5_000})
        body = b"\n".join([_lines(["a"]), long, _lines(["b"])])
        told = (await post_batch(api, body)).json()
        assert (told["recorded"], told["problems"][0]["index"]) == (2, 1)
        assert await stored_actions(api) == ["a", "b"]


async def test_a_batch_has_at_most_so_many_events(sqlite_url: str) -> None:
    """413 behind the last that fits; up to there all are stored, and the answer says so."""
    async with over_faulty_store(sqlite_url, max_batch_events=10) as (api, _):
        answer = await post_batch(api, _lines(f"a{n}" for n in range(15)))
        told = answer.json()
        assert (answer.status_code, told["recorded"], told["whole"]) == (413, 10, False)
        assert len(await stored_actions(api)) == 10


async def test_a_compressed_batch_has_the_limit_of_what_is_in_it(sqlite_url: str) -> None:
    """413 once it has grown over `max_batch_bytes`."""
    async with over_faulty_store(sqlite_url, max_batch_bytes=100_000) as (api, _):
        body = gzip.compress(_lines(["a"], details={"x": " " * 1_000}) + b"\n" * 200_000)
        small = gzip.compress(_lines(["b", "c"]))
        gzipped = {"Content-Encoding": "gzip"}
        answer = await post_batch(api, body, gzipped)
        assert (answer.status_code, answer.json()["whole"]) == (413, False)
        assert (await post_batch(api, small, gzipped)).json()["recorded"] == 2


@pytest.mark.parametrize("body", [b'[{"action":"a"},{"action":"b"}', b'[{"action":"a"}, {"acti'])
async def test_an_array_that_breaks_off_is_told_so(api: Api, body: bytes) -> None:
    """400; the events that were whole are stored, and counted in the answer."""
    answer = await post_batch(api, body, _JSON)
    told = answer.json()
    assert (answer.status_code, told["recorded"], told["whole"]) == (400, 1, False)
    assert await stored_actions(api) == ["a"]


async def test_an_empty_batch_is_nothing(api: Api) -> None:
    """No line, or no element, is no event and no fault."""
    empty = {"recorded": 0, "already": 0, "spooled": 0}
    assert (await post_batch(api, b"")).json() == empty
    assert (await post_batch(api, b"[]", _JSON)).json() == empty


async def test_a_batch_that_is_cut_off_leaves_whole_events(api: Api) -> None:
    """The client goes before the last line's end: it is not stored, though it would be an event."""
    messages = iter(
        [
            {"type": "http.request", "body": _lines(["a", "b", "c"]), "more_body": True},
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> Any:
        return next(messages)

    async def send(_: Any) -> None:
        """Nobody is there to be told."""

    headers = {"content-type": "application/x-ndjson", **api.headers}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": "POST",
        "path": "/v1/events/batch",
        "raw_path": b"/v1/events/batch",
        "root_path": "",
        "query_string": b"",
        "server": ("here", 80),
        "client": ("127.0.0.1", 1),
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
    }
    application: Any = api.app
    await application(scope, receive, send)
    assert await stored_actions(api) == ["a", "b"]


async def test_the_next_piece_is_made_ready_while_one_commits(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that hangs holds up the second piece, not the first's successor being read."""
    monkeypatch.setattr(batches, "PIECE", 10)
    async with over_faulty_store(sqlite_url) as (api, store):
        store.hang()
        arrived = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal arrived
            for n in range(4):
                arrived += 1
                yield _lines([f"a{n}"] * 10) + b"\n"
                await asyncio.sleep(0)

        posting = asyncio.create_task(post_batch(api, body()))
        await until(lambda: arrived >= 2)
        store.heal()
        answer: httpx.Response = await posting
        assert answer.json()["recorded"] == 40


async def test_a_batch_may_be_durable_in_the_spool(sqlite_url: str) -> None:
    """202 while the store can't be reached: all are durable, and the answer says where."""
    async with over_faulty_store(sqlite_url) as (api, store):
        store.fail()
        answer = await post_batch(api, _lines(["a", "b"]))
        assert (answer.status_code, answer.json()["spooled"]) == (202, 2)


async def test_what_the_store_refuses_is_refused_alone(sqlite_url: str) -> None:
    """One event that the store won't have does not take its piece along."""
    async with over_faulty_store(sqlite_url) as (api, store):
        store.refuse(lambda event: b"poison" in event.body)
        answer = await post_batch(api, _lines(["a", "poison", "b"]))
        told = answer.json()
        assert (answer.status_code, told["recorded"], told["problems"][0]["index"]) == (422, 2, 1)


async def test_an_unknown_parameter_is_refused(api: Api) -> None:
    """Misspelt, it would silently do nothing."""
    answer = await post_batch(api, b"", query="?receipt=true")
    assert (answer.status_code, answer.json()["field"]) == (400, "receipt")
