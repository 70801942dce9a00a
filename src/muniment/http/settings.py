"""What can be set of the service: by environment (`MUNIMENT_HTTP_…`), by file, by argument."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """The service's settings. Sizes are in bytes, times in seconds unless they say otherwise."""

    model_config = SettingsConfigDict(env_prefix="MUNIMENT_HTTP_", extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8640, ge=0, le=65_535)
    tls_certificate: str | None = None
    tls_key: str | None = None
    behind_tls: bool = False
    public_url: str | None = None
    frame_ancestors: tuple[str, ...] = ()
    record_reading: bool = True

    max_header_bytes: int = Field(default=32_768, ge=8_192)
    max_event_bytes: int = Field(default=1_048_576, ge=1_024)
    max_batch_bytes: int = Field(default=67_108_864, ge=1_024)
    max_batch_events: int = Field(default=100_000, ge=1)
    max_page: int = Field(default=1_000, ge=1, le=10_000)
    max_requests: int = Field(default=256, ge=1)
    max_tails: int = Field(default=64, ge=1)
    drain_seconds: float = Field(default=20.0, gt=0)

    link_lifetime: timedelta = timedelta(minutes=2)
    session_lifetime: timedelta = timedelta(hours=1)

    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_tenant_claim: str = "tenant_id"
    oidc_scope_claim: str = "scope"
    oidc_scope_prefix: str = "muniment:"
