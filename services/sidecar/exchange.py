"""One completion under way: asked of vLLM, passed on, recorded.

Nothing here waits: vLLM's bytes, the client's farewell and the spool's word each call a method.
"""

from typing import Protocol

import msgspec

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.capture.record import Closed, Opened
from feedbackloop.errors import RequestError
from feedbackloop.events import Alias, Outcome
from feedbackloop.serving.routing import Served
from services import telemetry
from services.sidecar import answers, upstream, wire
from services.sidecar.link import Head
from services.sidecar.parts import Parts
from services.sidecar.router import Ticket
from services.sidecar.splice import (
    CHAT,
    RESPONSES,
    StreamSplicer,
    replace_model,
    restore_names,
)
from services.sidecar.upstream import Question
from services.tallies import REPLIES

_OK = 200
_NOT_FOUND = 404
_FAILED = 500
_DROPPED = frozenset(
    {
        b"connection",
        b"content-length",
        b"date",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"server",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-request-id",
    }
)
"""Reply headers that belong to one connection, or that we write ourselves."""


class Client(Protocol):
    """The connection that an answer goes out on."""

    def reply(self, status: int, head: bytes, body: bytes) -> None:
        """Answer with a whole body."""
        ...

    def begin(self, status: int, head: bytes) -> None:
        """Begin an answer whose length nobody knows yet."""
        ...

    def send(self, data: bytes) -> None:
        """Pass the next bytes of the answer on."""
        ...

    def end(self, data: bytes) -> None:
        """Pass the last bytes of the answer on."""
        ...

    def refuse(self, error: RequestError, head: bytes) -> None:
        """Answer with an error."""
        ...


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was accepted and routed.

    Attributes:
        path: OpenAI's route.
        body: As the client sent it.
        head: The header lines that vLLM gets.
        limits: The header lines that say how far the caller's limits are.
        opened: Its record.
    """

    path: str
    alias: Alias
    body: bytes
    head: bytes
    limits: bytes
    opened: Opened


class Exchange:
    """From an accepted request to the last byte of its reply.

    The answer is never held up or broken by its record, but for the recorder's word before its
    last bytes. Exactly one record closes it.
    """

    def __init__(self, call: Call, ticket: Ticket, parts: Parts, client: Client) -> None:
        self._call = call
        self._ticket = ticket
        self._client = client
        self._router = parts.router
        self._server = parts.server
        self._recorder = parts.recorder
        self._clock = parts.clock
        self._question: Question | None = None
        self._splicer: StreamSplicer | None = None
        self._head: Head | None = None
        self._passed: list[bytes] = []
        self._first_ns: int | None = None
        self._status = 0
        self._closed = False
        self._gone = False

    def start(self) -> None:
        """Ask vLLM, and let it be recorded that we do."""
        self._recorder.opened(self._call.opened)
        self._ask()

    # What the client does.

    def gone(self) -> None:
        """Stop vLLM's work, and record a reply whose client did not wait for its end."""
        self._gone = True
        if self._question is not None:
            self._question.stop()
        if not self._closed:
            self._close(Outcome.CLIENT_GONE)

    def pause(self) -> None:
        if self._question is not None:
            self._question.pause()

    def resume(self) -> None:
        if self._question is not None:
            self._question.resume()

    # What vLLM does.

    def began(self, head: Head) -> None:
        self._head = head
        if head.status == _OK and head.content_type == "text/event-stream":
            self._status = _OK
            form = RESPONSES if self._call.opened.endpoint == "responses" else CHAT
            self._splicer = StreamSplicer(self._ticket.served.model, self._call.alias, form=form)
            self._client.begin(_OK, self._lines(head))

    def received(self, data: bytes) -> None:
        splicer = self._splicer
        if splicer is None:
            self._passed.append(data)
            return
        self._passed.append(data)
        ready = splicer.feed(data)
        if ready:
            if self._first_ns is None:
                self._first_ns = self._clock()
            self._client.send(ready)
        if splicer.done:
            self._end_stream(splicer, Outcome.COMPLETE)

    def ended(self) -> None:
        if self._closed:
            return
        if self._splicer is not None:
            self._end_stream(self._splicer, Outcome.UPSTREAM_FAILED)
        elif self._head is not None:
            self._end_whole(self._head, b"".join(self._passed))

    def failed(self, error: RequestError) -> None:
        if self._closed:
            return
        splicer = self._splicer
        if splicer is None:
            self._refuse(error)
            return
        # A stream that began well ends with an event that clients know as an error.
        event = b"data: " + answers.error_body(error) + b"\n\n"
        self._close(Outcome.UPSTREAM_FAILED, splicer.finish() + event)

    # What becomes of it.

    def _ask(self) -> None:
        body = replace_model(self._call.body, self._call.alias, self._ticket.served.model)
        self._question = self._server.ask(self._call.path, self._call.head, body, self)

    def _end_stream(self, splicer: StreamSplicer, outcome: Outcome) -> None:
        if self._question is not None:
            self._question.leave()
        self._close(outcome, splicer.finish())

    def _end_whole(self, head: Head, raw: bytes) -> None:
        if head.status == _NOT_FOUND and (other := self._instead(raw)) is not None:
            telemetry.FALLBACKS.labels(self._call.alias, "not_loaded").inc()
            self._ticket.move(other)
            self._head, self._passed = None, []
            self._ask()
            return
        if head.status >= _FAILED:
            self._refuse(upstream.refusal(head.status))
            return
        self._status = head.status
        self._first_ns = self._clock()
        whole = head.status == _OK
        change = replace_model if whole else restore_names
        body = change(raw, self._ticket.served.model, self._call.alias)
        self._close(Outcome.COMPLETE if whole else Outcome.UPSTREAM_FAILED, body)

    def _instead(self, raw: bytes) -> Served | None:
        """Name what can answer in the place of a release that vLLM has lost."""
        if not _is_unknown_model(raw):
            return None
        return self._router.lost(self._call.alias, self._ticket.served)

    def _refuse(self, error: RequestError) -> None:
        self._status = error.status
        self._passed = []
        self._close(Outcome.UPSTREAM_FAILED, error)

    def _close(self, outcome: Outcome, last: bytes | RequestError = b"") -> None:
        """Record how it ended; the client gets ``last`` once that survives our death."""
        self._closed = True
        self._question = None  # it knows us, and we knew it: a circle
        self._count(outcome)
        closed = self._record(outcome)
        self._ticket.leave()
        if self._gone:
            self._recorder.closed(closed, lambda: None)
        else:
            self._recorder.closed(closed, lambda: self._let_go(last))

    def _let_go(self, last: bytes | RequestError) -> None:
        if self._gone:
            return
        if isinstance(last, RequestError):
            self._client.refuse(last, self._own_lines())
        elif self._splicer is not None:
            self._client.end(last)
        elif self._head is not None:
            self._client.reply(self._status, self._lines(self._head), last)

    def _record(self, outcome: Outcome) -> Closed:
        served = self._ticket.served
        passed = self._passed
        return Closed(
            completion_id=self._call.opened.completion_id,
            release=served.release,
            release_seq=served.seq,
            status=self._status,
            streamed=self._splicer is not None,
            body=passed[0] if len(passed) == 1 else b"".join(passed),
            first_token_ns=self._first_ns,
            ended_ns=self._clock(),
            outcome=outcome,
        )

    def _count(self, outcome: Outcome) -> None:
        arm = self._ticket.pick.arm
        tally = REPLIES.of(self._call.alias, self._ticket.served.release, arm)
        accepted_ns = self._call.opened.accepted_ns
        first = None if self._first_ns is None else (self._first_ns - accepted_ns) / 1e9
        tally.ended(
            code=self._status or 499,
            outcome=outcome,
            first_seconds=first,
            seconds=(self._clock() - accepted_ns) / 1e9,
        )

    def _lines(self, head: Head) -> bytes:
        """Write the reply's headers: vLLM's, but for those of its connection, and ours."""
        if head.lines is None:
            dropped = _DROPPED
            for name, value in head.headers:
                if name == b"connection":
                    dropped = dropped | {named.strip().lower() for named in value.split(b",")}
            head.lines = wire.lines(h for h in head.headers if h[0] not in dropped)
        return head.lines + self._own_lines()

    def _own_lines(self) -> bytes:
        opened = self._call.opened
        return (
            f"x-request-id: {opened.completion_id}\r\n"
            f"x-feedbackloop-release: {self._ticket.served.release}\r\n"
            f"x-feedbackloop-arm: {opened.arm.value}\r\n"
            f"x-feedbackloop-epoch: {opened.epoch}\r\n"
        ).encode("latin-1") + self._call.limits


class _Fault(msgspec.Struct):
    param: str | None = None


class _FaultBody(msgspec.Struct):
    error: _Fault


_fault = msgspec.json.Decoder(_FaultBody)


def _is_unknown_model(body: bytes) -> bool:
    """Tell vLLM's way to say that a name is not loaded from any other 404."""
    try:
        return _fault.decode(body).error.param == "model"
    except UNREADABLE:
        return False
