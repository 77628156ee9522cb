"""Records on their way into the spool: completions never wait long for it, votes do."""

import asyncio
from collections.abc import Callable

import structlog

from feedbackloop.capture import record
from feedbackloop.capture.record import AnyRecord, Closed, Opened, Voted
from feedbackloop.errors import RequestError
from feedbackloop.log.port import Spool
from services import telemetry

log = structlog.get_logger()

_RETRY_SECONDS = 1.0


class Recorder:
    """The spool as the request path sees it.

    Whatever goes wrong with a completion's record is counted and never reaches the answer. A
    vote is the reverse: it is refused unless its record is on disk.
    """

    def __init__(self, spool: Spool, *, wait_seconds: float, vote_wait_seconds: float) -> None:
        self._spool = spool
        self._wait_seconds = wait_seconds
        self._vote_wait_seconds = vote_wait_seconds
        self.votes_fail = False
        """Whether the last vote could not be stored."""

    def opened(self, opened: Opened) -> None:
        """Hand over that a request was accepted."""
        try:
            self._spool.offer(record.encode(opened), durable=False, written=_counting("opened"))
        except Exception as error:  # noqa: BLE001  # the answer goes on without us
            _broken("opened", error)

    async def closed(self, closed: Closed) -> None:
        """Hand over how a reply ended; return once it survives our death, or time is up."""
        try:
            refused = await self._handed_over(closed, "closed", self._wait_seconds)
        except TimeoutError:
            telemetry.CAPTURE_LATE.inc()
        except Exception as error:  # noqa: BLE001  # the answer goes on without us
            _broken("closed", error)
        else:
            if refused is not None:
                log.debug("record_shed", reason=str(refused))

    def closed_at_once(self, closed: Closed) -> None:
        """Hand over how a reply ended, for a client that waits no longer."""
        try:
            self._spool.offer(record.encode(closed), durable=False, written=_counting("closed"))
        except Exception as error:  # noqa: BLE001  # the server goes on
            _broken("closed", error)

    async def voted(self, voted: Voted) -> None:
        """Return once a vote is on disk.

        Raises:
            RequestError: 503 if it is not known to be; the same call may be made again.
        """
        try:
            error = await self._handed_over(voted, "voted", self._vote_wait_seconds, durable=True)
        except Exception as caught:  # noqa: BLE001  # the client repeats the call
            error = caught
            telemetry.CAPTURE_ERRORS.inc()
        self.votes_fail = error is not None
        if error is not None:
            raise RequestError(
                "feedback cannot be stored now: repeat the call later",
                status=503,
                code="feedback_not_stored",
                retry_after_seconds=_RETRY_SECONDS,
            ) from error

    async def _handed_over(
        self, one: AnyRecord, kind: str, seconds: float, *, durable: bool = False
    ) -> Exception | None:
        """Wait for the writer thread's word.

        Raises:
            TimeoutError: If it did not come in time. The record may still be written.
        """
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Exception | None] = loop.create_future()
        count = _counting(kind)

        def tell(error: Exception | None) -> None:
            if not told.done():
                told.set_result(error)

        def written(error: Exception | None) -> None:
            count(error)
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell, error)

        self._spool.offer(record.encode(one), durable=durable, written=written)
        timer = loop.call_later(seconds, _expire, told)
        try:
            return await told
        finally:
            timer.cancel()


def _expire(told: asyncio.Future[Exception | None]) -> None:
    if not told.done():
        told.set_exception(TimeoutError())


def _counting(kind: str) -> Callable[[Exception | None], None]:
    return _COUNTERS[kind]


def _counter(kind: str) -> Callable[[Exception | None], None]:
    recorded = telemetry.RECORDS.labels(kind, "recorded")
    shed = telemetry.RECORDS.labels(kind, "shed")
    return lambda error: (recorded if error is None else shed).inc()


_COUNTERS = {kind: _counter(kind) for kind in ("opened", "closed", "voted")}


def _broken(kind: str, error: Exception) -> None:
    telemetry.CAPTURE_ERRORS.inc()
    log.error("recording_failed", kind=kind, error=repr(error))
