"""The vocabulary of actions: 34 standard ones, and a catalogue that says what each is about.

Any other string is a welcome action; an application registers its own to give it a category, a
title and a severity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Literal, TypeVar

import msgspec

from muniment.errors import InvalidConfig

_E = TypeVar("_E", bound=StrEnum)


class Category(StrEnum):
    """What an action is about."""

    AUTHENTICATION = "authentication"
    IDENTITY = "identity"
    USER = "user"
    TENANT = "tenant"
    ROLE = "role"
    ORG = "org"
    AGENT = "agent"
    BACKGROUND = "background"
    READING = "reading"


Activity = Literal["people", "background", "reading"]
"""What people do, or have done for them; what a platform does by itself; and reading the trail."""


def activity_of(category: Category) -> Activity:
    """What actions of a category are a part of."""
    if category == Category.READING:
        return "reading"
    return "background" if category == Category.BACKGROUND else "people"


class Severity(StrEnum):
    """How much attention an action deserves when nothing else is known."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class AuditAction(StrEnum):
    """The 34 standard actions; each is also the plain string that is stored."""

    LOGIN = "login"
    LOGIN_FAILED = "login_failed"
    LOGOUT = "logout"
    SSO_LOGIN = "sso_login"
    SSO_LOGIN_FAILED = "sso_login_failed"

    IDENTITY_BIND = "identity_bind"
    IDENTITY_UNBIND = "identity_unbind"
    IDENTITY_CREATE = "identity_create"
    IDENTITY_DELETE = "identity_delete"

    USER_CREATE = "user_create"
    USER_UPDATE = "user_update"
    USER_DELETE = "user_delete"
    USER_ACTIVATE = "user_activate"
    USER_DEACTIVATE = "user_deactivate"

    TENANT_CREATE = "tenant_create"
    TENANT_UPDATE = "tenant_update"
    TENANT_DELETE = "tenant_delete"
    TENANT_JOIN = "tenant_join"
    TENANT_LEAVE = "tenant_leave"

    ROLE_ASSIGN = "role_assign"
    ROLE_REVOKE = "role_revoke"
    ROLE_CREATE = "role_create"
    ROLE_UPDATE = "role_update"
    ROLE_DELETE = "role_delete"

    ORG_SYNC = "org_sync"
    ORG_DEPARTMENT_CREATE = "org_department_create"
    ORG_DEPARTMENT_UPDATE = "org_department_update"
    ORG_MEMBER_CREATE = "org_member_create"
    ORG_MEMBER_UPDATE = "org_member_update"

    AGENT_CREATE = "agent_create"
    AGENT_UPDATE = "agent_update"
    AGENT_DELETE = "agent_delete"
    AGENT_START = "agent_start"
    AGENT_STOP = "agent_stop"


class ActionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalogue knows of one action."""

    action: str
    category: Category
    title: str
    severity: Severity = Severity.INFO


class Catalogue:
    """Actions and what they are about. Lookups never fail: an unknown action gets a fair guess.

    An unknown action takes the category of its first word (`agent.pause`, `role:clone`,
    `user_export`), and is `background` activity if that word says nothing.
    """

    def __init__(self, known: Iterable[ActionInfo] = ()) -> None:
        self._known = {info.action: info for info in known}

    def __iter__(self) -> Iterator[ActionInfo]:
        return iter(self._known.values())

    def __contains__(self, action: str) -> bool:
        return _plain(action) in self._known

    def __len__(self) -> int:
        return len(self._known)

    def register(
        self,
        action: str,
        *,
        category: Category | str,
        title: str | None = None,
        severity: Severity | str = Severity.INFO,
    ) -> ActionInfo:
        """Add an action, or replace what is known of it. Raises `InvalidConfig` on a bad value."""
        if not isinstance(action, str) or not action:
            msg = f"action: {action!r:.100} is not the name of an action"
            raise InvalidConfig(msg)
        action = _plain(action)
        info = ActionInfo(
            action=action,
            category=_choice(Category, "category", category),
            title=title or _title_of(action),
            severity=_choice(Severity, "severity", severity),
        )
        self._known[action] = info
        return info

    def describe(self, action: str) -> ActionInfo:
        """What is known of `action`, or a guess from its first word."""
        action = _plain(action)
        return self._known.get(action) or ActionInfo(
            action=action, category=_guess(action), title=_title_of(action)
        )

    def category_of(self, action: str) -> Category:
        """The category of `action`, known or guessed."""
        return self.describe(action).category


def _plain(action: str) -> str:
    return str.__str__(action)  # of an enum's member too, the applications' own included


def _choice(kind: type[_E], name: str, value: str) -> _E:
    try:
        return kind(value)
    except ValueError:
        msg = f"{name}: {value!r} is none of {', '.join(kind)}"
        raise InvalidConfig(msg) from None


def _title_of(action: str) -> str:
    words = " ".join(part for part in _words(action) if part)
    return words[:1].upper() + words[1:] if words else action


def _words(action: str) -> list[str]:
    return action.translate(_SEPARATORS).split()


_SEPARATORS = str.maketrans("_.:-/", "     ")

_FIRST_WORDS = {
    "login": Category.AUTHENTICATION,
    "logout": Category.AUTHENTICATION,
    "sso": Category.AUTHENTICATION,
    "auth": Category.AUTHENTICATION,
    "session": Category.AUTHENTICATION,
    "identity": Category.IDENTITY,
    "user": Category.USER,
    "tenant": Category.TENANT,
    "role": Category.ROLE,
    "group": Category.ORG,
    "org": Category.ORG,
    "agent": Category.AGENT,
}


def _guess(action: str) -> Category:
    words = _words(action)
    return _FIRST_WORDS.get(words[0].lower(), Category.BACKGROUND) if words else Category.BACKGROUND


_HIGH = {"tenant_delete", "role_assign", "role_delete", "user_delete", "identity_delete"}
_MEDIUM = {
    "login_failed",
    "sso_login_failed",
    "role_revoke",
    "role_update",
    "role_create",
    "identity_bind",
    "identity_unbind",
    "user_deactivate",
    "agent_delete",
    "tenant_create",
}
_LOW = {"user_create", "user_update", "user_activate", "identity_create", "agent_create"} | {
    "agent_update",
    "tenant_update",
    "tenant_join",
    "tenant_leave",
}
_TITLES = {
    "login": "Logged in",
    "login_failed": "Failed to log in",
    "logout": "Logged out",
    "sso_login": "Logged in by single sign-on",
    "sso_login_failed": "Failed to log in by single sign-on",
    "identity_bind": "Linked an identity",
    "identity_unbind": "Unlinked an identity",
    "identity_create": "Created an identity",
    "identity_delete": "Deleted an identity",
    "user_create": "Created a user",
    "user_update": "Changed a user",
    "user_delete": "Deleted a user",
    "user_activate": "Activated a user",
    "user_deactivate": "Deactivated a user",
    "tenant_create": "Created a tenant",
    "tenant_update": "Changed a tenant",
    "tenant_delete": "Deleted a tenant",
    "tenant_join": "Joined a tenant",
    "tenant_leave": "Left a tenant",
    "role_assign": "Granted a role",
    "role_revoke": "Revoked a role",
    "role_create": "Created a role",
    "role_update": "Changed a role",
    "role_delete": "Deleted a role",
    "org_sync": "Synchronised the organization",
    "org_department_create": "Created a department",
    "org_department_update": "Changed a department",
    "org_member_create": "Added a member",
    "org_member_update": "Changed a member",
    "agent_create": "Created an agent",
    "agent_update": "Changed an agent",
    "agent_delete": "Deleted an agent",
    "agent_start": "Started an agent",
    "agent_stop": "Stopped an agent",
}


def _severity(action: str) -> Severity:
    for names, severity in (
        (_HIGH, Severity.HIGH),
        (_MEDIUM, Severity.MEDIUM),
        (_LOW, Severity.LOW),
    ):
        if action in names:
            return severity
    return Severity.INFO


_OWN = tuple(
    ActionInfo(action=f"audit.{name}", category=category, title=title, severity=severity)
    for name, category, title, severity in (
        ("loss", Category.BACKGROUND, "Lost audit events", Severity.HIGH),
        ("view", Category.READING, "Looked at the audit trail", Severity.INFO),
        ("export", Category.READING, "Exported audit events", Severity.MEDIUM),
        ("token_create", Category.BACKGROUND, "Created an access token", Severity.HIGH),
        ("token_rotate", Category.BACKGROUND, "Renewed an access token", Severity.HIGH),
        ("token_revoke", Category.BACKGROUND, "Revoked an access token", Severity.MEDIUM),
        ("viewer_link_create", Category.READING, "Made a link to the audit trail", Severity.LOW),
        ("sign_in", Category.READING, "Signed in to the audit trail", Severity.INFO),
        ("sign_out", Category.READING, "Signed out of the audit trail", Severity.INFO),
    )
)


def standard_catalogue() -> Catalogue:
    """A new catalogue of the 34 standard actions and muniment's own `audit.*` ones."""
    standard = [
        ActionInfo(
            action=action.value,
            category=_guess(action.value),
            title=_TITLES[action.value],
            severity=_severity(action.value),
        )
        for action in AuditAction
    ]
    return Catalogue([*standard, *_OWN])
