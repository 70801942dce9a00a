"""Serves the application with granian: where it listens, its workers, how it ends.

granian bounds a request's head and the time it may take, in Rust, before any Python runs.
"""

from __future__ import annotations

import ipaddress
import math
import resource
import signal
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, Self

from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer, WorkerProcess

from muniment.errors import InvalidConfig, MunimentError
from muniment.http.settings import ServiceSettings
from muniment.http.worker import ACCESS_LOGGER, IsNews, Work, load, signals_held_back

_PIECE: Final = 262_144
_BACKLOG: Final = 2_048
# A worker ends itself after `drain_seconds`; one that has not by then is killed.
_KILL_AFTER: Final = 10
# The exit code of a process that a signal ends.
_AT_ONCE: Final = 128 + signal.SIGTERM
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Place:
    """An address that is ours to listen on, once `bound`; use it in a `with`."""

    def __init__(self, address: str, port: int, held: socket.socket) -> None:
        self.address = address
        self.port = port
        self._held = held

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.address)

    def url(self, settings: ServiceSettings) -> str:
        """The base URL that this machine reaches it by."""
        scheme = "https" if settings.tls_certificate else "http"
        any_address = ipaddress.ip_address(self.address).is_unspecified
        shown = "localhost" if any_address else self.address
        return f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{self.port}"


