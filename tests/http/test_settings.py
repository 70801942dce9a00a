"""Where the service's settings come from, and what is said about those that are wrong."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from muniment import AuditLog
from muniment.errors import InvalidConfig
from muniment.http import make_app
from muniment.http.settings import ServiceSettings, load_settings


def _file(directory: Path, text: str) -> Path:
    path = directory / "muniment.toml"
    path.write_text(text)
    return path


def test_an_option_comes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    """Each setting is the most deliberate one: option, environment, file, default."""
    file = _file(tmp_path, "[listening]\nport = 1\nworkers = 2\n[limits]\nmax_page = 50\n")
    environment = {"MUNIMENT_HTTP_PORT": "10", "MUNIMENT_HTTP_WORKERS": "20"}
    settings, _ = load_settings(file, environment, port=30, host=None)
    found = (settings.port, settings.workers, settings.max_page, settings.host)
    assert found == (30, 20, 50, "127.0.0.1")


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    """MUNIMENT_CONFIG stands for `--config`."""
    file = _file(tmp_path, "port = 7")
    settings, _ = load_settings(environment={"MUNIMENT_CONFIG": str(file)})
    assert settings.port == 7


def test_the_file_may_name_the_store(tmp_path: Path) -> None:
    """The store's URL is handed out beside the settings, and is in no `repr` of them."""
    file = _file(tmp_path, 'url = "postgresql://muniment:hidden@db/audit"')
    settings, url = load_settings(file, {})
    assert (url, "hidden" in repr(settings)) == ("postgresql://muniment:hidden@db/audit", False)


def test_lists_and_times_are_written_as_people_write_them() -> None:
    """In the environment a list is parted by commas or spaces, a time is seconds or ISO 8601."""
    environment = {
        "MUNIMENT_HTTP_FRAME_ANCESTORS": "https://a.example, https://b.example",
        "MUNIMENT_HTTP_LINK_LIFETIME": "90",
        "MUNIMENT_HTTP_SESSION_LIFETIME": "PT2H",
    }
    settings, _ = load_settings(None, environment)
    assert settings.frame_ancestors == ("https://a.example", "https://b.example")
    assert settings.link_lifetime == timedelta(seconds=90)
    assert settings.session_lifetime == timedelta(hours=2)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """As some editors write it."""
    settings, _ = load_settings(_file(tmp_path, "\ufeffport = 1"), {})
    assert settings.port == 1


def test_an_empty_variable_is_as_good_as_none() -> None:
    """What a deployment leaves blank keeps its default."""
    settings, _ = load_settings(None, {"MUNIMENT_HTTP_PORT": ""})
    assert settings.port == ServiceSettings().port


