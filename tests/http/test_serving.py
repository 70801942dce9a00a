"""How the service is started and reached: where it listens, whom it lets in, what it prints."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import pty
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import HTTPSHandler, build_opener

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from muniment.cli import main
from muniment.http import serving
from tests.cli.running import PROGRAM, muniment
from tests.scripted import LONG
from tests.servers.muniment import Served, get

Serve = Callable[..., Served]
EVERYWHERE = "0.0.0.0"  # noqa: S104  # nothing is listened on here
LOGIN = {"action": "login", "tenant_id": "acme", "actor": {"type": "user", "id": "u1"}}


def post(served: Served, token: str | None = None) -> int:
    """The status that a login gets, with the first token or another one."""
    headers = {"Authorization": f"Bearer {token}"} if token else served.headers
    url = f"{served.url}/v1/events"
    return httpx.post(url, json=LOGIN, headers=headers, timeout=LONG).status_code


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[serving.Place]:
    """The places where the service would have been served: nothing is, nor listened on."""
    places: list[serving.Place] = []

    def serve(_: str, __: object, place: serving.Place, **___: object) -> None:
        places.append(place)

    monkeypatch.setattr(serving, "serve", serve)
    return places


# --- tokens and addresses


def test_it_listens_on_loopback_and_says_where(served: Served) -> None:
    """Unless told otherwise only this machine reaches it, at the URL that is printed."""
    assert served.url.startswith("http://127.0.0.1:")
    assert get(f"{served.url}/healthz")[0] == 200


def test_a_log_in_postgres_is_served_just_so(served_postgres: Served) -> None:
    """The first token opens the door to a PostgreSQL log as well."""
    assert post(served_postgres) == 201


def test_the_first_token_is_shown_once_and_goes_on(serve: Serve, sqlite_url: str) -> None:
    """A second start prints no token, and takes the first one's."""
    first = serve(sqlite_url)
    assert first.output.count(str(first.token)) == 1
    assert post(first) == 201
    assert first.stop() == 0
    second = serve(sqlite_url)
    assert second.token is None
    assert post(second, first.token) == 201


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", EVERYWHERE), "in the clear; give --tls-certificate"),
        (("--host", "::"), "in the clear; give --tls-certificate"),
        (("--host", "192.0.2.1"), "in the clear; give --tls-certificate"),
        (("--host", "no.such.host.invalid"), "is no address of this machine"),
        (("--host", EVERYWHERE, "--behind-tls"), "nobody has a token; make one with"),
        (("--host", EVERYWHERE, "--allow-plain-http"), "nobody has a token; make one with"),
    ],
)
def test_it_refuses_to_be_exposed_by_accident(
    arguments: tuple[str, ...], said: str, sqlite_url: str, started: list[serving.Place]
) -> None:
    """Beyond loopback it wants a token and TLS, and says so in one line."""
    done = muniment("serve", "--port", "0", *arguments, url=sqlite_url)
    assert (done.exit_code, done.stderr.count("\n"), started) == (2, 1, [])
    assert said in done.stderr


def test_with_a_token_and_a_proxy_it_listens_elsewhere(
    sqlite_url: str, started: list[serving.Place]
) -> None:
    """Told that TLS is taken care of, and with a token there, it starts on any address."""
    assert muniment("serve", "--port", "0", url=sqlite_url).exit_code == 0
    arguments = ("--port", "0", "--host", EVERYWHERE, "--behind-tls")
    assert muniment("serve", *arguments, url=sqlite_url).exit_code == 0
    assert [place.is_loopback for place in started] == [True, False]


def test_a_port_in_use_is_told_in_one_line(sqlite_url: str, started: list[serving.Place]) -> None:
    """Even one that would share itself among sockets, as that of another service does."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = muniment("serve", "--port", taken.getsockname()[1], url=sqlite_url)
    assert (done.exit_code, done.stderr.count("\n"), started) == (1, 1, [])
    assert "choose another one with --port" in done.stderr


def test_exports_need_a_place(
    tmp_path: Path, sqlite_url: str, started: list[serving.Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That there can be none is told at the start, and not to the first who wants one."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("MUNIMENT_HTTP_EXPORT_DIRECTORY", str(tmp_path / "file" / "exports"))
    done = muniment("serve", "--port", "0", url=sqlite_url)
    assert (done.exit_code, done.stderr.count("\n"), started) == (2, 1, [])
    assert "export_directory: " in done.stderr


def test_it_needs_no_output(
    sqlite_url: str, started: list[serving.Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts it with stdout closed has it served all the same."""
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        main.main(["--url", sqlite_url, "serve", "--port", "0"])
    assert (ended.value.code, len(started)) == (0, 1)


