"""The trail over HTTP: an API for any language, and the pages of the viewer.

Needs `pip install 'muniment[http]'`. `make_app` gives an ASGI application, to be served or to be
mounted inside another one, which may say in its own way who is calling: as a `Caller`.
"""

from __future__ import annotations

from muniment.http.access import Caller, Scope
from muniment.http.app import make_app
from muniment.http.settings import ServiceSettings

__all__ = ["Caller", "Scope", "ServiceSettings", "make_app"]
