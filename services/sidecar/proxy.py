"""The completion path: a request is checked, routed and signed, and asked of vLLM."""

from collections.abc import Mapping

from feedbackloop.capture.record import Opened
from feedbackloop.errors import RequestError
from feedbackloop.events import Alias, Endpoint
from feedbackloop.serving.routing import Pick
from services.sidecar import asked
from services.sidecar.body import check_kind
from services.sidecar.caller import CONVERSATION_HEADER, Who, completion_id
from services.sidecar.entrance import no_model
from services.sidecar.exchange import Call, Client, Exchange
from services.sidecar.parts import Parts
from services.sidecar.request import Request
from services.sidecar.router import Ticket

ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
}
"""The routes that are recorded."""

_MINUTE_NS = 60 * 10**9
_PASSED_ON = ("accept", "baggage", "traceparent", "tracestate")
_RECORDED = ("idempotency-key", "user-agent", CONVERSATION_HEADER, "x-stainless-retry-count")


class Proxy:
    """Answer completion requests from vLLM."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._router = parts.router
        self._identities = parts.identities
        self._entrance = parts.entrance
        self._clock = parts.clock
        self._max_body_bytes = parts.max_body_bytes

    def check(self, request: Request, peer: str) -> None:
        """Refuse a request for its head, before its body is read.

        Args:
            request: Its head; is told who was admitted.
            peer: Address of the connection's other end.

        Raises:
            RequestError: With the status to answer.
        """
        if request.method != "POST":
            raise RequestError("expected POST", status=405, code="method_not_allowed")
        request.admitted = self._entrance.admit(request.headers, peer, "completions")
        check_kind(request.headers, self._max_body_bytes)

    def answer(self, request: Request, client: Client) -> Exchange:
        """Begin to answer a whole request.

        Raises:
            RequestError: With the status to answer; vLLM then never hears of it.
        """
        call, ticket = self._accept(request)
        exchange = Exchange(call, ticket, self._parts, client)
        exchange.start()
        return exchange

    def _accept(self, request: Request) -> tuple[Call, Ticket]:
        """Read and route a request, and sign its receipt."""
        headers, admitted = request.headers, request.admitted
        if admitted is None:
            raise ValueError("the request's head was not checked")
        body = request.body()
        said = asked.read(body, ENDPOINTS[request.path])
        if said.scores_prompt and not self._parts.scores_prompts:
            raise _prompt_scored(said.scores_prompt)
        who = self._entrance.enter(admitted, headers, said)
        alias = Alias(said.model)
        ticket = self._router.admit(alias, who.unit, who.conversation)
        if ticket is None:
            raise no_model(said.model)
        try:
            opened, receipt = self._open(who, alias, ticket.pick, request, body)
        except BaseException:
            ticket.leave()
            raise
        call = Call(
            path=request.path,
            alias=alias,
            body=_named(self._entrance.salted(who.tenant, said.cache_salt, body), opened),
            head=_head(headers, receipt),
            limits=admitted.lines(),
            opened=opened,
        )
        return call, ticket

    def _open(
        self, who: Who, alias: Alias, pick: Pick, request: Request, body: bytes
    ) -> tuple[Opened, str]:
        """Begin a completion's record; return its receipt, too."""
        accepted_ns = self._clock()
        receipt = self._identities.issue(who, alias, pick, minute=accepted_ns // _MINUTE_NS)
        endpoint, headers = ENDPOINTS[request.path], request.headers
        opened = Opened(
            completion_id=completion_id(endpoint, receipt),
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
            headers={name: headers[name] for name in _RECORDED if name in headers},
            accepted_ns=accepted_ns,
        )
        return opened, receipt


def _named(body: bytes, opened: Opened) -> bytes:
    """Name a response in its body, where vLLM looks for it; of two alike, the last one counts."""
    if opened.endpoint != "responses":
        return body
    return b'%b,"request_id":"%b"}' % (body[: body.rindex(b"}")], opened.completion_id.encode())


def _head(headers: Mapping[str, str], receipt: str) -> bytes:
    """Write the header lines that vLLM gets."""
    lines = [f"{name}: {headers[name]}\r\n" for name in _PASSED_ON if name in headers]
    lines.append(f"content-type: application/json\r\nx-request-id: {receipt}\r\n")
    return "".join(lines).encode("latin-1")


def _prompt_scored(param: str) -> RequestError:
    return RequestError(
        f"{param}: log-probabilities of the prompt are not served beside adapters",
        status=400,
        param=param,
        code="unsupported_parameter",
    )
