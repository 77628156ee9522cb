"""Records on their way into the spool: completions never wait long for it, votes do."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import structlog

from feedbackloop.capture import record
from feedbackloop.capture.record import Closed, Opened, Recorded, Voted
from feedbackloop.errors import RequestError
from feedbackloop.log.port import Spool
from services import telemetry

log = structlog.get_logger()

_RETRY_SECONDS = 1.0
# A request's first record may wait this long for company: it is only evidence of a crash.
_LINGER_SECONDS = 0.002


class _Batch:
    """Records that go to the spool together, and what waits for each."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.kinds: list[str] = []
        self.waiting: list[Callable[[], None]] = []

    def add(self, payload: bytes, kind: str) -> None:
        """Take one more in."""
        self.payloads.append(payload)
        self.kinds.append(kind)

    def let_go(self) -> int:
        """Let everybody go who still waits; return how many that were."""
        waiting, self.waiting = self.waiting, []
        for then in waiting:
            try:
                then()
            except Exception:  # the request path: one answer's failure is no other's
                log.exception("answer_not_ended")
        return len(waiting)


class Recorder:
    """The spool as the request path sees it. Belongs to one event loop.

    Whatever goes wrong with a completion's record is counted and never reaches the answer. A
    vote is the reverse: it is refused unless its record is on disk. Records of completions go to
    the writer in batches: what ends an answer at the end of the event loop's turn, what begins one
    a little later, since nobody waits for it.
    """

    def __init__(self, spool: Spool, *, wait_seconds: float, vote_wait_seconds: float) -> None:
        self._spool = spool
        self._wait_seconds = wait_seconds
        self._vote_wait_seconds = vote_wait_seconds
        self._batch = _Batch()
        self._later: asyncio.TimerHandle | None = None
        self._soon = False
        self._votes_fail = False

    def notes(self) -> Sequence[str]:
        """Say what an operator should know of what is recorded."""
        refusal = self._spool.refusal
        refused = [] if refusal is None else [f"the spool's disk takes no records: {refusal}"]
        return [*refused, *(["the last vote could not be stored"] if self._votes_fail else [])]

    def opened(self, opened: Opened) -> None:
        """Hand over that a request was accepted."""
        try:
            self._batch.add(self._encoded(opened, "prompt"), "opened")
            if self._later is None and not self._soon:
                loop = asyncio.get_running_loop()
                self._later = loop.call_later(_LINGER_SECONDS, self._flush)
        except Exception as error:  # noqa: BLE001  # the answer goes on without us
            _broken("opened", error)

    def closed(self, closed: Closed, then: Callable[[], None]) -> None:
        """Hand over how a reply ended; call ``then`` once it survives our death, or time is up."""
        try:
            self._batch.add(self._encoded(closed, "reply"), "closed")
            self._batch.waiting.append(then)
            if not self._soon:
                self._soon = True
                asyncio.get_running_loop().call_soon(self._flush)
        except Exception as error:  # noqa: BLE001  # the answer goes on without us
            _broken("closed", error)
            then()

    def _encoded(self, half: Opened | Closed, part: Literal["prompt", "reply"]) -> bytes:
        """Write a record; without its body if that is large and there is little room."""
        if len(half.body) > record.LARGE_BYTES and self._spool.is_nearly_full(len(half.body)):
            telemetry.BODIES_LEFT_OUT.labels(part).inc()
            return record.encode(record.without_body(half))
        return record.encode(half)

    def _flush(self) -> None:
        """Give the writer what has come together."""
        batch, self._batch = self._batch, _Batch()
        self._soon = False
        if self._later is not None:
            self._later.cancel()
            self._later = None
        loop = asyncio.get_running_loop()

        def written(errors: Sequence[Exception | None]) -> None:
            # A loop that has closed has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, batch, errors)

        try:
            self._spool.offer_all(batch.payloads, written=written)
        except Exception as error:  # noqa: BLE001  # the answers go on without us
            _broken("batch", error)
            batch.let_go()
        batch.payloads = []  # the timer below would keep them
        if batch.waiting:
            loop.call_later(self._wait_seconds, _expire_batch, batch)

    async def voted(self, voted: Voted) -> None:
        """Return once a vote is on disk.

        Raises:
            RequestError: 503 if it is not known to be; the same call may be made again.
        """
        error = await self._kept(voted, "voted")
        self._votes_fail = error is not None
        if error is not None:
            raise _not_stored("feedback") from error

    async def recorded(self, recorded: Recorded) -> None:
        """Return once a completion that was served elsewhere is on disk; raises like ``voted``."""
        error = await self._kept(recorded, "recorded")
        if error is not None:
            raise _not_stored("completion") from error

    async def _kept(self, one: Voted | Recorded, kind: str) -> Exception | None:
        try:
            return await self._handed_over(one, kind)
        except Exception as caught:  # noqa: BLE001  # the client repeats the call
            telemetry.CAPTURE_ERRORS.inc()
            return caught

    async def _handed_over(self, one: Voted | Recorded, kind: str) -> Exception | None:
        """Wait for the writer thread's word.

        Raises:
            TimeoutError: If it did not come in time. The record may still be written.
        """
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Exception | None] = loop.create_future()

        def tell(error: Exception | None) -> None:
            _count(kind, error)
            if not told.done():
                told.set_result(error)

        def written(error: Exception | None) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, error)

        self._spool.offer(record.encode(one), durable=True, written=written)
        async with asyncio.timeout(self._vote_wait_seconds):
            return await told


def _settle(batch: _Batch, errors: Sequence[Exception | None]) -> None:
    batch.let_go()
    for (kind, error), count in Counter(zip(batch.kinds, errors, strict=True)).items():
        _count(kind, error, count)


def _expire_batch(batch: _Batch) -> None:
    late = batch.let_go()
    if late:
        telemetry.CAPTURE_LATE.inc(late)


def _count(kind: str, error: Exception | None, count: int = 1) -> None:
    recorded, shed = _COUNTERS[kind]
    if error is None:
        recorded.inc(count)
    else:
        shed.inc(count)
        log.debug("record_shed", reason=str(error))


_COUNTERS = {
    kind: tuple(telemetry.RECORDS.labels(kind, result) for result in ("recorded", "shed"))
    for kind in ("opened", "closed", "voted", "recorded")
}


def _not_stored(what: str) -> RequestError:
    return RequestError(
        f"{what} cannot be stored now: repeat the call later",
        status=503,
        code=f"{what}_not_stored",
        retry_after_seconds=_RETRY_SECONDS,
    )


def _broken(kind: str, error: Exception) -> None:
    telemetry.CAPTURE_ERRORS.inc()
    log.error("recording_failed", kind=kind, error=repr(error))