@pytest.mark.parametrize(
    ("environment", "options", "text", "said"),
    [
        pytest.param({"MUNIMENT_HTTP_PROT": "1"}, {}, "", "MUNIMENT_HTTP_PROT: prot", id="name"),
        pytest.param({}, {}, "prot = 1", "toml: prot is no setting", id="name in the file"),
        pytest.param({"MUNIMENT_HTTP_PORT": "x"}, {}, "", "MUNIMENT_HTTP_PORT: ", id="value"),
        pytest.param({}, {"port": 70_000}, "", "--port: ", id="option"),
        pytest.param({}, {}, 'port = "x"', "toml: port: ", id="value in the file"),
        pytest.param({}, {}, "port", "toml: is no TOML: ", id="no TOML"),
        pytest.param({}, {}, "[a]\nport=1\n[b]\nport=2", "port: is set twice", id="twice"),
        pytest.param({}, {}, "url = 1", "url: is not text", id="url"),
        pytest.param({}, {"tls_key": "k"}, "", "tls_certificate: is missing", id="key alone"),
        pytest.param({}, {"oidc_issuer": "https://i"}, "", "oidc_audience: is missing", id="oidc"),
        pytest.param({}, {"max_connections": 9}, "", "max_connections: ", id="connections"),
        pytest.param({}, {"tenant_share": 0}, "", "--tenant-share: ", id="no share"),
        pytest.param({}, {"link_lifetime": "PT0S"}, "", "--link-lifetime: ", id="no time"),
        pytest.param({}, {"session_lifetime": -1}, "", "--session-lifetime: ", id="before"),
        pytest.param({}, {"public_url": "audit.example"}, "", "public_url: must be", id="no URL"),
        pytest.param({}, {"oidc_issuer": "http://i.example"}, "", "oidc_issuer: ", id="plain"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    environment: dict[str, str], options: dict[str, object], text: str, said: str, tmp_path: Path
) -> None:
    """The error names the setting, and where it is set."""
    with pytest.raises(InvalidConfig) as refused:
        load_settings(_file(tmp_path, text), environment, **options)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "given", ["app.example", "https://a;script-src *", "*", "https://a/b", "https://a\n", "'none'"]
)
def test_only_origins_may_frame_the_viewer(given: str) -> None:
    """Nothing else gets into the policy that fences a page in."""
    with pytest.raises(InvalidConfig, match="frame_ancestors"):
        load_settings(None, {}, frame_ancestors=(given,))


@pytest.mark.parametrize(
    "given", ["https://a.example", "https://*.a.example:8443", "http://localhost:*", "'self'"]
)
def test_origins_are_those_of_the_policy(given: str) -> None:
    """With a scheme; a port and what is below a domain can be left open."""
    settings, _ = load_settings(None, {}, frame_ancestors=(given,))
    assert settings.frame_ancestors == (given,)


def test_no_value_is_repeated_in_an_error() -> None:
    """A secret that got into the wrong setting is not told to whoever reads the log."""
    with pytest.raises(InvalidConfig) as refused:
        load_settings(None, {"MUNIMENT_HTTP_PORT": "hunter2"})
    assert "hunter2" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing file is an error, not a file without settings."""
    with pytest.raises(InvalidConfig, match=r"gone\.toml: can't be read"):
        load_settings(tmp_path / "gone.toml", {})


def test_actions_are_described_in_the_file(tmp_path: Path) -> None:
    """An application that only speaks HTTP can say what its actions are about."""
    file = tmp_path / "muniment.toml"
    file.write_text('[actions."invoice.approve"]\ncategory = "user"\ntitle = "Approved"\n')
    settings, _ = load_settings(file, {})
    log = AuditLog.open(f"sqlite:///{tmp_path}/audit.db")
    make_app(log, settings)
    known = log.catalogue.describe("invoice.approve")
    assert (known.category, known.title) == ("user", "Approved")


def test_actions_are_described_in_the_environment() -> None:
    """As JSON, the same table as in the file."""
    given = {"MUNIMENT_HTTP_ACTIONS": '{"invoice.approve": {"category": "user"}}'}
    settings, _ = load_settings(None, given)
    assert settings.actions["invoice.approve"].category == "user"


def test_an_action_of_no_known_category_is_refused() -> None:
    """The error names the variable, the action and what is wrong with it."""
    given = {"MUNIMENT_HTTP_ACTIONS": '{"x": {"category": "sports"}}'}
    with pytest.raises(InvalidConfig, match=r"^MUNIMENT_HTTP_ACTIONS: x\.category: "):
        load_settings(None, given)


@pytest.mark.parametrize("given", ["abc", "{", "[" * 100_000])
def test_actions_that_are_no_json_are_refused(given: str) -> None:
    """The error shows what they look like."""
    with pytest.raises(InvalidConfig, match=r"^MUNIMENT_HTTP_ACTIONS: is no JSON; give it as \{"):
        load_settings(None, {"MUNIMENT_HTTP_ACTIONS": given})


@pytest.mark.parametrize("name", ["idle_seconds", "drain_seconds", "search_seconds"])
@pytest.mark.parametrize("given", ["inf", "nan", "1e30"])
def test_a_time_without_end_is_refused(name: str, given: str) -> None:
    """No clock could wait for it."""
    with pytest.raises(InvalidConfig, match=f"^MUNIMENT_HTTP_{name.upper()}: "):
        load_settings(None, {f"MUNIMENT_HTTP_{name.upper()}": given})
