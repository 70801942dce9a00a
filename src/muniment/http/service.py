"""What every handler works with: the log, the settings, and what goes on beside the requests."""

from __future__ import annotations

from muniment.http.readings import Readings
from muniment.http.settings import ServiceSettings
from muniment.log import AuditLog


class Service:
    """One per application; handlers ask for it by the name `service`."""

    def __init__(self, log: AuditLog, settings: ServiceSettings) -> None:
        self.log = log
        self.settings = settings
        self.readings = Readings(log, is_on=settings.record_reading)
