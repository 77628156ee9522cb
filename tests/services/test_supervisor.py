"""Processes are kept running, told apart, and ended in order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.errors import SettingsError
from services.settings import load
from services.supervisor import next_wait, read_state, specs, trim, vllm_command

_PATIENCE_SECONDS = 30

SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from services.supervisor import Spec, Supervisor

home = Path(sys.argv[1])
children = [
    Spec(
        name=name,
        command=(sys.executable, "-c", script),
        environment={},
        stop_seconds=10,
        leaves=home / "left",
    )
    for name, script in zip(sys.argv[2::2], sys.argv[3::2])
]

async def run():
    await Supervisor(home, children).run()

asyncio.run(run())
"""

POLITE = """
import signal, sys
def end(*_):
    with open("../ended", "a") as file:
        file.write({name!r} + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open("../{name}", "w").close()
while True:
    signal.pause()
"""

PARENT = """
import pathlib, signal, subprocess, sys
for name, alone in (("engine", False), ("step", True)):
    file = pathlib.Path("..", name)
    if not file.exists():
        command = [sys.executable, "-c", "import signal; signal.pause()"]
        file.write_text(str(subprocess.Popen(command, start_new_session=alone).pid))
signal.pause()
"""


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


class Keeper:
    """A supervisor in a process of its own, with children that a test wrote."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, **scripts: str) -> subprocess.Popen[bytes]:
        arguments = [part for pair in scripts.items() for part in pair]
        command = [sys.executable, "-c", SUPERVISOR, str(self.home), *arguments]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603  # ours
        self._started.append(process)
        return process

    def pid(self, name: str) -> int:
        state = read_state(self.home)
        found = [child.pid for child in state.children if child.name == name] if state else []
        return (found[0] or 0) if found else 0

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    made = Keeper(tmp_path)
    yield made
    made.end()


def test_what_ends_is_started_again_and_its_end_is_remembered(keeper: Keeper) -> None:
    """A crash at night is no reason to get up; in the morning it should be seen."""
    keeper.start(loop="import signal; signal.pause()")
    eventually(lambda: keeper.pid("loop") > 0)
    first = keeper.pid("loop")

    os.kill(first, signal.SIGKILL)
    eventually(lambda: keeper.pid("loop") not in (0, first))

    state = read_state(keeper.home)
    assert state is not None
    assert (state.children[0].restarts, state.children[0].last_exit) == (1, -signal.SIGKILL)


def test_a_socket_that_a_killed_process_left_does_not_keep_it_from_starting(
    keeper: Keeper,
) -> None:
    """vLLM cannot bind where its predecessor's socket still lies."""
    bind = "import socket, signal; s = socket.socket(socket.AF_UNIX); s.bind('../left')"
    keeper.start(vllm=f"{bind}; signal.pause()")
    eventually(lambda: (keeper.home / "left").exists() and keeper.pid("vllm") > 0)
    first = keeper.pid("vllm")

    os.kill(first, signal.SIGKILL)
    eventually(lambda: keeper.pid("vllm") not in (0, first))
    eventually((keeper.home / "left").exists)

    assert alive(keeper.pid("vllm"))


def test_what_a_killed_process_leaves_behind_ends_and_steps_of_runs_do_not(
    keeper: Keeper,
) -> None:
    """vLLM's engine holds gigabytes; an hour of training is another matter."""
    keeper.start(vllm=PARENT)
    left = keeper.home / "engine", keeper.home / "step"
    eventually(lambda: all(file.exists() and file.read_text() for file in left))
    engine, step = (int(file.read_text()) for file in left)

    os.kill(keeper.pid("vllm"), signal.SIGKILL)
    eventually(lambda: not alive(engine))

    assert alive(step)
    os.kill(step, signal.SIGKILL)


def test_children_are_ended_last_to_first(keeper: Keeper) -> None:
    """The sidecar drains while vLLM still answers it."""
    supervisor = keeper.start(
        vllm=POLITE.format(name="vllm"), sidecar=POLITE.format(name="sidecar")
    )
    eventually(lambda: all((keeper.home / name).exists() for name in ("vllm", "sidecar")))

    supervisor.send_signal(signal.SIGTERM)

    assert supervisor.wait(_PATIENCE_SECONDS) == 0
    assert (keeper.home / "ended").read_text().split() == ["sidecar", "vllm"]
    assert read_state(keeper.home) is None


