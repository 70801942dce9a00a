"""What can be set of the service: by option, by environment (`MUNIMENT_HTTP_…`), by file."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from muniment.actions import Category, Severity
from muniment.errors import InvalidConfig

PREFIX: Final = "MUNIMENT_HTTP_"
_TABLES: Final = frozenset({"actions"})
"""The settings that are tables in a file."""
FILE_VARIABLE: Final = "MUNIMENT_CONFIG"

# A comma or white space parts them, in the environment as in an option.
_Several = Annotated[tuple[str, ...], NoDecode]
# Host-sources (CSP Level 3, section 2.3.1) with a scheme, and nothing that ends the directive.
_FRAMER: Final = re.compile(r"'self'|https?://(\*\.)?[a-zA-Z0-9.-]+(:([0-9]+|\*))?")
_WEB_URL: Final = re.compile(r"https?://[^\s?#@]+")
_KEPT_PRIVATE: Final = re.compile(r"https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/]")


class KnownAction(BaseModel):
    """What is known of an action that is not among the standard ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    category: Category
    title: str | None = None
    severity: Severity = Severity.INFO


class ServiceSettings(BaseSettings):
    """The service's settings: what is given, else the environment's, else these defaults.

    Sizes are in bytes. Times are in seconds; those ending in `_lifetime` may be ISO 8601
    too, such as `PT2M`. `load_settings` reads a file too, and tells errors in one line.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=8640, ge=0, le=65_535, description="The port; 0 picks a free one.")
    workers: int = Field(default=1, ge=1, le=64, description="How many processes answer.")
    tls_certificate: str | None = Field(
        default=None, description="A PEM file: the certificate, and those that it hangs on."
    )
    tls_key: str | None = Field(default=None, description="A PEM file: the certificate's key.")
    behind_tls: bool = Field(
        default=False, description="A proxy before the service ends TLS; nobody else reaches it."
    )
    allow_plain_http: bool = Field(
        default=False, description="Listen beyond loopback without TLS: tokens can be overheard."
    )
    public_url: str | None = Field(
        default=None, description="Where people reach the viewer, for the links that are given out."
    )
    frame_ancestors: _Several = Field(
        default=(), description="The origins whose pages may embed the viewer."
    )
    record_reading: bool = Field(
        default=True, description="Record who reads (`audit.view`) and takes away (`audit.export`)."
    )
    public_metrics: bool = Field(
        default=False, description="Whether `/metrics` answers without a token."
    )
    access_log: bool = Field(
        default=False,
        description="A line a request on stderr: method, path, status, milliseconds. No queries.",
    )
    export_directory: str | None = Field(
        default=None, description="Where exports are made; unless set, a temporary directory."
    )

    actions: Mapping[str, KnownAction] = Field(
        default={},
        description="The `category`, `title` and `severity` of actions of yours, by their names.",
    )

    max_header_bytes: int = Field(
        default=32_768, ge=8_192, description="A request's head; a longer one gets 431."
    )
    max_event_bytes: int = Field(default=1_048_576, ge=1_024, description="The body of one event.")
    max_batch_bytes: int = Field(
        default=67_108_864, ge=1_024, description="The body of a batch, decompressed."
    )
    max_batch_events: int = Field(default=100_000, ge=1, description="The events of a batch.")
    max_page: int = Field(default=1_000, ge=1, le=10_000, description="The events of a page.")
    search_seconds: float = Field(
        default=2.0,
        ge=0.1,
        le=60,
        description="How long a search looks before it answers with what it found, and a cursor.",
    )
    max_requests: int = Field(
        default=256, ge=1, description="Requests at work in one worker; more get 503."
    )
    max_batches: int = Field(
        default=16, ge=1, description="Batches that arrive in one worker; more get 503."
    )
    max_tails: int = Field(
        default=64, ge=1, description="Live tails open in one worker; more get 503."
    )
    tenant_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="How much of each of these three one tenant may have at once; more get 429.",
    )
    max_connections: int = Field(
        default=4_096,
        ge=1,
        description="Connections open in one worker, idle ones too; more wait to be accepted.",
    )
    idle_seconds: float = Field(
        default=30.0,
        ge=1,
        le=3_600,
        description="How long a connection may take to send a request's head, or lie idle.",
    )
    drain_seconds: float = Field(
        default=20.0,
        gt=0,
        le=3_600,
        description="How long requests may take to finish once it is stopped.",
    )

    link_lifetime: timedelta = Field(
        default=timedelta(minutes=2),
        gt=timedelta(0),
        le=timedelta(days=1),
        description="How long a viewer link can be opened.",
    )
    session_lifetime: timedelta = Field(
        default=timedelta(hours=1),
        gt=timedelta(0),
        le=timedelta(days=30),
        description="How long a viewer session lasts.",
    )

    oidc_issuer: str | None = Field(
        default=None, description="The URL of an OpenID Connect issuer whose tokens are taken."
    )
    oidc_audience: str | None = Field(
        default=None, description="Whom those tokens must be made out to."
    )
    oidc_tenant_claim: str = Field(default="tenant_id", description="The claim with the tenant.")
    oidc_scope_claim: str = Field(default="scope", description="The claim with the scopes.")
    oidc_scope_prefix: str = Field(
        default="muniment:", description="What stands before our scopes in that claim."
    )

    @field_validator("frame_ancestors", mode="before")
    @classmethod
    def _parted(cls, value: Any) -> Any:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("frame_ancestors")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if not _FRAMER.fullmatch(each):
                raise ValueError(
                    "frame_ancestors: holds what is no origin; give them as https://app.example.com"
                )
        return value

    @field_validator("public_url")
    @classmethod
    def _web_url(cls, value: str | None) -> str | None:
        if value is not None and not _WEB_URL.fullmatch(value):
            raise ValueError("public_url: must be as https://audit.example.com, without a query")
        return value

    @field_validator("oidc_issuer")
    @classmethod
    def _private_url(cls, value: str | None) -> str | None:
        if value is not None and not _KEPT_PRIVATE.match(value):
            raise ValueError(
                "oidc_issuer: must be an https URL; whoever is between could give out keys"
            )
        return value

    @field_validator("link_lifetime", "session_lifetime", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if bool(self.tls_certificate) != bool(self.tls_key):
            missing = "tls_key" if self.tls_certificate else "tls_certificate"
            raise ValueError(f"{missing}: is missing; a certificate and its key go together")
        if self.oidc_issuer and not self.oidc_audience:
            raise ValueError("oidc_audience: is missing; without it any token of the issuer is in")
        if self.max_connections < self.max_requests + self.max_tails:
            raise ValueError(
                "max_connections: must be at least max_requests + max_tails, or callers would "
                "wait where a 503 is due"
            )
        return self


def load_settings(
    file: str | Path | None = None,
    environment: Mapping[str, str] = os.environ,
    **options: Any,
) -> tuple[ServiceSettings, str | None]:
    """The settings, and the URL of the store if the file names one as `url`.

    An option that is not None comes before the environment, that before the file (TOML, named by
    `MUNIMENT_CONFIG` unless given), that before the defaults. Raises `InvalidConfig` naming the
    setting, and where it is set; an unknown one is refused.
    """
    path = file or environment.get(FILE_VARIABLE) or None
    found = _of_file(Path(path)) if path else {}
    url = found.pop("url", None)
    if url is not None and not isinstance(url, str):
        raise InvalidConfig(f"{path}: url: is not text")
    where = dict.fromkeys(found, str(path))
    for variable, value in environment.items():
        name = variable.removeprefix(PREFIX).lower()
        if variable.startswith(PREFIX) and value:
            found[name] = _table_of(variable, value) if name in _TABLES else value
            where[name] = variable
    for name, value in options.items():
        if value is not None:
            found[name], where[name] = value, "--" + name.replace("_", "-")
    try:
        return ServiceSettings(**found), url
    except ValidationError as error:
        raise InvalidConfig(_told(error, where)) from None


def _table_of(variable: str, value: str) -> Any:
    """A table, which is JSON in the environment."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise InvalidConfig(
            f'{variable}: is no JSON; give it as {{"invoice.approve": {{"category": "user"}}}}'
        ) from None


