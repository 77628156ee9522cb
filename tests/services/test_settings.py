"""Settings are read once, and nothing that is misspelt is overlooked."""

import os
from pathlib import Path

import pytest

from feedbackloop.errors import SettingsError
from services.sections.log import KafkaLog, SegmentLog
from services.settings import load


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where no settings file is, and no other test's variable."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FEEDBACKLOOP_")]:
        monkeypatch.delenv(name)


def test_without_any_variable_the_defaults_run_on_one_machine() -> None:
    """A laptop needs no configuration."""
    settings = load()

    assert settings.log == SegmentLog()
    assert settings.sidecar.bind.startswith("127.0.0.1:")
    assert settings.keys.required


@pytest.mark.parametrize(
    "name",
    ["FEEDBACKLOOP_SIDECARS__BIND", "FEEDBACKLOOP_SIDECAR__BND", "FEEDBACKLOOP_HOUSE"],
)
def test_a_misspelt_variable_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise somebody believes for months that it was set."""
    monkeypatch.setenv(name, "127.0.0.1:1")

    with pytest.raises(SettingsError, match=name):
        load()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("FEEDBACKLOOP_CANARY__MARGIN", "7", "less than or equal"),
        ("FEEDBACKLOOP_SIDECAR__BIND", "127.0.0.1:65536", "a port up to 65535"),
        ("FEEDBACKLOOP_SIDECAR__SPOOL_DISK_BYTES", "10", "greater than or equal"),
    ],
)
def test_a_value_out_of_range_names_the_setting_and_what_was_expected(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has to be enough to mend it."""
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=f"{name}: .*{says}"):
        load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FEEDBACKLOOP_SIDECAR__PASSED_ON", "/v1/embeddings"),
        ("FEEDBACKLOOP_LIMITS__TRUSTED_PROXIES", "10.0.0.0/8"),
        ("FEEDBACKLOOP_REDACTION__PRESIDIO__MODELS", "{en: secret}"),
        ("FEEDBACKLOOP_ALIASES", "{"),
        ("FEEDBACKLOOP_SIDECAR__PASSED_ON", "[" * 9_999),
    ],
)
def test_a_list_that_is_no_json_is_named_and_not_shown(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first mistake that anybody makes with a list in a variable."""
    monkeypatch.setenv("FEEDBACKLOOP_SIDECAR__NAME", "sidecar-1")
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as caught:
        load()

    assert str(caught.value) == f"{name}: expected JSON, as in docs/settings.md"


def test_a_log_section_without_a_kind_is_the_default_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever only wants smaller segments need not know that there are kinds."""
    monkeypatch.setenv("FEEDBACKLOOP_LOG__SEGMENT_BYTES", "8192")

    assert load().log == SegmentLog(segment_bytes=8192)


def test_a_variable_outranks_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is the house's, the variable is this start's."""
    file = tmp_path / "feedbackloop.toml"
    file.write_text('home = "/a"\n[sidecar]\nbind = "127.0.0.1:1111"\nname = "one"\n')
    monkeypatch.setenv("FEEDBACKLOOP_SETTINGS_FILE", str(file))
    monkeypatch.setenv("FEEDBACKLOOP_SIDECAR__BIND", "127.0.0.1:2222")

    settings = load()

    assert settings.home == Path("/a")
    assert (settings.sidecar.bind, settings.sidecar.name) == ("127.0.0.1:2222", "one")


def test_an_unknown_name_in_the_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is misspelt as easily as a variable."""
    file = tmp_path / "feedbackloop.toml"
    file.write_text("[sidecar]\nport = 8080\n")
    monkeypatch.setenv("FEEDBACKLOOP_SETTINGS_FILE", str(file))

    with pytest.raises(SettingsError, match="FEEDBACKLOOP_SIDECAR__PORT: no such setting"):
        load()


@pytest.mark.parametrize("alias", ["помощник", "a b", "org/model", "a\\nb", "", ".a", "a" * 65])
def test_an_alias_that_no_header_or_path_can_hold_is_refused(
    tmp_path: Path, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All would be well until its first release, whose name stands in each answer's header."""
    file = tmp_path / "feedbackloop.toml"
    file.write_text(f'[aliases."{alias}"]\nbase = "base"\n', "utf-8")
    monkeypatch.setenv("FEEDBACKLOOP_SETTINGS_FILE", str(file))

    with pytest.raises(SettingsError, match=r"(?s)FEEDBACKLOOP_ALIASES__.*: String should match"):
        load()


@pytest.mark.parametrize("content", [None, b"home = ", b"home = '\xff'", b"home = " + b"[" * 9_999])
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked for by name."""
    file = tmp_path / "such.toml"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("FEEDBACKLOOP_SETTINGS_FILE", str(file))

    with pytest.raises(SettingsError, match=r"such\.toml"):
        load()


KAFKA = {"KIND": "kafka", "BOOTSTRAP_SERVERS": "kafka-0:9092,kafka-1:9092"}


def set_log(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in (KAFKA | values).items():
        monkeypatch.setenv(f"FEEDBACKLOOP_LOG__{name}", value)


def test_kafka_needs_no_more_than_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else has a default that loses nothing."""
    set_log(monkeypatch, {})

    assert load().log == KafkaLog(bootstrap_servers="kafka-0:9092,kafka-1:9092")


WRONG = {
    "no port": ({"BOOTSTRAP_SERVERS": "kafka"}, "FEEDBACKLOOP_LOG__BOOTSTRAP_SERVERS"),
    "no credentials": ({"SECURITY_PROTOCOL": "SASL_SSL"}, "needs sasl_username and sasl_password"),
    "credentials in vain": ({"SASL_USERNAME": "app"}, "expected SASL_SSL or SASL_PLAINTEXT"),
    "half a certificate": ({"SSL_KEYFILE": __file__}, "ssl_certfile and ssl_keyfile"),
    "no such file": ({"SSL_CAFILE": "/nowhere.pem"}, "FEEDBACKLOOP_LOG__SSL_CAFILE"),
    "no such mechanism": ({"SASL_MECHANISM": "SCRAM"}, "FEEDBACKLOOP_LOG__SASL_MECHANISM"),
}


@pytest.mark.parametrize(("values", "says"), WRONG.values(), ids=WRONG.keys())
def test_kafka_settings_that_cannot_work_are_refused(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], says: str
) -> None:
    """At the start, rather than as a timeout hours later."""
    set_log(monkeypatch, values)

    with pytest.raises(SettingsError, match=says):
        load()


def test_no_password_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are printed, logged and sent to whoever helps."""
    secret = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_USERNAME": "app", "SASL_PASSWORD": "hush"}
    set_log(monkeypatch, secret)

    settings = load()

    assert "hush" not in repr(settings)
    assert "hush" not in settings.model_dump_json()
