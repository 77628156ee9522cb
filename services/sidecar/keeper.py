"""Keeps the process behind the spool: starts it, starts it again, and hears what it counts."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import msgspec
import structlog

from feedbackloop.errors import SettingsError
from feedbackloop.log.share import Share
from services import telemetry
from services.sidecar import report
from services.sidecar.pulse import LOOK_SECONDS, Seen, Watch

log = structlog.get_logger()

COMMAND = (sys.executable, "-m", "services.sidecar.forwarding")
_FIRST_WAIT_SECONDS = 0.2
_MAX_WAIT_SECONDS = 30.0
_STEADY_SECONDS = 60.0  # having lived for so long, it is started again at once
_GRACE_SECONDS = 5.0  # to leave once the time to forward is up
_LINE_BYTES = 2**20
_SETTINGS = 2
_UNDRAINED = 3


class Keeper:
    """Keeps one child for as long as the sidecar lives. Belongs to one event loop.

    Args:
        share: The spool that the child reads.
        producer: Who writes to it.
        command: Starts the child; what it inherits is appended.
        silent_seconds: After which a child that says nothing is none that can be relied on.
        stuck_seconds: After which one that does nothing, though records wait, is killed.
    """

    def __init__(
        self,
        share: Share,
        producer: str,
        *,
        command: Sequence[str] = COMMAND,
        silent_seconds: float = 5.0,
        stuck_seconds: float = 60.0,
    ) -> None:
        self._share = share
        self._producer = producer
        self._command = command
        self._silent_seconds = silent_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._oldest_at_ns = 0
        self._heard_at_ns = time.time_ns()
        self._is_misread = False
        self._watch = Watch.of(stuck_seconds)
        self._beats = 0
        self._told: int | None = None
        self._heard = asyncio.Event()
        self._task: asyncio.Task[bool] | None = None

    @property
    def pid(self) -> int | None:
        """Return the child's number; None before the first one."""
        return None if self._process is None else self._process.pid

    def oldest_seconds(self) -> float:
        """Return the age of the oldest record that is not confirmed, 0 if none is.

        While there is no child that says it, whatever waits counts from when one was heard last.
        """
        now_ns = time.time_ns()
        since_ns = self._oldest_at_ns
        is_silent = now_ns - self._heard_at_ns > self._silent_seconds * 1e9
        if not since_ns and is_silent and self._something_waits():
            since_ns = self._heard_at_ns
        return (now_ns - since_ns) / 1e9 if since_ns else 0.0

    async def start(self) -> None:
        """Return once the child is ready, or cannot be for a reason that may pass.

        One reason is that the spool has no folder yet: the child comes once it has.

        Raises:
            SettingsError: If the child refused its settings; it has said which.
        """
        self._task = asyncio.create_task(self._keep())
        heard = asyncio.create_task(self._heard.wait())
        try:
            await asyncio.wait((self._task, heard), return_when=asyncio.FIRST_COMPLETED)
        finally:
            heard.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self, *, drain_seconds: float) -> bool:
        """Let the child forward what the spool holds, then end; say whether all of it went.

        Nothing more may be written to the spool.
        """
        self._share.board.ending = 1
        self._share.call()
        drained = False
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_seconds + _GRACE_SECONDS):
                    drained = await self._task
        self.kill()
        return drained

    def kill(self) -> None:
        """End the child now, if there is one. Safe to call twice."""
        if self._task is not None:
            self._task.cancel()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def _keep(self) -> bool:
        """Let one child follow the other, until one ends because we end."""
        if not await self._opened():
            return False
        wait = _FIRST_WAIT_SECONDS
        while True:
            began = time.monotonic()
            status = await self._live()
            if self._share.board.ending and status in (0, _UNDRAINED):
                return status == 0
            if status == _SETTINGS and not self._heard.is_set():
                raise SettingsError("what forwards cannot start with these settings: see above")
            # It has failed before it was ready: whoever waits for it need not wait for the next.
            self._heard.set()
            if time.monotonic() > began + _STEADY_SECONDS:
                wait = _FIRST_WAIT_SECONDS
            telemetry.FORWARDER_RESTARTS.inc()
            log.error("forwarder_died", status=status, retry_seconds=wait)
            await self._rest(wait)
            wait = min(wait * 2, _MAX_WAIT_SECONDS)

    async def _opened(self) -> bool:
        """Wait until there is something to read; False if we end before."""
        while not self._share.board.opened:
            self._heard.set()
            if self._share.board.ending:
                return False
            await asyncio.sleep(_FIRST_WAIT_SECONDS)
        return True

    async def _rest(self, seconds: float) -> None:
        """Wait; shortly if the sidecar is about to end."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(_FIRST_WAIT_SECONDS)
            if self._share.board.ending:
                return

    def _read(self, line: bytes) -> None:
        self._heard.set()
        self._heard_at_ns = time.time_ns()
        beats: int | None = None
        try:
            told = report.read(line)
            self._oldest_at_ns, beats = told.oldest_at_ns, told.beats
        except ValueError as error:
            # Of a version that was installed since we started. It says so twice a second.
            if not self._is_misread:
                log.error("report_not_read", error=str(error))  # noqa: TRY400  # its message says it all
            self._is_misread = True
        # One that does not say how far it is lives at least.
        if beats is None or beats != self._told:
            self._beats += 1
        self._told = beats

    def _something_waits(self) -> bool:
        board = self._share.board
        return board.tail > max(0, board.through)

    async def _mind(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the child once it stands still for too long: its pipe is heard to its end."""
        self._watch = self._watch.anew()
        looked_at = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            board, now = self._share.board, time.monotonic()
            needed = self._something_waits() or bool(board.ending)
            seen = Seen(beats=self._beats, through=board.through, is_needed=needed)
            self._watch = self._watch.after(seen, passed_seconds=now - looked_at)
            looked_at = now
            if self._watch.is_stuck:
                telemetry.FORWARDER_STUCK.inc()
                seconds = round(self._watch.still_seconds, 1)
                log.error("forwarder_stuck", still_seconds=seconds, pid=process.pid)
                self._watch = self._watch.killed(seen)
                process.kill()
                return

    async def _live(self) -> int | None:
        """Let one child live; return its exit status, None if it was not born."""
        try:
            process, reports = self._spawn()
        except OSError as error:
            log.error("forwarder_not_started", error=str(error))  # noqa: TRY400  # its message says it all
            return None
        self._is_misread, self._told = False, None
        minding = asyncio.create_task(self._mind(process))
        try:
            await self._listen(reports)
        except Exception:  # the outermost loop: the next child is heard again
            log.exception("forwarder_not_heard")
            process.kill()
        finally:
            minding.cancel()
        return await asyncio.to_thread(process.wait)

    def _spawn(self) -> tuple[subprocess.Popen[bytes], int]:
        """Start a child; return it, and where its reports are read."""
        reports, given = os.pipe()
        spool = self._share.handles(self._producer)
        inherited = msgspec.json.encode({"spool": spool, "reports": given}).decode()
        handles = (spool.board, spool.bell, spool.lock, spool.folder, given)
        try:
            self._process = subprocess.Popen(  # noqa: S603  # our own command
                [*self._command, inherited],
                stdin=subprocess.DEVNULL,
                # Ours says once where we listen, and ends when we do.
                stdout=subprocess.DEVNULL,
                pass_fds=handles,
            )
        except OSError:
            os.close(reports)
            raise
        finally:
            os.close(given)
        return self._process, reports

    async def _listen(self, reports: int) -> None:
        """Add up what the child reports, until it ends."""
        reader = asyncio.StreamReader(limit=_LINE_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader),
            os.fdopen(reports, "rb", buffering=0),
        )
        try:
            while line := await reader.readline():
                if line.endswith(b"\n"):  # not what it was about to say when it was killed
                    self._read(line)
        finally:
            transport.close()
