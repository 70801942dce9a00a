"""muniment: the audit trail for multi-tenant services and the AI agents that act in them."""

from muniment.actions import ActionInfo, AuditAction, Catalogue, Category, Severity
from muniment.default_log import configure
from muniment.errors import (
    Conflict,
    EventNotFound,
    EventRefused,
    InvalidConfig,
    InvalidEvent,
    InvalidQuery,
    LogClosed,
    MunimentError,
    NotDurable,
    SchemaMismatch,
    StoreError,
    StoreUnavailable,
    UnsafeStore,
)
from muniment.event import Actor, Change, Context, Event, Outcome, Target
from muniment.log import AuditLog
from muniment.processors import enrich, redact
from muniment.query import EventFilter, Page
from muniment.receipts import Receipt
from muniment.watching import Health
from muniment.writers import (
    write_audit_log,
    write_identity_audit_log,
    write_role_audit_log,
    write_tenant_audit_log,
)

__all__ = [
    "ActionInfo",
    "Actor",
    "AuditAction",
    "AuditLog",
    "Catalogue",
    "Category",
    "Change",
    "Conflict",
    "Context",
    "Event",
    "EventFilter",
    "EventNotFound",
    "EventRefused",
    "Health",
    "InvalidConfig",
    "InvalidEvent",
    "InvalidQuery",
    "LogClosed",
    "MunimentError",
    "NotDurable",
    "Outcome",
    "Page",
    "Receipt",
    "SchemaMismatch",
    "Severity",
    "StoreError",
    "StoreUnavailable",
    "Target",
    "UnsafeStore",
    "configure",
    "enrich",
    "redact",
    "write_audit_log",
    "write_identity_audit_log",
    "write_role_audit_log",
    "write_tenant_audit_log",
]
