"""What the tests of importers may ask for."""

from __future__ import annotations

from tests.cli.running import store_url_ready

__all__ = ["store_url_ready"]
