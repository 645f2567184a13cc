"""Tests of settings: their sources, lists, and secrets, which never appear."""

from pathlib import Path

import pytest
import redis

from worker.jobs.connection.client import connect
from worker.jobs.errors import ConfigurationError
from worker.jobs.settings import Settings, child_env

SECRETS = {
    "STOKER_REDIS_URL": "redis://redis.example:6380/2",
    "STOKER_REDIS_PASSWORD": "p@ss:w/rd#1",
    "STOKER_API_KEY": "sk-stoker-1-2",
    "STOKER_MEDIA_URL": "s3://key:word@bucket/x",
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Files that hold the secrets, and the variables that name the files."""
    for name, secret in SECRETS.items():
        (tmp_path / name).write_text(f"{secret}\n")
    return {f"{name}_FILE": str(tmp_path / name) for name in SECRETS}


def test_settings_read_secrets_from_files(files: dict[str, str]) -> None:
    settings = Settings.from_env(files)
    assert settings.model_dump(exclude_unset=True) == Settings.from_env(SECRETS).model_dump(
        exclude_unset=True
    )


@pytest.mark.parametrize(
    ("text", "secret"), [("a", "a"), ("a\n", "a"), ("a\n\n", "a\n"), (" a \n", " a "), ("\na", "\na")]
)
def test_settings_strip_one_line_break_from_secret(tmp_path: Path, text: str, secret: str) -> None:
    (tmp_path / "password").write_text(text)
    settings = Settings.from_env({"STOKER_REDIS_PASSWORD_FILE": str(tmp_path / "password")})
    assert settings.redis_password == secret


def test_settings_prefer_value_to_file(files: dict[str, str]) -> None:
    settings = Settings.from_env(files | {"STOKER_REDIS_PASSWORD": "other"})
    assert settings.redis_password == "other"
    assert settings.replace(api_key="mine").api_key == "mine"


def test_settings_read_no_file_for_what_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "prefix").write_text("other")
    assert Settings.from_env({"STOKER_PREFIX_FILE": str(tmp_path / "prefix")}).prefix == "stoker"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_settings_name_the_variable_of_a_useless_file(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"^STOKER_API_KEY_FILE: .*/key "):
        Settings.from_env({"STOKER_API_KEY_FILE": str(tmp_path / "key")})


def test_settings_name_the_file_variable_of_an_invalid_secret(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("http://secret.example")
    with pytest.raises(ConfigurationError, match=r"^STOKER_REDIS_URL_FILE: ") as caught:
        Settings.from_env({"STOKER_REDIS_URL_FILE": str(tmp_path / "url")})
    assert "secret.example" not in str(caught.value)


def test_child_reads_secrets_from_the_same_files(files: dict[str, str]) -> None:
    settings = Settings.from_env(files).replace(slots=3)
    env = child_env(settings)
    assert not [name for name, value in env.items() if value in SECRETS.values()]
    assert Settings.from_env(env) == settings


def test_settings_show_no_secret() -> None:
    shown = repr(Settings.from_env(SECRETS))
    assert not [secret for secret in SECRETS.values() if secret in shown]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "redis://:p%40ss%3Aw%2Frd%231@127.0.0.1:6379/0"),
        ("rediss://[::1]:7/1?a=b", "rediss://:p%40ss%3Aw%2Frd%231@[::1]:7/1?a=b"),
        ("redis://someone@redis:7/1", "redis://someone:p%40ss%3Aw%2Frd%231@redis:7/1"),
        ("unix:///run/redis.sock?db=1", "unix://:p%40ss%3Aw%2Frd%231@/run/redis.sock?db=1"),
        ("redis://:own@redis:7/1", "redis://:own@redis:7/1"),
    ],
)
def test_broker_url_contains_password(url: str, expected: str) -> None:
    env = {"STOKER_REDIS_URL": url, "STOKER_REDIS_PASSWORD": SECRETS["STOKER_REDIS_PASSWORD"]}
    assert Settings.from_env(env).broker_url == expected
    password = redis.Redis.from_url(expected).connection_pool.connection_kwargs["password"]
    assert password == ("own" if "own" in url else SECRETS["STOKER_REDIS_PASSWORD"])


@pytest.mark.parametrize("url", ["redis://redis:7/1", "unix:///run/redis.sock"])
def test_broker_url_without_password_is_the_given_one(url: str) -> None:
    assert Settings.from_env({"STOKER_REDIS_URL": url}).broker_url == url


def test_settings_without_from_env_ignore_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_SLOTS", "3")
    assert Settings().slots == 8
    assert Settings.from_env().slots == 3


LISTS = {
    "STOKER_CORS_ORIGINS": "https://a.example,http://localhost:3000",
    "STOKER_TRUSTED_PROXIES": "10.0.0.0/8,::1/128",
    "STOKER_VIDEO_SIZES": "640x360,1280x720",
    "STOKER_WEBHOOK_PORTS": "443,8443",
    "STOKER_WEBHOOK_HOSTS": "*.example.com,8.8.8.8",
    "STOKER_VLLM_ARGS": '{"dtype": "float16"}',
}


def test_lists_are_the_same_in_child() -> None:
    settings = Settings.from_env(LISTS)
    assert settings.webhook_ports == (443, 8443)
    assert settings.to_env().items() >= LISTS.items()
    assert Settings.from_env(settings.to_env()) == settings.replace(slots=settings.slots)


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("STOKER_WEBHOOK_PORTS", "443, http", "http: "),
        ("STOKER_VIDEO_SIZES", "640x360,12", "'12' is not"),
        ("STOKER_TRUSTED_PROXIES", "::1,10.0.0.1/8", "10.0.0.1/8 has host bits"),
        ("STOKER_CORS_ORIGINS", "http://a,*", r"\* is not"),
    ],
)
def test_settings_name_the_part_of_a_list_that_is_not_valid(variable: str, value: str, part: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{variable}: {part}"):
        Settings.from_env({variable: value})


def test_replace_reports_an_invalid_change_like_the_environment() -> None:
    with pytest.raises(ConfigurationError, match=r"^STOKER_SLOTS: "):
        Settings().replace(slots=0)


def test_replace_keeps_defaults_unset(files: dict[str, str]) -> None:
    settings = Settings.from_env(files).replace(slots=3, api_key=None)
    assert settings.model_fields_set == {"redis_url", "redis_password", "api_key", "media_url", "slots"}


def test_settings_describe_value_default_and_source(files: dict[str, str]) -> None:
    environ = files | {"STOKER_SLOTS": "3", "STOKER_API_KEY": "mine", "STOKER_HEARTBEAT_S": ""}
    described = {setting.variable: setting for setting in Settings.from_env(environ).describe()}
    assert list(described) == [f"STOKER_{name.upper()}" for name in Settings.model_fields]

    def row(name: str) -> tuple[str | None, str | None, str]:
        setting = described[f"STOKER_{name}"]
        return setting.value, setting.default, setting.source

    assert row("SLOTS") == ("3", "8", "environment")
    assert row("HEARTBEAT_S") == ("15", "15", "default")
    assert row("WEBHOOK_HOSTS") == (None, None, "default")
    assert row("API_KEY") == ("***", None, "environment")
    assert row("REDIS_PASSWORD") == ("***", None, "file")
    assert described["STOKER_SLOTS"].description == "The number of chats that run at once in one worker."


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (
            "STOKER_REDIS_URL",
            "redis://host:6379/x",
            "its database is not a number, as in redis://host:6379/0",
        ),
        ("STOKER_REDIS_URL", "unix://", "it has no path of a socket, as unix:///run/redis.sock has"),
        ("STOKER_REDIS_URL", "unix://run/redis.sock", "it has no path of a socket, as unix:///.* has"),
        ("STOKER_REDIS_URL", "redis://[::1:6379", "its port is not a number from 0 to 65535"),
        ("STOKER_PATH_PREFIX", "/a/", "/a/ is not a path such as /stoker, without a / at its end"),
        ("STOKER_LEASE_TTL_S", "inf", "Input should be a finite number"),
        ("STOKER_REDIS_PASSWORD_FILE", "/", "/ cannot be read: Is a directory"),
    ],
)
def test_settings_refuse_values_that_cannot_work(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{variable}: {sentence}$"):
        Settings.from_env({variable: value})


@pytest.mark.parametrize("url", ["redis://h:1", "redis://h/", "rediss://h/3", "unix:///a.sock?db=1"])
def test_settings_take_urls_of_redis(url: str) -> None:
    assert Settings.from_env({"STOKER_REDIS_URL": url}).broker_url == url


@pytest.mark.parametrize("query", ["foo=bar", "socket_timeout=x"])
def test_connect_refuses_unknown_parameters_of_the_url(query: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^STOKER_REDIS_URL: a parameter after \? is unknown or not"
    ):
        connect(Settings(redis_url=f"redis://127.0.0.1:1/0?{query}"))


def test_settings_lora_is_read_and_written_as_names_with_paths() -> None:
    settings = Settings.from_env({"STOKER_LORA": "sql=/a/sql, de=/a=b,"})
    assert settings.lora == {"sql": Path("/a/sql"), "de": Path("/a=b")}
    assert child_env(settings)["STOKER_LORA"] == "sql=/a/sql,de=/a=b"


@pytest.mark.parametrize("value", ["sql", "sql=", "=/a", "a b=/a", "sql=/a,sql=/b"])
def test_settings_lora_of_another_form_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="STOKER_LORA"):
        Settings.from_env({"STOKER_LORA": value})
