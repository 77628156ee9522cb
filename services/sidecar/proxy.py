"""The completion path: raw ASGI, bytes through."""

from collections.abc import Mapping

from feedbackloop.capture.record import Opened
from feedbackloop.errors import RequestError
from feedbackloop.events import Alias
from services import telemetry
from services.guard import Receive, Scope, Send
from services.sidecar import answers, asked
from services.sidecar.asked import Endpoint
from services.sidecar.caller import CONVERSATION_HEADER, completion_id
from services.sidecar.exchange import Call, Exchange
from services.sidecar.parts import Parts
from services.sidecar.router import Ticket

ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
}
"""The routes that are recorded."""

_MINUTE_NS = 60 * 10**9
_PASSED_ON = frozenset({"accept", "baggage", "traceparent", "tracestate"})
_RECORDED = frozenset(
    {"idempotency-key", "user-agent", CONVERSATION_HEADER, "x-stainless-retry-count"}
)


class ClientGone(Exception):
    """The client went away before its request was complete."""


class Proxy:
    """Answer completion requests from vLLM."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._router = parts.router
        self._identities = parts.identities
        self._keys = parts.keys
        self._clock = parts.clock
        self._max_body_bytes = parts.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            call, ticket = await self._accept(scope, receive)
        except RequestError as error:
            telemetry.REFUSED.labels(str(error.status)).inc()
            await answers.send_error(send, error, _after_refusal(error))
            return
        except ClientGone:
            return
        with ticket:
            await Exchange(call, ticket, self._parts).run(receive, send)

    async def _accept(self, scope: Scope, receive: Receive) -> tuple[Call, Ticket]:
        """Read, check and route a request, and sign its receipt."""
        if scope["method"] != "POST":
            raise RequestError("expected POST", status=405, code="method_not_allowed")
        headers = read_headers(scope)
        caller = self._keys.caller(headers.get("authorization", ""), "completions")
        body = await read_json(headers, receive, self._max_body_bytes)
        endpoint = ENDPOINTS[scope["path"]]
        request = asked.read(body, endpoint)
        who = self._identities.identify(caller.tenant, headers, request)
        alias = Alias(request.model)
        ticket = self._router.admit(alias, who.unit, who.conversation)
        if ticket is None:
            raise RequestError(
                f"the model {request.model!r} does not exist",
                status=404,
                param="model",
                code="model_not_found",
            )
        try:
            accepted_ns = self._clock()
            pick = ticket.pick
            said = self._identities.issue(who, alias, pick, minute=accepted_ns // _MINUTE_NS)
            opened = Opened(
                completion_id=completion_id(endpoint, said),
                tenant=who.tenant,
                conversation=who.conversation,
                user=who.user,
                endpoint=endpoint,
                alias=alias,
                assigned=pick.served.release,
                release=pick.served.release,
                release_seq=pick.served.seq,
                arm=pick.arm,
                propensity=pick.propensity,
                epoch=pick.epoch,
                body=body,
                headers={name: text for name, text in headers.items() if name in _RECORDED},
                accepted_ns=accepted_ns,
            )
        except BaseException:
            ticket.__exit__(None, None, None)
            raise
        passed = {name: text for name, text in headers.items() if name in _PASSED_ON}
        passed |= {"content-type": "application/json", "x-request-id": said}
        call = Call(path=scope["path"], alias=alias, body=body, headers=passed, opened=opened)
        return call, ticket


def read_headers(scope: Scope) -> dict[str, str]:
    """Return a request's headers by lower-case name; of a repeated one the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def read_json(headers: Mapping[str, str], receive: Receive, limit: int) -> bytes:
    """Read a JSON body.

    Raises:
        RequestError: 415 for another content type, 413 for a body above ``limit`` bytes.
        ClientGone: If the client left in the middle.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(
            f"content type {kind or 'missing'}: expected application/json",
            status=415,
            code="unsupported_content_type",
        )
    if headers.get("content-encoding", "identity") != "identity":
        raise RequestError(
            "content encoding: expected none", status=415, code="unsupported_content_encoding"
        )
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    total = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        total += len(chunk)
        if total > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> RequestError:
    return RequestError(f"the body is larger than {limit} bytes", status=413, code="body_too_large")


def _after_refusal(error: RequestError) -> answers.Headers:
    # What was not read of the body must not be taken for the next request.
    return [(b"connection", b"close")] if error.status in {401, 413, 415} else []