def test_children_do_not_outlive_a_supervisor_that_was_killed(keeper: Keeper) -> None:
    """Otherwise their ports were taken, and nobody watched them."""
    supervisor = keeper.start(loop="import signal; signal.pause()")
    eventually(lambda: keeper.pid("loop") > 0)
    child = keeper.pid("loop")

    supervisor.kill()

    eventually(lambda: not alive(child))


def test_of_two_supervisors_in_one_home_one_works(keeper: Keeper) -> None:
    """Two would start everything twice, on the same ports."""
    keeper.start(loop="import signal; signal.pause()")
    eventually(lambda: keeper.pid("loop") > 0)

    second = keeper.start(loop="import signal; signal.pause()")

    assert second.wait(_PATIENCE_SECONDS) != 0
    assert alive(keeper.pid("loop"))


@given(st.floats(0.1, 100), st.floats(0, 59))
def test_who_keeps_ending_waits_ever_longer_up_to_a_bound(wait: float, lived: float) -> None:
    """A process that cannot start must not eat the machine."""
    following = next_wait(wait, lived_seconds=lived)

    assert following <= 30
    assert following > wait or following == 30


def test_who_was_well_for_a_while_starts_at_once_again() -> None:
    """Yesterday's trouble is no reason to be slow today."""
    assert next_wait(30, lived_seconds=61) == 1


def test_a_long_log_is_set_aside_under_its_writer(tmp_path: Path) -> None:
    """A chatty process must not fill the disk, and must not be restarted for it."""
    file = tmp_path / "vllm.log"
    with file.open("ab") as writer:
        writer.write(b"old\n" * 100)
        writer.flush()

        trim(file, limit_bytes=100)
        writer.write(b"new\n")

    assert file.read_bytes() == b"new\n"
    assert (tmp_path / "vllm.log.1").read_bytes() == b"old\n" * 100


def test_vllm_listens_on_a_socket_behind_the_guard_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With runtime adapters on, whoever reaches vLLM can replace what it says."""
    monkeypatch.setenv("FEEDBACKLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("FEEDBACKLOOP_VLLM__MODEL", str(tmp_path))

    vllm, sidecar, scheduler, archiver = specs(load())

    command = " ".join(vllm.command)
    assert f"--uds {tmp_path}/run/vllm.sock --middleware services.guard.Guard" in command
    assert "--port" not in command
    assert vllm.environment["HF_HUB_OFFLINE"] == "1"
    assert vllm.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert sidecar.environment["FEEDBACKLOOP_SIDECAR__UPSTREAM"].endswith("/run/vllm.sock")
    assert scheduler.environment["FEEDBACKLOOP_HOME"] == str(tmp_path)
    assert archiver.environment["FEEDBACKLOOP_HOME"] == str(tmp_path)


def test_whoever_wants_no_archive_gets_no_archiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small machine may have better things to do."""
    monkeypatch.setenv("FEEDBACKLOOP_VLLM__MODEL", "some/model")
    monkeypatch.setenv("FEEDBACKLOOP_ARCHIVER__ENABLED", "false")

    assert [spec.name for spec in specs(load())] == ["vllm", "sidecar", "scheduler"]


def test_a_models_hub_id_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM fetches it."""
    monkeypatch.setenv("FEEDBACKLOOP_VLLM__MODEL", "some/model")

    assert "some/model" in vllm_command(load(), "/socket")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"VLLM__MODEL": ""}, "VLLM__MODEL"),
        ({"VLLM__SERVED_NAME": "assistant"}, "VLLM__SERVED_NAME"),
        ({"VLLM__MAX_LORAS": "1"}, "VLLM__MAX_LORAS=1"),
        ({"VLLM__MAX_CPU_LORAS": "4"}, "VLLM__MAX_CPU_LORAS=4"),
        ({"VLLM__SOCKET": "/" + "x" * 120}, "VLLM__SOCKET"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    settings: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two minutes into vLLM's start is late to learn of a wrong number."""
    monkeypatch.setenv("FEEDBACKLOOP_ALIASES__ASSISTANT__BASE", "base")
    monkeypatch.setenv("FEEDBACKLOOP_VLLM__MODEL", "some/model")
    for name, value in settings.items():
        monkeypatch.setenv(f"FEEDBACKLOOP_{name}", value)

    with pytest.raises(SettingsError, match=f"FEEDBACKLOOP_{named}"):
        specs(load())
