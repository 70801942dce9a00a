"""Importers: events from muniment's own lines, from CloudTrail, and from a table of audit logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from muniment.importers.audit_logs import AuditLogsImporter
from muniment.importers.base import Importer, Item, Progress
from muniment.importers.cloudtrail import CloudTrailImporter
from muniment.importers.jsonl import JsonlImporter
from muniment.importers.running import ImportReport, Refusal, import_events

KINDS: Final[Mapping[str, Callable[..., Importer]]] = MappingProxyType(
    {
        "audit-logs": AuditLogsImporter,
        "cloudtrail": CloudTrailImporter,
        "jsonl": JsonlImporter,
    }
)
"""What makes an importer of each kind: called with the source and, if wanted, `tenant_id=`."""

__all__ = [
    "KINDS",
    "AuditLogsImporter",
    "CloudTrailImporter",
    "ImportReport",
    "Importer",
    "Item",
    "JsonlImporter",
    "Progress",
    "Refusal",
    "import_events",
]
