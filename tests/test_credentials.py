"""Where the key and the base URL come from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from blades import ConfigError
from blades._credentials import find_endpoint

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


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is passed is used, whatever the variables say."""
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://environment/v1")
    assert find_endpoint("mine", "http://mine/v1") == ("mine", "http://mine/v1")


def test_the_environment_wins_over_a_dotenv_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Variables of the process come before those of a .env file."""
    write_dotenv(tmp_path, "OPENAI_API_KEY=from-file", "OPENAI_BASE_URL=http://file/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://environment/v1")
    assert find_endpoint(None, None) == ("from-environment", "http://environment/v1")


def test_a_dotenv_file_is_found_upwards_and_leaves_the_environment_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A .env file of a parent folder is read; os.environ is not written."""
    write_dotenv(tmp_path, "OPENAI_API_KEY=from-file", "OPENAI_BASE_URL=http://file/v1")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    before = dict(os.environ)
    assert find_endpoint(None, None) == ("from-file", "http://file/v1")
    assert dict(os.environ) == before


def test_without_a_base_url_the_default_is_left_to_the_official_client(tmp_path: Path) -> None:
    """A key alone is enough."""
    write_dotenv(tmp_path, "OPENAI_API_KEY=from-file")
    assert find_endpoint(None, None) == ("from-file", None)


def test_a_key_from_a_dotenv_file_goes_to_the_host_that_was_passed(tmp_path: Path) -> None:
    """The user's own choice of host takes any key."""
    write_dotenv(tmp_path, "OPENAI_API_KEY=from-file")
    assert find_endpoint(None, "http://mine/v1") == ("from-file", "http://mine/v1")


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable set to nothing is no key and no URL."""
    monkeypatch.setenv("OPENAI_API_KEY", "")
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    write_dotenv(tmp_path, "OPENAI_API_KEY=from-file", "OPENAI_BASE_URL=")
    assert find_endpoint(None, None) == ("from-file", None)


def test_a_missing_key_names_the_variable_and_the_argument() -> None:
    """The error says where a key can come from."""
    with pytest.raises(ConfigError, match=r"pass api_key= .* set OPENAI_API_KEY"):
        find_endpoint(None, "http://mine/v1")


@pytest.mark.parametrize("key_from", ["argument", "environment"])
def test_a_base_url_from_a_dotenv_file_never_meets_a_key_from_elsewhere(
    key_from: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file found by chance cannot send the key to another host; the error does not show the key."""
    path = write_dotenv(tmp_path, "OPENAI_API_KEY=from-file", "OPENAI_BASE_URL=http://stray/v1")
    if key_from == "environment":
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(ConfigError) as caught:
        find_endpoint("sk-secret" if key_from == "argument" else None, None)
    assert str(path) in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_a_dotenv_file_cannot_name_other_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A value such as ${SECRET} is not filled in from the environment."""
    monkeypatch.setenv("SECRET", "a-secret")
    write_dotenv(tmp_path, "OPENAI_API_KEY=${SECRET}", "OPENAI_BASE_URL=http://file/v1")
    assert find_endpoint(None, None).api_key == "${SECRET}"


@pytest.mark.parametrize("key", ["sk-1\n", " sk-1", "sk-\u00e9", "sk-\x00"], ids=["newline", "space", "accent", "nul"])
def test_a_key_that_no_header_can_hold_is_refused(key: str) -> None:
    """A key with a line break is said to be that, instead of failing as a connection error; it is not shown."""
    with pytest.raises(ConfigError, match="from api_key=") as caught:
        find_endpoint(key, None)
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "https://", "/v1"])
def test_a_base_url_without_scheme_or_host_is_refused(url: str) -> None:
    """The error says what a base URL looks like, and what came."""
    with pytest.raises(ConfigError, match=r"must look like .* not") as caught:
        find_endpoint("key", url)
    assert url in str(caught.value)


def test_a_refused_base_url_shows_no_password() -> None:
    """Also where the scheme is what is missing."""
    with pytest.raises(ConfigError, match="'host/v1'") as caught:
        find_endpoint("key", "user:secret@host/v1")
    assert "secret" not in str(caught.value)


def test_an_unreadable_dotenv_file_is_a_configuration_error(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 do not escape as a decoding error."""
    (tmp_path / ".env").write_bytes(b"OPENAI_API_KEY=\xff\xfe\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        find_endpoint(None, None)


def test_an_endpoint_does_not_show_its_key() -> None:
    """The repr has the URL only."""
    assert "secret" not in repr(find_endpoint("secret", "http://mine/v1"))
