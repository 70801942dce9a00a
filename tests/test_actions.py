from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.actions import ActionInfo, AuditAction, Catalogue, Category, Severity
from muniment.actions import standard_catalogue as make_catalogue
from muniment.errors import InvalidConfig
from muniment.event import Event

# Name, value, category, severity and title: the vocabulary that callers and searches rely on.
_STANDARD = """
LOGIN                 login                 authentication info   Logged in
LOGIN_FAILED          login_failed          authentication medium Failed to log in
LOGOUT                logout                authentication info   Logged out
SSO_LOGIN             sso_login             authentication info   Logged in by single sign-on
SSO_LOGIN_FAILED      sso_login_failed      authentication medium Failed to log in by single sign-on
IDENTITY_BIND         identity_bind         identity       medium Linked an identity
IDENTITY_UNBIND       identity_unbind       identity       medium Unlinked an identity
IDENTITY_CREATE       identity_create       identity       low    Created an identity
IDENTITY_DELETE       identity_delete       identity       high   Deleted an identity
USER_CREATE           user_create           user           low    Created a user
USER_UPDATE           user_update           user           low    Changed a user
USER_DELETE           user_delete           user           high   Deleted a user
USER_ACTIVATE         user_activate         user           low    Activated a user
USER_DEACTIVATE       user_deactivate       user           medium Deactivated a user
TENANT_CREATE         tenant_create         tenant         medium Created a tenant
TENANT_UPDATE         tenant_update         tenant         low    Changed a tenant
TENANT_DELETE         tenant_delete         tenant         high   Deleted a tenant
TENANT_JOIN           tenant_join           tenant         low    Joined a tenant
TENANT_LEAVE          tenant_leave          tenant         low    Left a tenant
ROLE_ASSIGN           role_assign           role           high   Granted a role
ROLE_REVOKE           role_revoke           role           medium Revoked a role
ROLE_CREATE           role_create           role           medium Created a role
ROLE_UPDATE           role_update           role           medium Changed a role
ROLE_DELETE           role_delete           role           high   Deleted a role
ORG_SYNC              org_sync              org            info   Synchronised the organization
ORG_DEPARTMENT_CREATE org_department_create org            info   Created a department
ORG_DEPARTMENT_UPDATE org_department_update org            info   Changed a department
ORG_MEMBER_CREATE     org_member_create     org            info   Added a member
ORG_MEMBER_UPDATE     org_member_update     org            info   Changed a member
AGENT_CREATE          agent_create          agent          low    Created an agent
AGENT_UPDATE          agent_update          agent          low    Changed an agent
AGENT_DELETE          agent_delete          agent          medium Deleted an agent
AGENT_START           agent_start           agent          info   Started an agent
AGENT_STOP            agent_stop            agent          info   Stopped an agent
"""
_ROWS = [line.split(maxsplit=4) for line in _STANDARD.strip().splitlines()]


class _OurActions(StrEnum):
    INVOICE_VOID = "invoice.void"


def test_there_are_exactly_the_34_standard_actions() -> None:
    """The names and values of the standard actions, in order, are those callers already use."""
    assert [(member.name, member.value) for member in AuditAction] == [
        (name, value) for name, value, *_ in _ROWS
    ]
    assert len(_ROWS) == 34


@pytest.mark.parametrize("member", AuditAction)
def test_a_standard_action_is_its_text(member: AuditAction) -> None:
    """A member is a str, equals its value, and prints as it, however it is printed."""
    assert isinstance(member, str)
    assert member == member.value
    assert f"{member} {member!s} {member:>3}".split() == [member.value] * 3


@pytest.mark.parametrize(("_name", "action", "category", "severity", "title"), _ROWS)
def test_the_catalogue_describes_each_standard_action(
    _name: str, action: str, category: str, severity: str, title: str
) -> None:
    """Every standard action has its category, severity and title."""
    catalogue = make_catalogue()
    assert action in catalogue
    assert catalogue.describe(action) == ActionInfo(
        action=action, category=Category(category), title=title, severity=Severity(severity)
    )
    assert catalogue.category_of(AuditAction(action)) == category


def test_the_catalogue_holds_the_standard_actions_and_our_own() -> None:
    """Nothing but the 34 and muniment's own `audit.*` is known from the start."""
    catalogue = make_catalogue()
    own = {info.action for info in catalogue} - {*AuditAction}
    assert own == {
        "audit.loss",
        "audit.view",
        "audit.export",
        "audit.token_create",
        "audit.token_rotate",
        "audit.token_revoke",
        "audit.viewer_link_create",
        "audit.sign_in",
        "audit.sign_out",
    }
    kept = {"audit.loss", "audit.token_create", "audit.token_rotate", "audit.token_revoke"}
    for action in own:
        category = Category.BACKGROUND if action in kept else Category.READING
        assert catalogue.category_of(action) == category
    assert len(catalogue) == 43
    assert catalogue.describe("audit.loss").severity is Severity.HIGH


