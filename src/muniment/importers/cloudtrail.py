"""Imports AWS CloudTrail records: one a line, or in `{"Records": [...]}` files; gzip too.

Follows the CloudTrail record contents and userIdentity element of the AWS CloudTrail user guide
(event versions 1.0x). The whole record stays in `details`; the other fields are for finding it:

- action: the service and the API's name, `s3:GetBucketPolicy`, so that `s3:*` finds a service's
- actor: users by their ARN; a role by its ARN (its sessions share it, and the session's name is
  `context.session_id`), on behalf of its source identity; a person who came through IAM Identity
  Center by the name of the session; services by their host name
- targets: the record's resources by ARN, else what the request's parameters name
- outcome: `denied` for the error codes of a refusal, `failure` for any other
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from muniment.errors import InvalidEvent
from muniment.event import MAX_TARGETS, SYSTEM_TENANT, Actor, Context, Event, Outcome, Target
from muniment.importers.base import Importer, Item, Progress
from muniment.importers.files import SourceFile
from muniment.importers.records import records_of
from muniment.salvage import salvage_details, salvage_id, salvage_text

_HOST_SUFFIX: Final = ".amazonaws.com"
_IDENTITY_CENTER_ROLE: Final = "AWSReservedSSO_"
_REFUSALS: Final = frozenset(
    {
        "AuthFailure",
        "AuthorizationError",
        "AuthorizationErrorException",
        "Forbidden",
        "ForbiddenException",
        "InsufficientPrivilegesException",
        "NotAuthorized",
        "NotAuthorizedException",
        "Unauthorized",
        "UnauthorizedAccess",
        "UnauthorizedAccessException",
        "UnauthorizedException",
        "UnauthorizedOperation",
    }
)
_PARAMETERS: Final[Mapping[str, str]] = {
    "bucketName": "AWS::S3::Bucket",
    "userName": "AWS::IAM::User",
    "roleName": "AWS::IAM::Role",
    "groupName": "AWS::IAM::Group",
    "policyArn": "AWS::IAM::ManagedPolicy",
    "instanceProfileName": "AWS::IAM::InstanceProfile",
    "roleArn": "AWS::IAM::Role",
    "secretId": "AWS::SecretsManager::Secret",
    "keyId": "AWS::KMS::Key",
    "instanceId": "AWS::EC2::Instance",
    "volumeId": "AWS::EC2::Volume",
    "snapshotId": "AWS::EC2::Snapshot",
    "groupId": "AWS::EC2::SecurityGroup",
    "vpcId": "AWS::EC2::VPC",
    "subnetId": "AWS::EC2::Subnet",
    "routeTableId": "AWS::EC2::RouteTable",
    "functionName": "AWS::Lambda::Function",
    "tableName": "AWS::DynamoDB::Table",
    "trailName": "AWS::CloudTrail::Trail",
}


class CloudTrailImporter(Importer):
    """Reads a file of CloudTrail records; `source` is a path, or `-` for standard input.

    The tenant is `tenant_id`, else the account that received the record, else `system`.
    """

    def __init__(self, source: str, *, tenant_id: str | None = None) -> None:
        self._file = SourceFile(source)
        self._tenant_id = tenant_id
        self.name = self._file.name

    async def items(self) -> AsyncGenerator[Item, None]:
        """One item for each record."""
        with self._file.open() as file:
            for place, record, problem in records_of(file):
                where = f"{self.name}:{place}"
                if record is None:
                    yield Item(where=where, problem=problem)
                    continue
                try:
                    yield Item(where=where, event=event_of_record(record, self._tenant_id))
                except InvalidEvent as unfit:
                    yield Item(where=where, problem=unfit)

    def progress(self) -> Progress:
        """How far the file has been read."""
        return self._file.progress()


def event_of_record(record: Mapping[str, Any], tenant_id: str | None = None) -> Event:
    """The event that a CloudTrail record tells of. Raises `InvalidEvent`, naming the key."""
    event_id = salvage_id(record.get("eventID"))
    source = _text(record.get("eventSource"))
    name = _text(record.get("eventName"))
    for key, value in (("eventID", event_id), ("eventSource", source), ("eventName", name)):
        if not value:
            raise InvalidEvent(key, "is missing; this is no CloudTrail record")
    identity = _mapping(record.get("userIdentity"))
    outcome, reason = _outcome(record)
    return Event(
        action=salvage_id(f"{source.removesuffix(_HOST_SUFFIX)}:{name}") or name,
        tenant_id=tenant_id or _account(record, identity),
        idempotency_key=f"cloudtrail:{event_id}",
        occurred_at=_time(record.get("eventTime")),
        actor=_actor(identity, source),
        outcome=outcome,
        reason=reason,
        targets=_targets(record),
        context=Context(
            ip=_address(record.get("sourceIPAddress")),
            user_agent=salvage_text(record.get("userAgent")),
            request_id=salvage_id(record.get("requestID")),
            session_id=_session(identity),
            service=salvage_id(source),
        ),
        details=salvage_details(record),
    )


def _time(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise InvalidEvent("eventTime", f"{value!r:.60} is not ISO 8601") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _account(record: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    found = salvage_id(record.get("recipientAccountId")) or salvage_id(identity.get("accountId"))
    return found or SYSTEM_TENANT


def _actor(identity: Mapping[str, Any], source: str) -> Actor:
    kind = _text(identity.get("type"))
    arn = salvage_id(identity.get("arn"))
    name = salvage_text(identity.get("userName"))
    principal = salvage_id(identity.get("principalId"))
    if kind == "AssumedRole":
        return _role(identity)
    if kind == "IdentityCenterUser":
        person = _mapping(identity.get("onBehalfOf")).get("userId")
        return Actor.user(salvage_id(person) or arn or principal or "unknown", name=name)
    if kind in {"AWSService", "AWSAccount", ""}:
        invoker = salvage_id(identity.get("invokedBy"))
        caller = (
            (invoker or arn or principal) if kind != "AWSAccount" else (arn or principal or invoker)
        )
        return Actor.service(
            caller or salvage_id(identity.get("accountId")) or salvage_id(source) or "aws"
        )
    if kind == "Root":
        name = name or "root"
    who = arn or salvage_id(identity.get("userName")) or principal
    return Actor.user(who or salvage_id(identity.get("accountId")) or "unknown", name=name)


def _role(identity: Mapping[str, Any]) -> Actor:
    session = _mapping(identity.get("sessionContext"))
    issuer = _mapping(session.get("sessionIssuer"))
    name = _text(issuer.get("userName"))
    person = _session(identity)
    if name.startswith(_IDENTITY_CENTER_ROLE) and person is not None:
        return Actor.user(person, name=salvage_text(name))
    origin = salvage_id(session.get("sourceIdentity"))
    return Actor.service(
        salvage_id(issuer.get("arn"))
        or salvage_id(identity.get("arn"))
        or salvage_id(identity.get("principalId"))
        or "unknown",
        name=salvage_text(name),
        on_behalf_of=None if origin is None else Actor.user(origin),
    )


def _session(identity: Mapping[str, Any]) -> str | None:
    """The name of a role's session: what follows the colon of the principal's id."""
    if identity.get("type") != "AssumedRole":
        return None
    return salvage_id(_text(identity.get("principalId")).partition(":")[2])


def _targets(record: Mapping[str, Any]) -> tuple[Target, ...]:
    resources = record.get("resources")
    found = [_resource(r) for r in resources] if isinstance(resources, list) else []
    if not any(found):
        parameters = _mapping(record.get("requestParameters"))
        found = [
            _target(kind, parameters[key], None)
            for key, kind in _PARAMETERS.items()
            if isinstance(parameters.get(key), str)
        ]
    return tuple(dict.fromkeys(target for target in found if target is not None))[:MAX_TARGETS]


def _resource(resource: Any) -> Target | None:
    fields = _mapping(resource)
    arn = _text(fields.get("ARN")) or _text(fields.get("ARNPrefix"))
    return _target(_text(fields.get("type")) or _kind_of(arn), arn, _last_part(arn))


def _target(kind: str, id: str, name: str | None) -> Target | None:
    type_, id_ = salvage_id(kind), salvage_id(id)
    return None if type_ is None or id_ is None else Target(type_, id_, salvage_text(name))


def _kind_of(arn: str) -> str:
    """`ec2:instance` from an ARN: the service, and the resource's type if it names one."""
    parts = arn.split(":", 5)
    if len(parts) < 6:
        return "resource"
    kind = parts[5].replace(":", "/").partition("/")
    return f"{parts[2]}:{kind[0]}" if kind[1] else parts[2]


def _last_part(arn: str) -> str:
    return arn.rstrip("/").replace(":", "/").rpartition("/")[2]


def _outcome(record: Mapping[str, Any]) -> tuple[Outcome, str | None]:
    code = _text(record.get("errorCode"))
    message = _text(record.get("errorMessage"))
    reason = salvage_text(": ".join(part for part in (code, message) if part))
    if code:
        bare = code.removeprefix("Client.").removeprefix("Server.")
        refused = "AccessDenied" in bare or bare in _REFUSALS
        return (Outcome.DENIED if refused else Outcome.FAILURE), reason
    # Sign-ins that fail carry no error code, only the word in their response.
    answer = _mapping(record.get("responseElements")).get(_text(record.get("eventName")))
    return (Outcome.FAILURE if answer == "Failure" else Outcome.SUCCESS), reason


def _address(value: Any) -> str | None:
    """The caller's IP address; for calls by AWS itself the field holds a host name instead."""
    text = _text(value)
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return None
    return text


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
