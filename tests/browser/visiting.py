"""Visits to the viewer, each in a browser of its own, and each watched for what must not happen."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Route

from tests.servers.chromium import PATIENCE

Visit = Callable[..., Page]
"""Opens a path, in a new context with the options that it is given."""
_PAUSE: Final = 50
_QUIET: Final = {"data", "blob", "about"}
# What hostile events try to call: a call is told like any error of a script.
_TRAP: Final = """
    globalThis.harm = () => { throw new Error("a script of an event ran"); };
"""


class Visits:
    """Makes browser contexts, signed in by cookies.

    `said` is all that went wrong in any of them, what is allowed too.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._allowed: list[re.Pattern[str]] = []
        self.said: list[str] = []
        self._origins: set[str] = set()

    def allow(self, error: str) -> None:
        """Let errors that match a pattern be: the test provokes them."""
        self._allowed.append(re.compile(error))

    def page(self, url: str, *, cookie: str | None = None, also: str = "", **options: Any) -> Page:
        """A page in a new context for the site at `url`, and no other one but those in `also`."""
        self._origins |= {url, *also.split()}
        given: dict[str, Any] = {
            "base_url": url,
            "locale": "en-GB",
            "timezone_id": "UTC",
            "reduced_motion": "reduce",
            "viewport": {"width": 1280, "height": 800},
            **options,
        }
        context = self._browser.new_context(**given)
        self._contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.add_init_script(_TRAP)
        context.route("**/*", self._route)
        context.on("console", self._note)
        context.on("weberror", lambda error: self.said.append(f"script: {error.error}"))
        context.on("dialog", self._close)
        if cookie is not None:
            name, _, value = cookie.partition("=")
            context.add_cookies([{"name": name, "value": value, "url": url, "httpOnly": True}])
        return context.new_page()

    def close(self) -> None:
        """Close all of them."""
        for context in self._contexts:
            context.close()

    def faults(self) -> list[str]:
        """Errors of scripts and of the console (violations of the policy are), strange requests."""
        return [said for said in self.said if not any(each.search(said) for each in self._allowed)]

    def hear(self, page: Page, told: str) -> None:
        """Return once that has gone wrong; what a browser says comes when it comes."""
        for _ in range(PATIENCE // _PAUSE):
            if any(told in said for said in self.said):
                return
            page.wait_for_timeout(_PAUSE)
        raise AssertionError(self.said)

    def _route(self, route: Route) -> None:
        parts = urlsplit(route.request.url)
        if parts.scheme in _QUIET or f"{parts.scheme}://{parts.netloc}" in self._origins:
            route.continue_()
            return
        self.said.append(f"request to another origin: {route.request.url}")
        route.abort()

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            where = message.location.get("url", "")
            self.said.append(f"console: {message.text} ({where})")

    def _close(self, dialog: Dialog) -> None:
        self.said.append(f"dialog: {dialog.message}")
        dialog.dismiss()