@pytest.mark.parametrize(
    ("action", "category", "title"),
    [
        ("group:create", Category.ORG, "Group create"),
        ("schedule_tick", Category.BACKGROUND, "Schedule tick"),
        ("invoice.delete", Category.BACKGROUND, "Invoice delete"),
        ("agent.pause", Category.AGENT, "Agent pause"),
        ("ROLE/clone", Category.ROLE, "ROLE clone"),
        ("user-export", Category.USER, "User export"),
        ("session_expired", Category.AUTHENTICATION, "Session expired"),
        ("users", Category.BACKGROUND, "Users"),
        ("...", Category.BACKGROUND, "..."),
        ("角色:分配", Category.BACKGROUND, "角色 分配"),
    ],
)
def test_an_unknown_action_gets_a_fair_guess(action: str, category: str, title: str) -> None:
    """An action nobody registered takes the category of its first word, and is `info`."""
    catalogue = make_catalogue()
    assert action not in catalogue
    assert catalogue.describe(action) == ActionInfo(
        action=action, category=Category(category), title=title, severity=Severity.INFO
    )


@given(st.text())
def test_a_lookup_never_fails(action: str) -> None:
    """Whatever text stands for an action, the catalogue says something about it."""
    info = make_catalogue().describe(action)
    assert info.action == action
    assert info.category in Category


def test_an_event_takes_any_action() -> None:
    """Actions that nobody registered are recorded as they are."""
    assert Event(action="invoice.delete").action == "invoice.delete"


def test_an_application_registers_its_own_action() -> None:
    """A registered action is described as its application said, texts standing for choices."""
    catalogue = make_catalogue()
    info = catalogue.register(
        "invoice.delete", category="user", title="Deleted an invoice", severity="high"
    )
    assert info == ActionInfo(
        action="invoice.delete",
        category=Category.USER,
        title="Deleted an invoice",
        severity=Severity.HIGH,
    )
    assert catalogue.describe("invoice.delete") == info
    assert "invoice.delete" in catalogue


def test_a_registered_action_needs_a_category_only() -> None:
    """The title comes from the action's words, the severity is `info`."""
    info = make_catalogue().register("invoice.delete", category=Category.USER)
    assert (info.title, info.severity) == ("Invoice delete", Severity.INFO)


def test_an_action_may_be_a_member_of_any_enum() -> None:
    """An application's own enum is registered and found by its texts."""
    catalogue = make_catalogue()
    info = catalogue.register(_OurActions.INVOICE_VOID, category=Category.USER)
    assert type(info.action) is str
    assert catalogue.describe("invoice.void") == info
    assert _OurActions.INVOICE_VOID in catalogue


def test_a_standard_action_may_be_described_anew() -> None:
    """Registering a known action replaces what is known of it."""
    catalogue = make_catalogue()
    catalogue.register(AuditAction.LOGIN, category="authentication", severity="high")
    assert catalogue.describe("login").severity is Severity.HIGH
    assert len(catalogue) == 43


def test_catalogues_are_independent() -> None:
    """What is registered in one catalogue changes no other."""
    one, other = make_catalogue(), make_catalogue()
    one.register("invoice.delete", category="user")
    one.register("login", category="user")
    assert "invoice.delete" not in other
    assert other.category_of("login") is Category.AUTHENTICATION
    assert len(Catalogue()) == 0


@pytest.mark.parametrize(
    ("given_", "named"),
    [
        ({"action": "", "category": "user"}, "action"),
        ({"action": None, "category": "user"}, "action"),
        ({"action": 5, "category": "user"}, "action"),
        ({"action": "x", "category": "billing"}, "category"),
        ({"action": "x", "category": None}, "category"),
        ({"action": "x", "category": "user", "severity": "fatal"}, "severity"),
    ],
)
def test_a_bad_registration_names_what_is_wrong(given_: dict[str, Any], named: str) -> None:
    """What can't be registered raises `InvalidConfig` with the argument, and changes nothing."""
    catalogue = make_catalogue()
    with pytest.raises(InvalidConfig, match=f"^{named}: "):
        catalogue.register(**given_)
    assert len(catalogue) == 43
