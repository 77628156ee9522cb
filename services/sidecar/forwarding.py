"""The process behind the spool, a child of the sidecar: ``python -m services.sidecar.forwarding``.

It has an interpreter of its own, so that no answer waits for a lock that it holds, and a lower
priority, so that answers go first where there is not CPU enough for both. It ends once the sidecar
has nothing more for it, and at once when the sidecar is gone.
"""

import asyncio
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from random import Random

import msgspec
import structlog

from feedbackloop.capture.attribution import Attribution
from feedbackloop.capture.identity import TenantKeys
from feedbackloop.errors import SettingsError
from feedbackloop.events import TenantId
from feedbackloop.log.port import Outlet
from feedbackloop.log.share import FarBell, Handles, open_board
from services import garbage, logs, wiring, wiring_spool
from services.ending import exit_status
from services.keyring import LiveKeyring
from services.settings import Settings, load
from services.sidecar.forwarder import Forwarder
from services.sidecar.letters import DeadLetters
from services.sidecar.pulse import Pulse
from services.sidecar.recall import remember
from services.sidecar.redacting import Redacting
from services.sidecar.report import Reporter
from services.sidecar.translator import Translator

log = structlog.get_logger()

UNDRAINED = 3
"""Exit status if time was up before everything was forwarded."""
_NICE = 5
_REPORT_SECONDS = 0.5
_LOOK_SECONDS = 0.02  # for the end of what is to be forwarded


class Inherited(msgspec.Struct, frozen=True):
    """The argument, as JSON: handles of the spool, and of the pipe that takes reports."""

    spool: Handles
    reports: int


class Keys(Mapping[TenantId, TenantKeys]):
    """The keyring, read again for a tenant that the sidecar knows already and we do not."""

    def __init__(self, keyring: LiveKeyring) -> None:
        self._keyring = keyring

    def __getitem__(self, tenant: TenantId) -> TenantKeys:
        if tenant not in self._keyring:
            try:
                self._keyring.refresh()
            except (SettingsError, OSError) as error:
                log.error("keyring_not_read", error=str(error))  # noqa: TRY400  # its message says it all
        return self._keyring[tenant]

    def __iter__(self) -> Iterator[TenantId]:
        return iter(self._keyring)

    def __len__(self) -> int:
        return len(self._keyring)


def make_forwarder(settings: Settings, spool: Outlet) -> Forwarder:
    """Build everything that forwarding takes.

    Raises:
        SettingsError: If the log or the redaction cannot be set up as asked.
    """
    name = settings.sidecar.name
    event_log = wiring.open_log(settings, partition=name)
    attribution = Attribution(rules=settings.retries.rules())
    letters = DeadLetters(settings.home / "spool" / f"{name}.dead-letters.jsonl")
    redacting = Redacting(wiring.open_redactor(settings))
    pulse = Pulse()

    def breathe() -> None:
        pulse.beat()
        os.sched_yield()

    translator = Translator(
        Keys(LiveKeyring(settings.home)),
        attribution,
        letters,
        redacting=redacting,
        held_bytes=settings.sidecar.spool_disk_bytes // 4,
        breathe=breathe,
    )
    random = Random()  # noqa: S311  # spreads the waiting times of sidecars that lost one broker
    prepare = partial(remember, event_log, name, attribution)
    return Forwarder(
        spool,
        event_log,
        translator,
        random=random,
        prepare=prepare,
        adopt=partial(wiring_spool.adopt_spool, settings, name),
        pulse=pulse,
    )


class Child:
    """Forwards until its parent has nothing more, and reports.

    Args:
        settings: Those of its parent.
        inherited: From its parent.
    """

    def __init__(self, settings: Settings, inherited: Inherited) -> None:
        self._bell = FarBell(inherited.spool)
        self._board = open_board(inherited.spool.board)
        self._reports = inherited.reports
        self._drain_seconds = settings.sidecar.drain_seconds
        name = settings.sidecar.name
        spool = wiring_spool.open_outlet(settings, name, inherited.spool, self._bell)
        self._forwarder = make_forwarder(settings, spool)
        self._reporter = Reporter()
        self._report_at = 0.0

    def run(self) -> bool:
        """Return whether everything was forwarded."""
        self._forwarder.start()
        # Batches on their way make up to 50,000 objects, which come and go.
        garbage.calm((200_000, 5, 50))
        while not self._board.ending:
            self._pass(_REPORT_SECONDS)
            if not self._forwarder.is_alive:
                raise RuntimeError("the forwarder's thread has ended")
        until = time.monotonic() + self._drain_seconds
        while not (drained := self._forwarder.stop(drain_seconds=0)) and time.monotonic() < until:
            self._pass(_LOOK_SECONDS)
        asyncio.run(self._forwarder.close())
        self._report()
        return drained

    def _pass(self, seconds: float) -> None:
        """Let time pass, but for what the parent has to say; report when it is time."""
        if time.monotonic() >= self._report_at:
            self._report()
        heard, _, _ = select.select([self._bell], [], [], seconds)
        if heard and not self._bell.listen():
            _leave()

    def _report(self) -> None:
        self._report_at = time.monotonic() + _REPORT_SECONDS
        age = self._forwarder.oldest_seconds()
        oldest_at_ns = time.time_ns() - round(age * 1e9) if age else 0
        beats = self._forwarder.pulse.beats
        try:
            os.write(self._reports, self._reporter.line(oldest_at_ns=oldest_at_ns, beats=beats))
        except BrokenPipeError:
            _leave()


def _leave() -> None:
    """End at once: whoever comes after the parent waits for the locks that we hold."""
    os._exit(1)


def main() -> int:
    """Forward; return the exit status."""
    # A terminal and a service manager mean the sidecar, which says itself when it is time.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICE)
    logs.set_up()
    drained: list[bool] = []

    def run() -> None:
        inherited = msgspec.json.decode(sys.argv[1], type=Inherited)
        drained.append(Child(load(), inherited).run())

    status = exit_status(run)
    return UNDRAINED if drained == [False] else status


if __name__ == "__main__":
    sys.exit(main())
