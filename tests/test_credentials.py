"""Where the key and the base URL come from."""

from __future__ import annotations

import os
import re
import traceback
from typing import TYPE_CHECKING

import openai
import pytest

from blades import ConfigError
from blades._credentials import explain_client_failure, find_endpoint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)


def write_dotenv(folder: Path, *lines: str) -> Path:
    path = folder / ".env"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def found(api_key: str | None = None, base_url: str | None = None) -> tuple[str, str | None]:
    endpoint = find_endpoint(api_key, base_url)
    return endpoint.api_key, endpoint.base_url


def problem(api_key: str | None = None, base_url: str | None = None) -> str:
    """Return the message of a refusal, after a look at the frames that it passed."""
    with pytest.raises(ConfigError) as caught:
        find_endpoint(api_key, base_url)
    seen = [str(caught.value)]
    for frame, _ in traceback.walk_tb(caught.tb.tb_next):  # the first frame is this one
        seen += map(repr, frame.f_locals.values())
    assert caught.value.__context__ is None
    assert not any("ter2" in text for text in seen)
    return str(caught.value)


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is passed is used, whatever the variables say."""
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://environment/v1")
    assert found("mine", "http://mine/v1") == ("mine", "http://mine/v1")


def test_the_environment_wins_over_a_dotenv_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Variables of the process come before those of a .env file."""
    write_dotenv(tmp_path, "OPENAI_API_KEY=from-file", "OPENAI_BASE_URL=http://file/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://environment/v1")
    assert found(None, None) == ("from-environment", "http://environment/v1")


def test_a_dotenv_file_is_found_upwards_and_leaves_the_environment_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A .env file of a parent folder is read; os.environ is not written."""
    write_dotenv(tmp_path, "OPENAI_API_KEY=from-file", "OPENAI_BASE_URL=http://file/v1")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    before = dict(os.environ)
    assert found(None, None) == ("from-file", "http://file/v1")
    assert dict(os.environ) == before


def test_without_a_base_url_the_default_is_left_to_the_official_client(tmp_path: Path) -> None:
    """A key alone is enough."""
    write_dotenv(tmp_path, "OPENAI_API_KEY=from-file")
    assert found(None, None) == ("from-file", None)


def test_a_key_from_a_dotenv_file_goes_to_the_host_that_was_passed(tmp_path: Path) -> None:
    """The user's own choice of host takes any key."""
    write_dotenv(tmp_path, "OPENAI_API_KEY=from-file")
    assert found(None, "http://mine/v1") == ("from-file", "http://mine/v1")


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable set to nothing is no key and no URL."""
    monkeypatch.setenv("OPENAI_API_KEY", "")
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    write_dotenv(tmp_path, "OPENAI_API_KEY=from-file", "OPENAI_BASE_URL=")
    assert found(None, None) == ("from-file", None)


def test_a_missing_key_names_the_variable_and_the_argument() -> None:
    """The error says where a key can come from."""
    assert re.search(r"got none: pass api_key= .* set OPENAI_API_KEY", problem(None, "http://mine/v1"))


def test_the_sources_are_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each setting says where it was found, for messages; the key is never shown."""
    endpoint = find_endpoint("hunter2", "http://user:hunter2@mine/v1")
    assert (endpoint.key_source, endpoint.base_url_source) == ("api_key=", "base_url=")
    assert repr(endpoint) == "Endpoint(base_url='http://mine/v1' from base_url=, api_key from api_key=)"
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2")
    endpoint = find_endpoint(None, None)
    assert endpoint.key_source == "OPENAI_API_KEY in the environment"
    assert endpoint.base_url_source == "the official client's default"
    monkeypatch.delenv("OPENAI_API_KEY")
    path = write_dotenv(tmp_path, "OPENAI_API_KEY=hunter2", "OPENAI_BASE_URL=http://file/v1")
    endpoint = find_endpoint(None, None)
    assert (endpoint.key_source, endpoint.base_url_source) == (
        f"OPENAI_API_KEY in {path}",
        f"OPENAI_BASE_URL in {path}",
    )


