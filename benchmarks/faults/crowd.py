"""A broker, producers and archivers as processes, killed and frozen at will."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from services import wiring_kafka
from services.settings import Settings
from tests.apache_kafka import Broker

PARTITIONS = 6
PRODUCERS = 4
ARCHIVERS = 2
_END_SECONDS = 60.0
_FREE = "127.0.0.1:0"


class Crowd:
    """Everything that takes part, in one folder. ``clean_up`` ends it.

    Args:
        folder: For all that is written.
        kafka_home: A Kafka distribution.
        archive: Settings of the archive, as variables; without any, a folder.
    """

    def __init__(self, folder: Path, kafka_home: Path, archive: Mapping[str, str]) -> None:
        self.folder = folder
        self.broker = Broker(kafka_home, folder / "kafka")
        self._topic = f"faults-{uuid.uuid4().hex}"
        self._archive = dict(archive)
        self._archivers: dict[int, subprocess.Popen[bytes]] = {}
        self._producers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the broker, and make the topics; what is begun here ends with ``clean_up``."""
        self.broker.start()
        wiring_kafka.create_topics(self.settings())

    def settings(self, archive: Mapping[str, str] | None = None) -> Settings:
        """Return the settings of a process here, of this archive or another one."""
        given = self._archive if archive is None else archive
        found = {k.removeprefix("ARCHIVE__").lower(): v for k, v in given.items()}
        values = {"home": self.folder / "home", "log": self._log()}
        return Settings.model_validate(values | ({"archive": found} if found else {}))

    def begin(self, *, events: int, per_second: float) -> None:
        """Let the producers begin; both numbers are sums over all of them."""
        for number in range(PRODUCERS):
            options = {
                "number": number,
                "events": events // PRODUCERS,
                "per-second": per_second / PRODUCERS,
            }
            words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
            self._producers.append(
                self._start(f"producer-{number}", "benchmarks.faults.producer", *words)
            )

    def are_producing(self) -> bool:
        """Say whether anything is not in the log yet.

        Raises:
            ChildProcessError: If a producer has failed.
        """
        states = [one.poll() for one in self._producers]
        if any(states):
            raise ChildProcessError(f"a producer failed: {self.folder}/producer-*.log")
        return None in states

    def start_archiver(self, number: int, archive: Mapping[str, str] | None = None) -> None:
        """Start one, and wait until it is ready."""
        variables = self._archive if archive is None else archive
        more = {} if archive is None else {"ARCHIVER__GROUP": f"{self._topic}-again"}
        process = self._start(
            f"archiver-{number}", "services.archiver", settings={**variables, **more}
        )
        # Before it is waited for: whatever happens meanwhile, it is cleaned up.
        self._archivers[number] = process
        assert process.stdout is not None  # noqa: S101  # it is a pipe
        if not json.loads(process.stdout.readline() or "{}"):
            raise ChildProcessError(f"an archiver does not start: {self.folder}/archiver-*.log")

    def kill_archiver(self, number: int) -> None:
        """End one as the kernel does when memory runs out; it may be frozen."""
        process = self._archivers.pop(number)
        process.kill()
        _reaped(process)

    def signal_archiver(self, number: int, what: signal.Signals) -> None:
        """Freeze one, or let it go on."""
        self._archivers[number].send_signal(what)

    def end_archivers(self) -> list[int]:
        """Let them publish what they have read; return their exit statuses."""
        ending = [self._archivers.pop(number) for number in list(self._archivers)]
        for process in ending:
            process.terminate()
        return [_reaped(process) for process in ending]

    def last_words(self) -> str:
        """Return the end of what each process has said."""
        logs = sorted(self.folder.glob("*.log"))
        return "".join(f"--- {one.name}\n{one.read_text()[-2_000:]}\n" for one in logs)

    def clean_up(self) -> None:
        """Leave no process behind."""
        for process in [*self._archivers.values(), *self._producers]:
            process.kill()
            _reaped(process)
        self._archivers, self._producers = {}, []
        self.broker.stop()

    def _log(self) -> dict[str, str]:
        return {
            "kind": "kafka",
            "bootstrap_servers": self.broker.bootstrap_servers,
            "events_topic": self._topic,
            "releases_topic": f"{self._topic}-releases",
            "replication": "1",
            "partitions": str(PARTITIONS),
        }

    def _start(
        self, name: str, module: str, *words: str, settings: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        values = {
            "HOME": str(self.folder / "home"),
            "ARCHIVER__BIND": _FREE,
            "ARCHIVER__ROTATE_SECONDS": "1",
            "ARCHIVER__POLL_SECONDS": "0.1",
            **{f"LOG__{key.upper()}": value for key, value in self._log().items()},
            **(settings or {}),
        }
        with (self.folder / f"{name}.log").open("ab") as errors:
            return subprocess.Popen(  # noqa: S603  # our own commands
                [sys.executable, "-m", module, *words],
                env=os.environ | {f"FEEDBACKLOOP_{key}": value for key, value in values.items()},
                stdout=subprocess.PIPE,
                stderr=errors,
            )


def wait_until(what: str, seconds: float, done: Callable[[], bool]) -> None:
    """Ask until it is so.

    Raises:
        TimeoutError: If it is not, in time.
    """
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise TimeoutError(f"given up waiting: {what}")
        time.sleep(0.5)


def _reaped(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGCONT)
    try:
        return process.wait(_END_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
