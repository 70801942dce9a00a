from __future__ import annotations

import gzip
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from muniment import Outcome
from muniment.importers.cloudtrail import event_of_record
from tests.cli.running import muniment, prepare, search

_REAL = Path(__file__).parents[2].parent / "shared" / "data" / "cloudtrail-2023-07-10.jsonl"
_LOG = logging.getLogger(__name__)


def _record(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "eventVersion": "1.08",
        "eventID": f"00000000-0000-4000-8000-{number:012}",
        "eventTime": f"2023-07-10T12:00:{number:02}Z",
        "eventSource": "s3.amazonaws.com",
        "eventName": "GetObject",
        "recipientAccountId": "111122223333",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/ann"},
        **fields,
    }


class _Source(NamedTuple):
    path: Path
    events: int
    failed: int
    denied: int
    actor: str


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> _Source:
    """The real data, or, where that is missing, a few records written here."""
    if _REAL.is_file():
        known = Counter(
            json.loads(line).get("userIdentity", {}).get("arn")
            for line in _REAL.read_text().splitlines()
        )
        arn = next(a for a, _ in known.most_common() if a and ":user/" in a)
        return _Source(_REAL, 2029, 225, 58, arn)
    message = f"{_REAL.name} is not here: the same is tested on a few records instead"
    _LOG.warning(message)
    print(message)  # noqa: T201 - shown with the test's output
    records = [_record(n) for n in range(4)]
    records += [_record(n, errorCode="AccessDenied", errorMessage="no") for n in range(4, 7)]
    records += [_record(7, errorCode="Client.UnauthorizedOperation")]
    records += [_record(n, errorCode="NoSuchBucket") for n in range(8, 10)]
    path = tmp_path_factory.mktemp("cloudtrail") / "records.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return _Source(path, 10, 6, 4, "arn:aws:iam::111122223333:user/ann")


@pytest.fixture(scope="module")
def imported(source: _Source, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A log in SQLite that holds the source."""
    url = f"sqlite:///{tmp_path_factory.mktemp('imported')}/audit.db"
    muniment("import", "cloudtrail", source.path, url=url)
    return url


def test_all_records_are_imported_and_none_twice(source: _Source, store_url_ready: str) -> None:
    """Each record becomes one event; the second import adds none."""
    first = muniment("import", "cloudtrail", source.path, url=store_url_ready)
    second = muniment("import", "cloudtrail", source.path, url=store_url_ready)
    count = f"{source.events:,}"
    assert first.stdout == f"{source.path}: {count} events ({count} new, 0 recorded before)\n"
    assert second.stdout == f"{source.path}: {count} events (0 new, {count} recorded before)\n"
    assert len(search(store_url_ready)) == source.events


def test_failures_carry_their_error_and_refusals_are_denied(source: _Source, imported: str) -> None:
    """Any errorCode is a failure with its code as the reason; those of a refusal are `denied`."""
    events = search(imported)
    with_error = [event for event in events if "errorCode" in event.details]
    refused = [
        event
        for event in with_error
        if event.details["errorCode"].endswith(("AccessDenied", "UnauthorizedOperation"))
    ]
    assert (len(with_error), len(refused)) == (source.failed, source.denied)
    assert {event.outcome for event in refused} == {Outcome.DENIED}
    assert {event.outcome for event in with_error} == {Outcome.DENIED, Outcome.FAILURE}
    assert [e for e in with_error if e.details["errorCode"] not in str(e.reason)] == []


def test_time_and_id_of_the_source_are_kept(source: _Source, imported: str) -> None:
    """An event is found under the record's own time, and names the record that it is of."""
    events = search(imported)
    kept = {
        (event.idempotency_key, event.occurred_at.isoformat().replace("+00:00", "Z"))
        for event in events
    }
    records = map(json.loads, source.path.read_text().splitlines())
    assert kept == {(f"cloudtrail:{r['eventID']}", r["eventTime"]) for r in records}


def test_both_stores_find_the_same_in_the_same_order(
    source: _Source, imported: str, postgres_url: str
) -> None:
    """A search by actor and outcome has one answer, whatever the store."""
    prepare(postgres_url)
    muniment("import", "cloudtrail", source.path, url=postgres_url)
    here, there = (
        [
            (event.event_id, event.outcome)
            for event in search(url, actor_id=source.actor, outcome=["failure", "denied"])
        ]
        for url in (imported, postgres_url)
    )
    assert here == there
    assert len(here) > 1


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    "layout",
    ["{lines}", '{{"Records": [{list}]}}', "[{list}]", '\ufeff{{"Records":\n[ {list} ] }}\n'],
)
def test_records_come_one_a_line_or_in_documents(
    sqlite_url: str, tmp_path: Path, layout: str, pack: Any
) -> None:
    """Files as CloudTrail delivers them, as tools take them apart, and packed, say the same."""
    records = [json.dumps(_record(n)) for n in range(3)]
    text = layout.format(lines="\n".join(records), list=",\n".join(records))
    path = tmp_path / "trail"
    path.write_bytes(pack(text.encode()))
    done = muniment("import", "cloudtrail", path, url=sqlite_url)
    assert (done.exit_code, done.stderr) == (0, "")
    assert [event.occurred_at.second for event in search(sqlite_url)] == [2, 1, 0]