def _of_file(path: Path) -> dict[str, Any]:
    """The settings in a file. Its sections are there for the eye, but for those of `_TABLES`."""
    try:
        read = tomllib.loads(path.read_text("utf-8-sig"))  # some editors begin with a mark
    except OSError as error:
        raise InvalidConfig(f"{path}: can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{path}: is no TOML: {error}") from None
    found: dict[str, Any] = {}
    for name, value in read.items():
        is_section = isinstance(value, dict) and name not in _TABLES
        for key, inner in value.items() if is_section else [(name, value)]:
            if key in found:
                raise InvalidConfig(f"{path}: {key}: is set twice; leave one of them")
            found[key] = inner
    return found


def _told(error: ValidationError, where: Mapping[str, str]) -> str:
    """The first thing that is wrong, in a line; never the value, which may be a secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    place = where.get(name, "")
    if first["type"] == "extra_forbidden":
        return f"{place}: {name} is no setting of the service; docs/deploy.md lists them"
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    given = place if place.startswith(("--", PREFIX)) else f"{place}: {name}"
    inside = ".".join(str(part) for part in first["loc"][1:])  # of a table
    given += f": {inside}" if inside else ""
    problem = first["msg"][:1].lower() + first["msg"][1:]
    return f"{given}: {problem}"
