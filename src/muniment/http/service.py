"""What every handler works with: the log, the settings, and what goes on beside the requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from litestar import Request, Response

from muniment.diagnostics import Diagnostics
from muniment.http.auth.identifying import Identifier, Identify
from muniment.http.exports import Exports
from muniment.http.limits import Rooms
from muniment.http.problems import Problem
from muniment.http.readings import Readings
from muniment.http.settings import ServiceSettings
from muniment.integrations.prometheus import RequestMetrics
from muniment.log import AuditLog


class Service:
    """One per application; handlers ask for it by the name `service`.

    `closing` is set when the service begins to end: what would go on for ever ends then. `rooms`
    are for what there may be at once. `diagnostics` are what the operator is told of.
    `render_problem` makes a page of a problem, for people.
    """

    render_problem: Callable[[Request[Any, Any, Any], Problem], Response[Any]] | None = None

    def __init__(
        self, log: AuditLog, settings: ServiceSettings, identify: Identify | None = None
    ) -> None:
        self.log = log
        self.settings = settings
        self.closing = asyncio.Event()
        self.identifier = Identifier(log, settings, identify)
        self.readings = Readings(log, is_on=settings.record_reading)
        self.exports = Exports(log, settings.export_directory)
        self.requests = RequestMetrics()
        self.diagnostics = Diagnostics("muniment.http")
        self.rooms = Rooms(settings)