def test_without_the_extra_it_names_the_remedy(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where granian is missing, the one line says what to install."""
    monkeypatch.setitem(sys.modules, "granian.constants", None)
    monkeypatch.delitem(sys.modules, "muniment.http.serving")
    monkeypatch.delattr("muniment.http.serving")
    done = muniment("serve", url=sqlite_url)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "pip install 'muniment[http]'" in done.stderr


def test_a_setting_that_is_none_is_refused(
    tmp_path: Path, sqlite_url: str, started: list[serving.Place]
) -> None:
    """An unknown name in the file ends it, in one line that has the name."""
    file = tmp_path / "muniment.toml"
    file.write_text("hots = '127.0.0.1'")
    done = muniment("serve", "--config", file, url=sqlite_url)
    assert (done.exit_code, done.stderr.count("\n"), started) == (2, 1, [])
    assert "hots is no setting of the service" in done.stderr


def test_a_bad_signing_key_is_told_in_one_line(
    sqlite_url: str, started: list[serving.Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each worker would trip over is found before any is started, or a token made."""
    monkeypatch.setenv("MUNIMENT_SIGNING_KEY_FILE", "no.key")
    done = muniment("serve", "--port", "0", url=sqlite_url)
    assert (done.exit_code, done.stdout, done.stderr.count("\n"), started) == (2, "", 1, [])
    assert "no.key: can't be read" in done.stderr


def test_file_environment_and_options_meet(serve: Serve, tmp_path: Path) -> None:
    """A real one takes its store from the file, and of what is set twice the more deliberate."""
    file = tmp_path / "muniment.toml"
    file.write_text(f'url = "sqlite:///{tmp_path}/filed.db"\nmax_page = 5\nmax_event_bytes = 2000')
    running = serve(
        None,
        *("--config", file, "--access-log"),
        MUNIMENT_HTTP_MAX_PAGE="3",
        MUNIMENT_HTTP_ACCESS_LOG="false",
    )
    refused = httpx.get(f"{running.url}/v1/events?limit=4", headers=running.headers, timeout=LONG)
    assert (refused.status_code, "3" in refused.text) == (400, True)
    logged = "GET /v1/events 400"
    assert logged in running.output_with(logged)
    assert (tmp_path / "filed.db").exists()


def test_at_a_terminal_it_shows_a_link_that_opens_the_viewer_once(sqlite_url: str) -> None:
    """A person need not sign in: the link is good for one session, and nowhere but there."""
    ours, theirs = pty.openpty()
    with (
        open(ours, "rb", buffering=0) as terminal,  # noqa: PTH123  # a descriptor
        subprocess.Popen(
            [*PROGRAM, "--url", sqlite_url, "serve", "--port", "0"], stdout=theirs
        ) as running,
    ):
        os.close(theirs)
        shown = b""
        while b"Ctrl-C" not in shown:
            shown += terminal.read(4_096)
        (link,) = re.findall(r"http://\S+/enter\?code=\S+", shown.decode())
        statuses = [httpx.get(link, timeout=LONG).status_code for _ in range(2)]
        running.terminate()
    assert (statuses, running.returncode) == ([303, 403], 0)


# --- TLS


def _certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "muniment")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, SHA256())
    )
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def test_it_speaks_tls(serve: Serve, sqlite_url: str, tmp_path: Path) -> None:
    """With a certificate and its key it answers by HTTPS, to whoever trusts that certificate."""
    certificate, key = _certificate(tmp_path)
    running = serve(sqlite_url, "--tls-certificate", certificate, "--tls-key", key)
    assert running.url.startswith("https://")
    trusting = ssl.create_default_context(cafile=str(certificate))
    with build_opener(HTTPSHandler(context=trusting)).open(f"{running.url}/healthz") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("kept", ["", "no key"])
def test_a_key_that_is_none_is_told_in_one_line(kept: str, sqlite_url: str, tmp_path: Path) -> None:
    """A file that is missing, or holds something else, is named."""
    certificate, key = _certificate(tmp_path)
    key.unlink()
    if kept:
        key.write_text(kept)
    arguments = ("--port", "0", "--tls-certificate", certificate, "--tls-key", key)
    done = muniment("serve", *arguments, url=sqlite_url)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert str(key) in done.stderr


# --- what it writes


def test_no_token_is_in_the_log(serve: Serve, sqlite_url: str) -> None:
    """Not in the access log, wherever it was sent: header, query, path of a request refused."""
    running = serve(sqlite_url, "--access-log")
    secret = "muniment_" + "A" * 43
    for headers in (running.headers, {"Authorization": f"Bearer {secret}"}):
        httpx.get(f"{running.url}/v1/events?token={secret}", headers=headers, timeout=LONG)
    output = running.output_with("GET /v1/events ", times=2)
    assert output.count("GET /v1/events ") == 2
    assert secret not in output
    assert output.count(str(running.token)) == 1
