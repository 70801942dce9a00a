"""The ASGI application: its routes, and what is set up around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ControllerRouterHandler

from muniment.http import api, auth, viewer
from muniment.http.answering import Measured, add_headers
from muniment.http.api import counting, exporting, finding, proving, recording, tailing, watching
from muniment.http.auth import linking, signing_in
from muniment.http.auth.identifying import Identify, admit, caller_of
from muniment.http.heads import Heads
from muniment.http.limits import Limits
from muniment.http.problems import answer
from muniment.http.service import Service
from muniment.http.settings import ServiceSettings
from muniment.http.viewer import assets, event_page, live_page, pages
from muniment.http.viewer.rendering import render_problem
from muniment.log import AuditLog

__all__ = ["api", "auth", "make_app", "viewer"]

_ROUTES: Final[tuple[ControllerRouterHandler, ...]] = (
    *recording.ROUTES,
    *finding.ROUTES,
    *proving.ROUTES,
    *tailing.ROUTES,
    *counting.ROUTES,
    *exporting.ROUTES,
    *watching.ROUTES,
    *linking.ROUTES,
    *signing_in.ROUTES,
    *pages.ROUTES,
    *event_page.ROUTES,
    *live_page.ROUTES,
    *assets.ROUTES,
)


def make_app(
    log: AuditLog, settings: ServiceSettings | None = None, *, identify: Identify | None = None
) -> Litestar:
    """An ASGI application over a log: serve it, or mount it in another one.

    A log that is not open yet is opened when the application starts, and closed when it ends; one
    that is open is the host's to close. The log's catalogue gets the actions of the settings.
    `identify` is how the host knows its callers; those whom it doesn't, the service's own tokens,
    sessions and issuer may.
    """
    settings = settings or ServiceSettings()
    for action, known in settings.actions.items():
        log.catalogue.register(
            action, category=known.category, title=known.title, severity=known.severity
        )
    service = Service(log, settings, identify)
    service.render_problem = render_problem

    @asynccontextmanager
    async def running(_: Litestar) -> AsyncIterator[None]:
        async with nullcontext() if log.snapshot() is not None else log:
            service.exports.open()
            try:
                yield
            finally:
                service.closing.set()
                await service.exports.close()

    app = Litestar(
        list(_ROUTES),
        dependencies={
            "service": Provide(lambda: service, sync_to_thread=False),
            "caller": Provide(caller_of),
        },
        guards=[admit],
        exception_handlers={Exception: answer},
        middleware=[Measured],
        before_send=[add_headers],
        lifespan=[running],
        # How a process logs is its own, or its host's, to say.
        logging_config=None,
        openapi_config=None,
        state=State({"service": service}),
    )
    app.asgi_handler = Heads(
        Limits(app.asgi_handler, log, settings, service.rooms, service.requests)
    )
    return app
