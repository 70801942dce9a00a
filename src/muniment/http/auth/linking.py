"""Viewer links: short-lived, read-only ways into one tenant's pages."""

from __future__ import annotations

from litestar.types import ControllerRouterHandler

ROUTES: tuple[ControllerRouterHandler, ...] = ()