# .env files


@pytest.mark.parametrize("key_from", ["argument", "environment"])
def test_a_base_url_from_a_dotenv_file_never_meets_a_key_from_elsewhere(
    key_from: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file found by chance cannot send the key to another host; the error does not show the key."""
    path = write_dotenv(tmp_path, "OPENAI_API_KEY=from-file", "OPENAI_BASE_URL=http://stray/v1")
    if key_from == "environment":
        monkeypatch.setenv("OPENAI_API_KEY", "hunter2")
    assert str(path) in problem("hunter2" if key_from == "argument" else None)


def test_a_dotenv_file_cannot_name_other_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A value such as ${SECRET} is not filled in from the environment."""
    monkeypatch.setenv("SECRET", "a-secret")
    write_dotenv(tmp_path, "OPENAI_API_KEY=${SECRET}", "OPENAI_BASE_URL=http://file/v1")
    assert find_endpoint(None, None).api_key == "${SECRET}"


def test_an_unreadable_dotenv_file_is_a_configuration_error(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 do not escape as a decoding error, which would hold them."""
    (tmp_path / ".env").write_bytes(b"OPENAI_API_KEY=hunter2\xff\xfe\n")
    assert problem().endswith(f"got {tmp_path}/.env, which cannot be read: it is not encoded in UTF-8")


def test_a_dotenv_file_that_cannot_be_opened_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message has the reason that the system gives."""
    path = write_dotenv(tmp_path, "OPENAI_API_KEY=hunter2")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dotenv.dotenv_values", refuse)
    assert problem() == f"expected a readable .env file, got {path}, which cannot be read: Permission denied"


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    """Editors on Windows write one; the first variable counts all the same."""
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfOPENAI_BASE_URL=http://file/v1\r\nOPENAI_API_KEY=from-file\r\n")
    assert found() == ("from-file", "http://file/v1")


def test_a_deleted_working_directory_has_no_dotenv_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment is enough there, as for the official client."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    assert found() == ("from-environment", None)


# Keys


@pytest.mark.parametrize(
    "key",
    ["hunter2\n", " hunter2", "hunter2\u00e9", "hunter2\x00", '"hunter2"'],
    ids=["newline", "space", "accent", "nul", "quotes"],
)
def test_a_key_that_no_header_can_hold_is_refused(key: str) -> None:
    """A key with a line break is named as that, instead of failing as a connection error; it is not shown."""
    assert "from api_key=" in problem(key)


# Base URLs

GOOD = "http://mine:8000/v1"


@pytest.mark.parametrize("source", ["argument", "environment", ".env"])
@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"{GOOD}/", id="slash"),
        pytest.param(f"{GOOD}//", id="two slashes"),
        pytest.param(f" {GOOD} ", id="spaces"),
        pytest.param(f"{GOOD}\r\n", id="line end"),
        pytest.param(f"{GOOD}\u00a0", id="no-break space"),
        pytest.param(f"{GOOD}\u200b", id="zero-width space"),
        pytest.param(f"\ufeff{GOOD}", id="byte order mark"),
        pytest.param(f'{GOOD}"', id="quote"),
        pytest.param(f"'{GOOD}/'", id="quotes"),
        pytest.param(f"\u201c{GOOD}\u201d", id="typographic quotes"),
        pytest.param(f"<{GOOD}>", id="angle brackets"),
    ],
)
def test_what_sticks_to_a_base_url_is_removed(
    url: str, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A URL that was copied from a page or a file works, wherever it is given."""
    if source == "argument":
        assert found("key", url) == ("key", GOOD)
    elif source == "environment":
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        assert found("key") == ("key", GOOD)
    else:
        write_dotenv(tmp_path, "OPENAI_API_KEY=key", f"OPENAI_BASE_URL={url}")
        assert found() == ("key", GOOD)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("localhost:8000/v1", "got 'localhost:8000/v1': begin it with https:// or http://", id="no scheme"),
        pytest.param("ftp://host/v1", "got 'ftp://host/v1': begin it with", id="ftp"),
        pytest.param("https://", "got 'https:': begin it with", id="no host"),
        pytest.param("/v1", "got '/v1': begin it with", id="path"),
        pytest.param("http:///v1", "begin it with", id="empty host"),
        pytest.param("hunter2", "got a text that is no URL: begin it with", id="key in the wrong place"),
        pytest.param("user:hunter2@host/v1", "got 'host/v1': begin it with", id="password"),
        pytest.param("https://u:hunter2@host/v1;", "got 'https://host/v1;': remove the last char", id="semicolon"),
        pytest.param("https://host/v1,", "remove the last character, ','", id="comma"),
        pytest.param("https://host/v1?token=hunter2", "got 'https://host/v1' with a query or fragment", id="token"),
        pytest.param("https://host?api-version=1", "extra_query={...} adds a query", id="query"),
        pytest.param(
            "https://u:hun#ter2@host/v1", "got 'https://...' with a query or fragment", id="sign in a password"
        ),
        pytest.param("https://host/v1#hunter2", "got 'https://host/v1' with a query or fragment", id="fragment"),
        pytest.param(f"{GOOD}/chat/completions", "leave out '/chat/completions'", id="endpoint"),
        pytest.param(f"{GOOD}/chat/completions/ ", "leave out '/chat/completions'", id="endpoint with a slash"),
        pytest.param(f"{GOOD}/responses", "leave out '/responses'", id="other endpoint"),
        pytest.param("https://ho st/v1", "remove the white space", id="space inside"),
        pytest.param("https://host\u200b/v1", "remove the white space, invisible character", id="invisible inside"),
        pytest.param("https://https://host/v1", "give one URL", id="twice"),
        pytest.param("https://host:80000/v1", "correct the host or the port", id="port"),
        pytest.param("https://host:eight/v1", "correct the host or the port", id="port of letters"),
        pytest.param("https://[::1/v1", "correct the host or the port", id="bracket"),
        pytest.param("x://\x1b[31m" + "y" * 1000, "\\x1b", id="control characters"),
    ],
)
def test_a_base_url_that_cannot_work_is_refused(url: str, expected: str) -> None:
    """The message names the source, shows the URL without its secrets, and says what to do."""
    message = problem("hunter2", url)
    assert "from base_url=" in message
    assert expected in message
    assert len(message) < 500
    assert message.isprintable()


@pytest.mark.parametrize("url", ["http://[::1]:8000/v1", "HTTPS://host", "http://user:pw@host/v1", "http://中文.cn/v1"])
def test_an_unusual_base_url_passes(url: str) -> None:
    """It is not for us to judge what a server is called."""
    assert found("key", url) == ("key", url)


# The official client cannot be made


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        pytest.param("SSL_CERT_FILE", "/nope.pem", "got '/nope.pem' (No such file or directory)", id="no file"),
        pytest.param("SSL_CERT_FILE", __file__, "got '/", id="no certificates"),
        pytest.param("HTTPS_PROXY", "ftp://x", "Unknown scheme for proxy URL", id="scheme"),
        pytest.param("https_proxy", "http://u:hunter2@h:80:80", "https_proxy to be a URL such as", id="port"),
    ],
)
def test_an_environment_that_no_client_can_use_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    """The message has the variable; a proxy's password is not shown."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of many kinds
        openai.DefaultHttpxClient()
    message = explain_client_failure(caught.value)
    assert variable in message
    assert expected in message
    assert "hunter2" not in message


def test_an_entry_of_no_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older HTTP libraries cannot read IPv6 addresses there."""

    class InvalidURL(Exception):  # as the HTTP library calls it
        pass

    monkeypatch.setenv("NO_PROXY", "localhost, [::1]:8000")
    assert "expected NO_PROXY to list host names, got '[::1]:8000'" in explain_client_failure(InvalidURL("port"))
    monkeypatch.setenv("NO_PROXY", "localhost,http://[::1]")
    assert explain_client_failure(InvalidURL("\x1b")) == "cannot make the official client: InvalidURL: \\x1b"