def test_the_tenant_is_the_option_else_the_account_else_system() -> None:
    """An account's records belong to it unless told otherwise."""
    bare = {k: v for k, v in _record(1).items() if k != "recipientAccountId"}
    with_identity = {**bare, "userIdentity": {"type": "Root", "accountId": "444455556666"}}
    tenants = [
        event_of_record(_record(1), "acme").tenant_id,
        event_of_record(_record(1)).tenant_id,
        event_of_record(with_identity).tenant_id,
        event_of_record({**bare, "userIdentity": None}).tenant_id,
    ]
    assert tenants == ["acme", "111122223333", "444455556666", "system"]


@pytest.mark.parametrize(
    ("identity", "actor"),
    [
        ({"type": "IAMUser", "arn": "arn:u", "userName": "ann"}, ("user", "arn:u", "ann")),
        ({"type": "Root", "arn": "arn:r"}, ("user", "arn:r", "root")),
        (
            {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"},
            ("service", "ec2.amazonaws.com", None),
        ),
        (
            {
                "type": "AssumedRole",
                "principalId": "AROA:session",
                "sessionContext": {"sessionIssuer": {"arn": "arn:role", "userName": "ops"}},
            },
            ("service", "arn:role", "ops"),
        ),
        (
            {
                "type": "AssumedRole",
                "principalId": "AROA:ann@example.com",
                "sessionContext": {"sessionIssuer": {"userName": "AWSReservedSSO_Admin"}},
            },
            ("user", "ann@example.com", "AWSReservedSSO_Admin"),
        ),
        ({}, ("service", "s3.amazonaws.com", None)),
        ("nobody", ("service", "s3.amazonaws.com", None)),
    ],
)
def test_the_actor_is_whoever_the_identity_names(identity: Any, actor: tuple[Any, ...]) -> None:
    """Each kind of identity leads to a person or a service."""
    found = event_of_record(_record(1, userIdentity=identity)).actor
    assert (found.type, found.id, found.name) == actor


@pytest.mark.parametrize(
    ("fields", "targets"),
    [
        ({"requestParameters": {"bucketName": "b"}}, [("AWS::S3::Bucket", "b")]),
        (
            {"resources": [{"ARN": "arn:aws:s3:::b", "type": "AWS::S3::Bucket"}, None, 7]},
            [("AWS::S3::Bucket", "arn:aws:s3:::b")],
        ),
        (
            {"resources": [{"ARN": "arn:aws:ec2:r:1:instance/i-1"}]},
            [("ec2:instance", "arn:aws:ec2:r:1:instance/i-1")],
        ),
        ({"requestParameters": {"bucketName": None}, "resources": "none"}, []),
    ],
)
def test_targets_are_the_resources_else_what_parameters_name(
    fields: dict[str, Any], targets: list[tuple[str, str]]
) -> None:
    """An event is found by what it was done to."""
    found = event_of_record(_record(1, **fields)).targets
    assert [(target.type, target.id) for target in found] == targets


def test_a_failed_sign_in_without_an_error_code_is_a_failure() -> None:
    """The console says so in its response only."""
    fields = {"eventName": "ConsoleLogin", "responseElements": {"ConsoleLogin": "Failure"}}
    assert event_of_record(_record(1, **fields)).outcome is Outcome.FAILURE


def test_the_whole_record_stays_in_details() -> None:
    """What no field of an event has room for is not lost."""
    record = _record(1, additionalEventData={"n": [1, {"deep": None}]})
    assert event_of_record(record).details == record
