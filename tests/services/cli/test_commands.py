"""The command line: what it prints, and how it ends."""

import asyncio
import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from feedbackloop.dataset.snapshot import Options, build
from feedbackloop.labels.gather import Gathering
from services import wiring
from services.cli.__main__ import app
from services.settings import load
from tests.builders import ALIAS, NOON, TENANT, a_thumb, voted
from tests.fakes import an_adapter
from tests.services.cli.calling import call, told

pytestmark = pytest.mark.usefixtures("home")

LINES = {"log export", "log tail", "dataset export", "redact plant"}
"""Commands that print JSON lines and nothing else."""


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def test_every_command_speaks_json_and_explains_itself() -> None:
    """Programs call it as often as people do."""
    known = dict(commands(typer.main.get_command(app)))

    mute = [
        name
        for name, command in known.items()
        if name not in LINES and not any("--json" in option.opts for option in command.params)
    ]

    assert mute == []
    assert all(command.help for command in known.values())


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "list"),
        ("release", "rollback", "assistant"),
        ("plan",),
        ("trace", "chatcmpl-1"),
        ("down",),
        ("run", "logs", "run-9"),
        ("dataset", "verify", "ab" * 32),
        ("keys", "revoke", "nobody"),
    ],
)
def test_what_could_not_be_done_ends_with_1_and_a_reason(arguments: tuple[str, ...]) -> None:
    """A script must not go on as if it had been done."""
    result = call(*arguments)

    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "start", "--set", "learning_rate"),
        ("log", "export", "--format", "csv"),
        ("log", "export", "--from", "somewhere"),
        ("keys", "create", "--scope", "everything"),
        ("keys", "rotate", "--tenant", "nobody"),
        ("keys", "rotate", "--lead", "soon"),
        ("keys", "create", "--expires", "tomorrow"),
        ("keys", "create", "--tenant", "Not A Name"),
        ("adapter", "inspect", "nothing"),
        ("retries", "score", "nothing.jsonl"),
        ("up",),
        ("no", "such", "command"),
    ],
)
def test_a_wrong_call_ends_with_2(arguments: tuple[str, ...]) -> None:
    """The caller has to change something before it tries again."""
    assert call(*arguments).exit_code == 2


def test_a_misspelt_setting_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever command reads it."""
    monkeypatch.setenv("FEEDBACKLOOP_SIDECAR__BND", "x")

    result = call("run", "list")

    assert result.exit_code == 2
    assert "FEEDBACKLOOP_SIDECAR__BND: no such setting" in result.stderr


def test_a_key_is_shown_once_listed_by_its_id_and_revoked() -> None:
    """What is kept of a key cannot be used to call."""
    made = told("keys", "create", "--tenant", "acme", "--scope", "admin", "--expires", "90d")

    (listed,) = told("keys", "list")
    revoked = told("keys", "revoke", made["id"])

    assert (listed["id"], listed["tenant"], listed["scopes"]) == (made["id"], "acme", ["admin"])
    assert listed["expires_at"] > listed["created_at"]
    assert made["key"] not in call("keys", "list").stdout
    assert revoked == {"revoked": made["id"]}
    assert told("keys", "list") == []


def test_a_key_is_replaced_by_one_that_may_do_the_same() -> None:
    """The old one goes on for a while, so that apps can be deployed one by one."""
    old = told("keys", "create", "--tenant", "acme", "--scope", "admin", "--name", "ci")

    new = told("keys", "rotate", "--key", old["id"], "--grace", "2h")

    first, second = told("keys", "list")
    assert (new["id"], new["name"], new["scopes"]) == (second["id"], "ci", ["admin"])
    assert first["expires_at"] is not None
    assert second["expires_at"] is None


def test_a_receipt_key_that_leaked_is_replaced_and_forgotten() -> None:
    """The two steps that an operator takes at night."""
    (old,) = told("keys", "list", "--receipts")
    new = told("keys", "rotate", "--lead", "0s")["current"]

    told("keys", "revoke", old["id"])

    (left,) = told("keys", "list", "--receipts")
    assert (left["id"], left["does"]) == (new, "signs")


def test_the_log_is_exported_from_an_offset() -> None:
    """Another program follows where it stopped."""

    async def write() -> list[int]:
        log = wiring.open_log(load(), partition="sidecar-0")
        offsets = await log.append([a_thumb("c1"), a_thumb("c2")])
        await log.close()
        return [offset.position for offset in offsets]

    first, _ = asyncio.run(write())

    everything = call("log", "export", "--format", "jsonl").stdout.splitlines()
    rest = call("log", "export", "--from", f"sidecar-0:{first}").stdout.splitlines()

    assert [json.loads(line)["event"]["completion_id"] for line in everything] == ["c1", "c2"]
    assert rest == everything[1:]


def test_a_snapshot_is_shown_verified_and_exported() -> None:
    """People look at the rows before they trust what was trained on them."""
    gathering = Gathering()
    for event in voted(40):
        gathering.add(event)
    options = Options(
        alias=ALIAS,
        until=NOON + timedelta(hours=1),
        window_seconds=86_400,
        watermark_seconds=600,
        min_confidence=0.5,
        max_rows_per_user=20,
        max_ratio=2.0,
        holdout_share=0.1,
    )
    digest = wiring.open_snapshots(load()).put(
        build(gathering, options, holdouts={TENANT: b"secret"})
    )

    rows = call("dataset", "export", digest, "--part", "kto").stdout.splitlines()

    assert told("dataset", "verify", digest)["kto"] == len(rows) > 0
    assert {"prompt", "completion", "label"} <= set(json.loads(rows[0]))
    assert told("dataset", "show", digest)["options"]["alias"] == ALIAS
    assert call("dataset", "export", digest, "--part", "rows").exit_code == 2


def test_an_adapter_is_inspected_without_being_trusted(tmp_path: Path) -> None:
    """It may come from anywhere."""
    folder = an_adapter(tmp_path / "adapter")

    good = told("adapter", "inspect", str(folder))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"r": 4096}))
    bad = call("adapter", "inspect", str(folder), "--json")

    assert (good["rank"], good["problems"]) == (1, [])
    assert bad.exit_code == 1
    assert json.loads(bad.stdout)["problems"]


def test_a_suites_mistakes_are_named_with_their_lines(tmp_path: Path) -> None:
    """A suite is written by hand, and counts for every candidate."""
    (tmp_path / "sums.yaml").write_text("name: sums\nitems: sums.jsonl\n")
    items = tmp_path / "sums.jsonl"
    prompt = [{"role": "user", "content": "1 + 1?"}]
    items.write_text(json.dumps({"id": "a", "prompt": prompt, "expect": {"contains": "2"}}) + "\n")
    good = told("suite", "lint", str(tmp_path / "sums.yaml"))

    items.write_text(items.read_text() + '{"id": "b"}\n')
    bad = call("suite", "lint", str(tmp_path / "sums.yaml"))

    assert good["suites"][str(tmp_path / "sums.yaml")]["items"] == 1
    assert bad.exit_code == 1
    assert "sums.jsonl:2" in bad.stdout.replace("\n", "")


def test_settings_are_shown_and_secrets_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output ends up in tickets."""
    monkeypatch.setenv("FEEDBACKLOOP_KEYS__ADMIN", "fl_very_secret")

    shown = told("settings")

    assert shown["scheduler"]["bind"] == "127.0.0.1:1"
    assert "secret" not in json.dumps(shown)
    assert "fl_very" not in call("settings").stdout


