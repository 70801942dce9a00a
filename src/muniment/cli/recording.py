"""The command that records an event."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from muniment.cli.app import App, open_log, run
from muniment.cli.filters import ACTOR_TYPES
from muniment.event import Actor, Context, Outcome, Target
from muniment.receipts import Receipt


@click.command(
    epilog="\b\nFor example:\n"
    "  muniment record role_assign --tenant acme --actor user:u1 --target user:u2 \\\n"
    "    --outcome success --detail role_name=admin"
)
@click.argument("action")
@click.option("--tenant", "tenant_id", metavar="ID", help="Whose event it is; else 'system'.")
@click.option(
    "--actor", metavar="TYPE:ID", help="Who acts: user:u1, agent:a7, service:… or system."
)
@click.option("--actor-name", metavar="NAME", help="The name of who acts.")
@click.option(
    "--on-behalf-of", metavar="TYPE:ID", multiple=True, help="Whom it acts for. May be repeated."
)
@click.option(
    "--target",
    "targets",
    metavar="TYPE:ID",
    multiple=True,
    help="What is acted upon. May be repeated.",
)
@click.option(
    "--outcome",
    type=click.Choice([outcome.value for outcome in Outcome]),
    help="How it ended; else 'unknown'.",
)
@click.option("--reason", metavar="TEXT", help="Why it ended so.")
@click.option(
    "--detail",
    "detail",
    metavar="KEY=TEXT",
    multiple=True,
    help="One of the details. May be repeated.",
)
@click.option("--details", metavar="JSON", help="All details, as a JSON object.")
@click.option("--request", "request_id", metavar="ID", help="The request it belongs to.")
@click.option("--session", "session_id", metavar="ID", help="The session it belongs to.")
@click.option("--trace", "trace_id", metavar="ID", help="The trace it belongs to.")
@click.option("--run", "run_id", metavar="ID", help="The agent's run it belongs to.")
@click.option("--ip", metavar="ADDRESS", help="Where it came from.")
@click.option("--service", metavar="NAME", help="The service it comes from.")
@click.option("--organization", "organization_id", metavar="ID", help="Within the tenant.")
@click.option("--occurred-at", metavar="TIME", help="When it occurred (ISO 8601); else now.")
@click.option("--idempotency-key", metavar="KEY", help="Record once for this key (and time).")
@click.option(
    "--format",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="json: the whole receipt.",
)
@click.pass_obj
def record(
    app: App,
    /,
    *,
    action: str,
    actor: str | None,
    actor_name: str | None,
    on_behalf_of: tuple[str, ...],
    targets: tuple[str, ...],
    detail: tuple[str, ...],
    details: str | None,
    occurred_at: str | None,
    format: str,
    **given: Any,
) -> None:
    """Record one event and print its event_id, once it is durable.

    The rest of the receipt goes to stderr, so that a script may keep the id.
    """
    context = {name: given.pop(name) for name in list(given) if name in Context.__struct_fields__}
    fields = {
        **given,
        "actor": _actor(actor, actor_name, on_behalf_of),
        "targets": [_target(text) for text in targets] or None,
        "context": Context(**context) if any(v is not None for v in context.values()) else None,
        "details": _details(details, detail) or None,
        "occurred_at": None if occurred_at is None else _time(occurred_at),
    }
    receipt = run(_record(app, action, fields))
    if format == "json":
        plain = {**msgspec.structs.asdict(receipt), "leaf_hash": receipt.leaf_hash.hex()}
        click.echo(json.dumps(plain, ensure_ascii=False))
        return
    click.echo(receipt.event_id)
    click.echo(
        f"durable in the {receipt.durable_in}, leaf_hash {receipt.leaf_hash.hex()}", err=True
    )
    if receipt.durable_in == "spool":
        click.echo("The store can't be reached; the event waits in the local spool.", err=True)
    if receipt.already:
        click.echo("It was recorded before; nothing was added.", err=True)


async def _record(app: App, action: str, fields: dict[str, Any]) -> Receipt:
    async with open_log(app) as log:
        return await log.record(action, **fields)


def _actor(text: str | None, name: str | None, on_behalf_of: Iterable[str]) -> Actor | None:
    if text is None:
        if name or tuple(on_behalf_of):
            raise click.UsageError("--actor-name and --on-behalf-of need --actor")
        return None
    chain: Actor | None = None
    for link in reversed(tuple(on_behalf_of)):
        chain = _link("--on-behalf-of", link, None, chain)
    return _link("--actor", text, name, chain)


def _link(option: str, text: str, name: str | None, acts_for: Actor | None) -> Actor:
    kind, colon, actor_id = text.partition(":")
    if kind == "system" and not colon:
        actor_id = "system"
    if kind not in ACTOR_TYPES or not actor_id:
        raise click.UsageError(
            f"{option}: {text!r} is not TYPE:ID with one of the types {', '.join(ACTOR_TYPES)}"
        )
    return Actor(type=kind, id=actor_id, name=name, on_behalf_of=acts_for)  # type: ignore[arg-type]


def _target(text: str) -> Target:
    kind, _, target_id = text.partition(":")
    if not kind or not target_id:
        raise click.UsageError(f"--target: {text!r} is not TYPE:ID, such as user:u2")
    return Target(kind, target_id)


def _details(text: str | None, pairs: Iterable[str]) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if text is not None:
        try:
            given = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"--details: is not JSON: {error}") from None
        if not isinstance(given, dict):
            raise click.UsageError('--details: is not a JSON object, such as {"count": 1}')
        details.update(given)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--detail: {pair!r} is not KEY=TEXT")
        if key in details:
            raise click.UsageError(f"--detail: {key!r} is given twice")
        details[key] = value
    return details


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(
            f"--occurred-at: {text!r} is not ISO 8601 (2026-01-31T12:00Z)"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