def resolved(host: str) -> str:
    """The address that `host` stands for: the first that is not loopback, if there is one.

    Raises `InvalidConfig` if it has none.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InvalidConfig(f"host: {host!r} is no address of this machine: {error}") from None
    addresses = [str(address[0]) for *_, address in found]
    return next((one for one in addresses if not is_loopback(one)), addresses[0])


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def bound(settings: ServiceSettings) -> Place:
    """The place to listen on, taken; no connection is accepted yet. Port 0 is one that was free.

    Raises `MunimentError` if somebody else listens there, or we may not; `InvalidConfig` for an
    address, certificate or key that is none, and a directory of exports that we can't write to.
    """
    _check_certificate(settings)
    _check_export_directory(settings)
    address = resolved(settings.host)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        if settings.port:
            # Workers share a port by SO_REUSEPORT. So would another service of the same user,
            # and each would get some of the other's connections; without it we are told.
            with socket.socket(family, socket.SOCK_STREAM) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind((address, settings.port))
        held = socket.socket(family, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((address, settings.port))
    except OSError as error:
        raise MunimentError(
            f"can't listen on {settings.host} port {settings.port}: {error.strerror}; "
            "choose another one with --port, or end what listens there"
        ) from None
    port = held.getsockname()[1]
    if not sys.platform.startswith("linux"):  # elsewhere a bound socket is in granian's way
        held.close()
    return Place(address, port, held)


def serve(
    url: str, settings: ServiceSettings, place: Place, *, when_up: Callable[[], None]
) -> None:
    """Serve the log at `url` until SIGTERM or SIGINT; returns once all is answered and durable.

    `when_up` is called, in a thread, when the first worker answers. A second signal ends at once.
    Raises `MunimentError` if workers die as soon as they start.
    """
    _allow_open_files()
    is_up = get_context().Event()
    server = _server(settings, place)
    waiting = threading.Thread(target=_tell_when, args=(is_up.wait, when_up), daemon=True)
    server.on_startup(waiting.start)
    # Whichever worker is asked for an export must find it, whoever made it.
    with tempfile.TemporaryDirectory(prefix="muniment-exports-") as exports:
        given = {"export_directory": settings.export_directory or exports}
        work = Work(url=url, settings=settings.model_copy(update=given), is_up=is_up)
        try:
            server.serve(target_loader=partial(load, work))
        except SystemExit as end:
            if end.code == _AT_ONCE:
                raise
            if end.code and not server.interrupt_signal:
                raise MunimentError("the workers died; what they said is above") from None


def _server(settings: ServiceSettings, place: Place) -> _Server:
    certificate, key = settings.tls_certificate, settings.tls_key
    return _Server(
        "muniment",
        address=place.address,
        port=place.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        loop=Loops.uvloop,
        # With HTTP/2 a connection may stay silent for ever: there granian has no timeout.
        http=HTTPModes.http1,
        websockets=False,
        # A connection that is not accepted waits unseen: we accept it, and answer 503.
        backlog=_BACKLOG,
        backpressure=settings.max_connections,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(settings.idle_seconds * 1000),
            # The application refuses what is over the limit, and says why; this is the end. It is
            # also how much of a batch comes at once: in small pieces, ingest is a fifth slower.
            max_buffer_size=max(_PIECE, 2 * settings.max_header_bytes),
        ),
        log_level=LogLevels.warning,
        log_dictconfig=_logging(),
        ssl_cert=Path(certificate) if certificate else None,
        ssl_key=Path(key) if key else None,
        respawn_failed_workers=True,
        workers_kill_timeout=math.ceil(settings.drain_seconds) + _KILL_AFTER,
    )


class _Process(WorkerProcess):
    """A worker that one thread alone waits for.

    With two, the one that the system doesn't tell of the end takes the worker for alive, and the
    server logs that it has to kill it.
    """

    def _watch(self) -> None:
        self._watcher_thread = threading.Thread(target=self._watcher)
        self._watcher_thread.start()

    def _watcher(self) -> None:
        self.inner.join()
        if not self.parent.interrupt_signal:  # else it may have got the signal before we did
            super()._watcher()  # type: ignore[no-untyped-call]

    def join(self, timeout: float | None = None) -> None:
        self._watcher_thread.join(timeout)


class _Server(MPServer):
    """Granian, except that a second signal ends at once, and a hang-up is a signal to end.

    A worker that is still starting misses no signal: it is born with them held back. Whoever starts
    us by `nohup` has hang-ups ignored.
    """

    def __init__(self, *args: Any, **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    def _spawn_worker(self, *args: Any, **extra: Any) -> WorkerProcess:
        worker = super()._spawn_worker(*args, **extra)
        worker.__class__ = _Process  # there is no other way to have our own
        return worker

    def _spawn_workers(self, *args: Any) -> None:
        with signals_held_back():
            super()._spawn_workers(*args)  # type: ignore[no-untyped-call]

    def _respawn_workers(self, *args: Any, **extra: Any) -> None:
        with signals_held_back():
            super()._respawn_workers(*args, **extra)

    def signal_handler_interrupt(self, *args: Any, **extra: Any) -> None:
        if self.interrupt_signal:
            for worker in self.wrks:
                worker.kill()  # type: ignore[no-untyped-call]
            raise SystemExit(_AT_ONCE)
        super().signal_handler_interrupt(*args, **extra)  # type: ignore[no-untyped-call]

    def signal_handler_reload(self, *args: Any, **extra: Any) -> None:
        if not self.ignores_hangup:
            self.signal_handler_interrupt(*args, **extra)


def _check_certificate(settings: ServiceSettings) -> None:
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:  # ssl.SSLError is one
        raise InvalidConfig(
            f"tls_certificate, tls_key: {certificate} and {key} can't be used: "
            f"{error.strerror or error}"
        ) from None


def _check_export_directory(settings: ServiceSettings) -> None:
    if settings.export_directory is None:
        return
    try:
        Path(settings.export_directory).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=settings.export_directory).close()
    except OSError as error:
        raise InvalidConfig(
            f"export_directory: {settings.export_directory} can't be written to: {error.strerror}"
        ) from None


def _tell_when(wait: Callable[[], Any], tell: Callable[[], None]) -> None:
    wait()
    with suppress(OSError, ValueError):  # nobody reads us any more
        tell()


def _allow_open_files() -> None:
    """As many as the system lets us have: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _logging() -> dict[str, Any]:
    """What the service logs: warnings of all, and the access log if it is on; all on stderr."""
    return {
        "formatters": {"line": {"format": _FORMAT}, "bare": {"format": "%(asctime)s %(message)s"}},
        "filters": {"news": {"()": IsNews}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "filters": ["news"],
            },
            "access": {"class": "logging.StreamHandler", "formatter": "bare"},
        },
        "loggers": {
            "_granian": {"handlers": ["stderr"], "propagate": False},
            "muniment": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
            ACCESS_LOGGER: {"handlers": ["access"], "level": "INFO", "propagate": False},
        },
    }
