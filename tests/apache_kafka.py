"""An Apache Kafka of the tests' own, from any KAFKA_HOME: one node, broker and controller."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

_CLUSTER_ID = "ZmVlZGJhY2tsb29wLXRlcw"
_AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
_START_SECONDS = 90.0
_JVM = {
    # Short-lived: it starts fast, and then runs fast enough.
    "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC",
    "KAFKA_HEAP_OPTS": "-Xms256m -Xmx512m",
}


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Who is let in, and how.

    Attributes:
        users: Passwords by name for SCRAM-SHA-512; without any, everybody is let in. The first one
            may do everything, the others nothing.
        certificate: Key and certificate chain in one PEM file; None for no TLS.
    """

    users: Mapping[str, str] = {}
    certificate: Path | None = None

    def protocol(self) -> str:
        """Return Kafka's word for it."""
        secure = self.certificate is not None
        if self.users:
            return "SASL_SSL" if secure else "SASL_PLAINTEXT"
        return "SSL" if secure else "PLAINTEXT"


OPEN = Access()


class Broker:
    """One node, in a folder that outlives its process. End it with ``stop`` or ``kill``.

    Args:
        home: A Kafka distribution.
        folder: For data and log.
        properties: More of the broker's settings.
    """

    def __init__(
        self,
        home: Path,
        folder: Path,
        *,
        access: Access = OPEN,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self._home = home
        self._folder = folder
        self._access = access
        self._properties = dict(properties or {})
        self._ports = _free_ports(3)
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap_servers = f"127.0.0.1:{self._ports[0]}"
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start it, with the data that it had before, and wait until it listens."""
        settings = self._folder / "server.properties"
        if not settings.exists():
            lines = [f"{name}={value}\n" for name, value in self._settings().items()]
            settings.write_text("".join(lines))
            self._format(settings)
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  # our own command
                [self._home / "bin" / "kafka-server-start.sh", settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
            )
        self._wait()

    def kill(self) -> None:
        """End it as a crash does: nothing is written any more."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Freeze it: its port is open, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on as if nothing had been."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "start it first"
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **_JVM, "LOG_DIR": str(self._folder)}

    def _format(self, settings: Path) -> None:
        command: list[str | Path] = [self._home / "bin" / "kafka-storage.sh", "format"]
        command += ["-t", _CLUSTER_ID, "-c", settings]
        for user, password in self._access.users.items():
            command += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
        done = subprocess.run(  # noqa: S603  # our own command
            command, env=self._environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _settings(self) -> dict[str, str]:
        client, controller, internal = self._ports
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"CLIENT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller},"
            f"INTERNAL://127.0.0.1:{internal}",
            "advertised.listeners": f"CLIENT://127.0.0.1:{client},INTERNAL://127.0.0.1:{internal}",
            "listener.security.protocol.map": f"CLIENT:{self._access.protocol()},"
            "CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "log.dirs": str(self._folder / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
        }
        if self._access.users:
            first = next(iter(self._access.users))
            settings["authorizer.class.name"] = _AUTHORIZER
            # The node itself is anonymous to its controller.
            settings["super.users"] = f"User:{first};User:ANONYMOUS"
            settings["sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
            settings["listener.name.client.scram-sha-512.sasl.jaas.config"] = (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            )
        if self._access.certificate is not None:
            settings["listener.name.client.ssl.keystore.type"] = "PEM"
            settings["listener.name.client.ssl.keystore.location"] = str(self._access.certificate)
        return settings | self._properties

    def _wait(self) -> None:
        until = time.monotonic() + _START_SECONDS
        while True:
            assert self._process is not None
            assert self._process.poll() is None, self._last_words()
            try:
                socket.create_connection(("127.0.0.1", self._ports[0]), 0.2).close()
            except OSError:
                assert time.monotonic() < until, self._last_words()
                time.sleep(0.1)
            else:
                return

    def _last_words(self) -> str:
        lines = (self._folder / "server.log").read_text(errors="replace").splitlines()
        return "Kafka did not start:\n" + "\n".join(lines[-20:])


def _free_ports(count: int) -> list[int]:
    # All at once: a port that is given back can be given out again.
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
