"""One day of an agent platform, made up: three tenants, their people, their agents, one intruder.

The same day every time: `day()` gives the same events with the same event_ids, so that a log in
which they are recorded twice holds them once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from muniment.event import Actor, Change, Context, Event, Outcome, Target

DAY: Final = datetime(2025, 3, 4, tzinfo=UTC)
INTRUDER_IP: Final = "203.0.113.77"
_SEED: Final = 20250304
_TICK_MINUTES: Final = 15


class Tenant(NamedTuple):
    """A customer of the platform: its people by user_id, the first of them its administrator."""

    id: str
    name: str
    hours_from_utc: int
    directory: str
    people: dict[str, str]
    agents: dict[str, str]
    network: str


TENANTS: Final = (
    Tenant(
        "nordlicht",
        "Nordlicht Logistik",
        1,
        "azure-ad",
        {
            "u-annika": "Annika Groß",
            "u-juergen": "Jürgen Weiß",
            "u-zoe": "Zoë Ångström",
            "u-lukasz": "Łukasz Żak",
            "u-eleni": "Ελένη Παππά",
            "u-dmytro": "Дмитро Коваль",
            "u-ciara": "Ciara Ní Bhriain",
            "u-tomas": "Tomáš Dvořák",
        },
        {"a-dispatch": "Dispatch bot", "a-invoice": "Rechnungsprüfer"},
        "192.0.2.",
    ),
    Tenant(
        "qingyun",
        "青云科技",
        8,
        "feishu",
        {
            "u-wangfang": "王芳",
            "u-liqiang": "李强",
            "u-chenjing": "陈静",
            "u-zhaolei": "赵磊",
            "u-sato": "佐藤 花子",
            "u-minjun": "김민준",
            "u-linh": "Nguyễn Thị Linh",
        },
        {"a-daily": "日报助手", "a-support": "客服机器人"},
        "198.51.100.",
    ),
    Tenant(
        "waha",
        "واحة المعرفة",
        3,
        "google",
        {
            "u-layla": "ليلى حداد",
            "u-omar": "عمر الخطيب",
            "u-maryam": "مريم صالح",
            "u-yusuf": "يوسف النجار",
            "u-ananya": "अनन्या शर्मा",
            "u-reza": "رضا احمدی",
        },
        {"a-tutor": "مساعد الدروس"},
        "198.18.7.",
    ),
)

_TASKS: Final = (
    "document.read",
    "document.update",
    "invoice.approve",
    "mail.send",
    "report.publish",
)
_ROLES: Final = ("operator", "auditor", "editor")


def day() -> list[Event]:
    """The events of the day, in the order of their times."""
    events: list[Event] = []
    for number, tenant in enumerate(TENANTS):
        story = _Story(tenant, random.Random(_SEED + number))  # noqa: S311 - a story, no secret
        events += story.tell()
    return sorted(events, key=lambda event: event.event_id)


class _Story:
    """What happens in one tenant. All that is random comes from `chance`: it can be told again."""

    def __init__(self, tenant: Tenant, chance: random.Random) -> None:
        self._tenant = tenant
        self._chance = chance
        self._told = 0
        self._people = {who: Actor.user(who, name=name) for who, name in tenant.people.items()}
        self._admin = next(iter(self._people.values()))

    def tell(self) -> Iterator[Event]:
        """The tenant's events, in no order."""
        yield from self._background()
        yield from self._directory()
        for person in self._people.values():
            yield from self._person(person)
        yield from self._roles()
        if self._tenant.id == "waha":
            yield from self._intrusion()

    # --- what happens by itself

    def _background(self) -> Iterator[Event]:
        for minute in range(0, 24 * 60, _TICK_MINUTES):
            due = self._chance.randrange(4)
            yield self._event(
                "schedule_tick",
                minute * 60 + self._chance.random(),
                outcome=Outcome.SUCCESS,
                details={"due": due, "duration_ms": self._chance.randrange(2, 60)},
                context=Context(service="scheduler"),
            )

    def _directory(self) -> Iterator[Event]:
        sync = Actor.service("org-sync", name="Directory sync")
        start = 2 * 3600 + self._chance.random() * 600
        directory = self._tenant.directory
        if directory == "google":
            yield self._event(
                "org_sync",
                start,
                actor=sync,
                outcome=Outcome.FAILURE,
                reason="the directory did not answer within 30 s",
                details={"directory": directory},
            )
            start += 900
        trace = Context(trace_id=self._hex(32), service="org-sync")
        yield self._event(
            "org_department_create",
            start + 1,
            actor=sync,
            outcome=Outcome.SUCCESS,
            targets=[Target("department", "d-research", "Research")],
            context=trace,
        )
        for n, (user_id, name) in enumerate(self._tenant.people.items()):
            yield self._event(
                "org_member_update",
                start + 2 + n,
                actor=sync,
                outcome=Outcome.SUCCESS,
                targets=[Target("user", user_id, name)],
                changes=[Change(field="department", old=None, new="d-research")],
                context=trace,
            )
        yield self._event(
            "org_sync",
            start + 20,
            actor=sync,
            outcome=Outcome.SUCCESS,
            details={"directory": directory, "departments": 1, "members": len(self._people)},
            context=trace,
        )

    # --- what people and agents do

    def _person(self, person: Actor) -> Iterator[Event]:
        start = self._morning() + self._chance.random() * 5400
        context = Context(
            ip=f"{self._tenant.network}{self._chance.randrange(10, 250)}",
            session_id=f"s-{self._hex(12)}",
            service="web",
        )
        if self._chance.random() < 0.3:
            yield self._event(
                "login_failed",
                start,
                actor=person,
                outcome=Outcome.FAILURE,
                reason="wrong password",
                context=context,
            )
        by_directory = self._chance.random() < 0.6
        yield self._event(
            "sso_login" if by_directory else "login",
            start + 20,
            actor=person,
            outcome=Outcome.SUCCESS,
            details={"provider_type": self._tenant.directory, "success": True}
            if by_directory
            else {},
            context=context,
        )
        for _ in range(self._chance.randrange(1, 4)):
            yield from self._run(person, start + 60 + self._chance.random() * 25_000, context)
        yield self._event(
            "logout", start + 31_000, actor=person, outcome=Outcome.SUCCESS, context=context
        )

    def _run(self, person: Actor, start: float, session: Context) -> Iterator[Event]:
        """A person starts an agent; it works on their behalf, and is refused what they may not."""
        agent_id, name = self._chance.choice(list(self._tenant.agents.items()))
        agent = Actor.agent(agent_id, name=name, on_behalf_of=person)
        context = Context(
            run_id=f"run-{self._hex(8)}",
            trace_id=self._hex(32),
            session_id=session.session_id,
            service="agents",
        )
        yield self._event(
            "agent_start",
            start,
            actor=person,
            outcome=Outcome.SUCCESS,
            targets=[Target("agent", agent_id, name)],
            context=context,
        )
        steps = self._chance.randrange(2, 9)
        for step in range(steps):
            action = self._chance.choice(_TASKS)
            refused = action == "invoice.approve" and self._chance.random() < 0.3
            kind = action.partition(".")[0]
            yield self._event(
                action,
                start + 4 + step * 7 + self._chance.random(),
                actor=agent,
                outcome=Outcome.DENIED if refused else Outcome.SUCCESS,
                reason=f"{person.name} may not approve invoices" if refused else None,
                targets=[Target(kind, f"{kind}-{self._chance.randrange(100, 1000)}")],
                context=context,
                details={"step": step + 1},
            )
        yield self._event(
            "agent_stop",
            start + 6 + steps * 7,
            actor=Actor.service("agents", name="Agent runtime"),
            outcome=Outcome.SUCCESS,
            targets=[Target("agent", agent_id, name)],
            context=context,
            details={"steps": steps, "tokens": self._chance.randrange(900, 60_000)},
        )

    def _roles(self) -> Iterator[Event]:
        for n, (user_id, name) in enumerate(list(self._tenant.people.items())[1:4]):
            role = _ROLES[n]
            yield self._event(
                "role_assign",
                self._morning() + 9000 + n * 700,
                actor=self._admin,
                outcome=Outcome.SUCCESS,
                targets=[Target("user", user_id, name)],
                changes=[Change(field="roles", old=["member"], new=["member", role])],
                details={
                    "role_name": role,
                    "granted_by": self._admin.id,
                    "target_user_id": user_id,
                },
            )

    # --- what must not happen

    def _intrusion(self) -> Iterator[Event]:
        """Passwords are guessed at night; whoever guessed makes an agent try for more."""
        victim, start = self._admin, 23 * 3600
        context = Context(ip=INTRUDER_IP, user_agent="python-requests/2.31", service="web")
        for n in range(23):
            yield self._event(
                "login_failed",
                start + n * 4,
                actor=victim,
                outcome=Outcome.FAILURE,
                reason="wrong password",
                context=context,
            )
        session = Context(ip=INTRUDER_IP, session_id=f"s-{self._hex(12)}", service="web")
        yield self._event(
            "login", start + 95, actor=victim, outcome=Outcome.SUCCESS, context=session
        )
        yield self._event(
            "role_assign",
            start + 140,
            actor=victim,
            outcome=Outcome.SUCCESS,
            targets=[Target("user", "u-reza", self._tenant.people["u-reza"])],
            changes=[Change(field="roles", old=["member"], new=["member", "admin"])],
            details={"role_name": "admin", "granted_by": victim.id, "target_user_id": "u-reza"},
            context=session,
        )
        agent = Actor.agent("a-tutor", name=self._tenant.agents["a-tutor"], on_behalf_of=victim)
        run = Context(run_id="run-intruder", session_id=session.session_id, service="agents")
        for n, what in enumerate(("students", "grades", "payments")):
            yield self._event(
                "document.export",
                start + 200 + n * 9,
                actor=agent,
                outcome=Outcome.DENIED,
                reason="exports need an approval",
                targets=[Target("document", what)],
                context=run,
            )
        guard = Actor.agent("a-guard", name="حارس المنصة")
        yield self._event(
            "user_deactivate",
            start + 240,
            actor=guard,
            outcome=Outcome.SUCCESS,
            targets=[Target("user", victim.id, victim.name)],
            details={"because": "23 failed logins, then exports that were refused"},
        )

    # --- how it is told

    def _event(self, action: str, seconds: float, **fields: Any) -> Event:
        self._told += 1
        return Event(
            action=action,
            tenant_id=self._tenant.id,
            idempotency_key=f"demo:{self._told}",
            occurred_at=DAY + timedelta(milliseconds=round(seconds * 1000)),
            **fields,
        )

    def _morning(self) -> float:
        return (8 - self._tenant.hours_from_utc) % 24 * 3600

    def _hex(self, digits: int) -> str:
        return f"{self._chance.getrandbits(4 * digits):0{digits}x}"