def test_the_doctor_names_each_check_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first thing that a newcomer runs when something is wrong."""
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("FEEDBACKLOOP_VLLM__MODEL", str(tmp_path / "model"))

    result = call("doctor", "--json")
    findings = {one["check"]: one for one in json.loads(result.stdout)}

    assert result.exit_code == 1
    assert findings["python"]["outcome"] == "ok"
    assert findings["model"]["outcome"] == "fail"
    assert "config.json" in findings["model"]["says"]
    assert {"vllm", "starlette", "torch", "disk", "keyring", "guard"} <= set(findings)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Undo what ``up`` writes into the environment for its children."""
    for name in ("VLLM__MODEL", "ALIASES__ASSISTANT__BASE", "KEYS__REQUIRED"):
        monkeypatch.setenv(f"FEEDBACKLOOP_{name}", "")
        monkeypatch.delenv(f"FEEDBACKLOOP_{name}")
    monkeypatch.setenv("FEEDBACKLOOP_SCHEDULER__BIND", "127.0.0.1:0")
    monkeypatch.setenv("FEEDBACKLOOP_SIDECAR__ADMIN_BIND", "127.0.0.1:0")
    return monkeypatch


def test_up_names_the_port_that_is_taken(
    elsewhere: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    """Before anything is started, and not as the forty-first line of a log."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        elsewhere.setenv("FEEDBACKLOOP_SIDECAR__BIND", f"127.0.0.1:{taken.getsockname()[1]}")

        result = call("up", "--model", str(tmp_path))

    assert result.exit_code == 2
    assert "FEEDBACKLOOP_SIDECAR__BIND" in result.stderr
    assert not (home / "run" / "supervisor.log").exists()


def test_up_does_not_open_what_the_settings_keep_closed(
    elsewhere: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Keys that the settings file asks for are asked for, loopback or not."""
    file = tmp_path / "feedbackloop.toml"
    file.write_text("[keys]\nrequired = true\n[aliases.helper]\nbase = 'base'\n")
    elsewhere.setenv("FEEDBACKLOOP_SETTINGS_FILE", str(file))

    result = call("up", "--model", str(tmp_path))

    assert result.exit_code == 2
    assert "--alias assistant: the settings name helper" in result.stderr
    assert load().keys.required
