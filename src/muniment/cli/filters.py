"""The options that say which events: the same for `search` and `tail`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, get_args

import click

from muniment.actions import Activity, Category
from muniment.errors import InvalidQuery
from muniment.event import Outcome
from muniment.filter_language import KEY_OF, parse

_F = TypeVar("_F", bound=Callable[..., Any])

ACTOR_TYPES: Final = ("user", "agent", "service", "system")
_OPTIONS: Final = (
    click.option("--tenant", "tenant_id", metavar="ID", help="Of this tenant; else of all."),
    click.option(
        "--action",
        multiple=True,
        metavar="ACTION",
        help="This action, or with a * at the end all that begin so: 'role_*'. May be repeated.",
    ),
    click.option(
        "--category",
        metavar="CATEGORY",
        type=click.Choice([category.value for category in Category]),
        help=f"Actions of this kind: {', '.join(Category)}.",
    ),
    click.option(
        "--activity",
        multiple=True,
        type=click.Choice(get_args(Activity)),
        help="What people do, what the platform does by itself, or reading the trail. May be "
        "repeated.",
    ),
    click.option("--actor", "actor_id", metavar="ID", help="Who acted: u1, or user:u1."),
    click.option("--actor-type", type=click.Choice(ACTOR_TYPES), help="What kind of actor."),
    click.option("--user", "user_id", metavar="ID", help="Who acted, or was acted for."),
    click.option("--agent", "agent_id", metavar="ID", help="Which agent acted."),
    click.option("--target", "target_id", metavar="ID", help="What was acted upon: its id alone."),
    click.option("--target-type", metavar="TYPE", help="What kind of target."),
    click.option(
        "--outcome",
        multiple=True,
        type=click.Choice([outcome.value for outcome in Outcome]),
        help="How it ended. May be repeated.",
    ),
    click.option("--request", "request_id", metavar="ID", help="Of this request."),
    click.option("--session", "session_id", metavar="ID", help="Of this session."),
    click.option("--trace", "trace_id", metavar="ID", help="Of this trace."),
    click.option("--run", "run_id", metavar="ID", help="Of this agent's run."),
    click.option(
        "--since", metavar="TIME", help="From then on: 2026-01-31T12:00Z, or 24h, 7d ago."
    ),
    click.option("--until", metavar="TIME", help="Before then."),
    click.option("--text", metavar="TEXT", help="With this text anywhere in it."),
)


def filter_options(command: _F) -> _F:
    """Give a command the options of a filter; it gets them as keyword arguments."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def query_argument(command: _F) -> _F:
    """Give a command conditions in the filter language beside the options; see `filters_of`."""
    return click.argument("query", nargs=-1, metavar="[CONDITION]...")(command)


def filters_of(given: dict[str, Any], query: tuple[str, ...] = ()) -> dict[str, Any]:
    """The arguments of `AuditLog.search` for those options; those not given are left out.

    `query` are conditions in the filter language, which hold as well.
    """
    filters = {name: value for name, value in given.items() if value not in {None, ()}}
    try:
        conditions = parse(" ".join(query))
    except InvalidQuery as error:
        raise click.UsageError(f"{error.field}: {error.problem}") from None
    for name, value in conditions.items():
        if filters.setdefault(name, value) != value:
            raise click.UsageError(f"{KEY_OF[name]} is given twice: as an option and a condition")
    kind, colon, bare = str(filters.get("actor_id", "")).partition(":")
    if colon and kind in ACTOR_TYPES:
        if filters.setdefault("actor_type", kind) != kind:
            raise click.UsageError(f"--actor {kind}:{bare} and --actor-type say different things")
        filters["actor_id"] = bare
    return filters
