"""Completions served elsewhere: recorded under ids of ours, so that people can judge them too."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec

from feedbackloop.capture import elsewhere
from feedbackloop.capture.elsewhere import Answered, Told
from feedbackloop.capture.exchange import moment
from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.capture.record import Closed, Opened, Recorded
from feedbackloop.errors import RequestError
from feedbackloop.events import ELSEWHERE, Alias, Arm, CompletionId, Endpoint, Outcome
from feedbackloop.serving.routing import Pick, Served
from services import telemetry
from services.sidecar import asked
from services.sidecar.asked import Asked
from services.sidecar.caller import CONVERSATION_HEADER, USER_HEADER, Who, completion_id
from services.sidecar.entrance import Admitted, no_model
from services.sidecar.feedback import batch, refused_item
from services.sidecar.parts import Parts

_MINUTE_NS = 60 * 10**9
_PICK = Pick(
    served=Served(release=ELSEWHERE, seq=0, model=""), arm=Arm.STABLE, propensity=1.0, epoch=0
)


_NOTHING = msgspec.Raw(b"null")


class _Kind(msgspec.Struct):
    messages: msgspec.Raw = _NOTHING
    input: msgspec.Raw = _NOTHING

    def endpoint(self) -> Endpoint:
        """Say which of OpenAI's requests it is."""
        if self.messages is not _NOTHING:
            return "chat"
        return "responses" if self.input is not _NOTHING else "completions"


_kind = msgspec.json.Decoder(_Kind)


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a completion that was recorded.

    Attributes:
        completion_id: What feedback on it names. The same for the same completion told again.
        model: The alias that it counts for.
    """

    completion_id: str
    model: str
    source: str


class Elsewhere:
    """Check what was served elsewhere, and keep it before it is answered."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def record(self, admitted: Admitted, body: bytes, client_key: str, user: str) -> Stored:
        """Record one completion; return once that is on disk.

        Args:
            admitted: Whose tenant it is.
            body: As received.
            client_key: The ``Idempotency-Key`` header, or empty.
            user: Whom it was for, where the body does not say it.

        Raises:
            RequestError: 400, 404, 422, 429 or 503.
        """
        told = elsewhere.parse(body)
        now_ns = self._parts.clock()
        identities = self._parts.identities
        endpoint, request = _asked(told)
        answered = elsewhere.answered(
            told,
            endpoint,
            now=moment(now_ns),
            lifetime=timedelta(seconds=identities.lifetime_seconds),
            skew=timedelta(seconds=identities.skew_seconds),
        )
        headers = _headers(told, user)
        who = self._parts.entrance.enter(admitted, headers, request)
        alias = Alias(request.model)
        if alias not in self._parts.router.table:
            raise no_model(request.model)
        who = msgspec.structs.replace(who, choices=len(answered.said.replies))
        recorded = self._recorded(told, answered, endpoint, who, alias, client_key)
        await self._parts.recorder.recorded(recorded)
        return Stored(completion_id=recorded.opened.completion_id, model=alias, source=told.source)

    async def record_all(
        self, admitted: Admitted, body: bytes, client_key: str, user: str
    ) -> list[bytes]:
        """Record each item of a batch by itself; return each one's result as JSON, in order.

        Raises:
            RequestError: 400 or 422 if the batch as a whole is wrong.
        """
        items = batch(body)
        self._parts.entrance.charge_items(admitted, "completions", len(items) - 1)
        return await asyncio.gather(
            *(
                self._item(admitted, bytes(item), client_key and f"{client_key}/{place}", user)
                for place, item in enumerate(items)
            )
        )

    async def _item(self, admitted: Admitted, body: bytes, client_key: str, user: str) -> bytes:
        try:
            stored = await self.record(admitted, body, client_key, user)
        except RequestError as error:
            telemetry.REFUSED.labels(str(error.status)).inc()
            return refused_item(error)
        return msgspec.json.encode({"status": 202, **msgspec.to_builtins(stored)})

    def _recorded(
        self,
        told: Told,
        answered: Answered,
        endpoint: Endpoint,
        who: Who,
        alias: Alias,
        client_key: str,
    ) -> Recorded:
        asked_ns = _nanoseconds(answered.asked_at)
        request, response = bytes(told.request), bytes(told.response)
        called = client_key or answered.source_id or sha256(request + response).hexdigest()
        name = completion_id(endpoint, self._receipt(who, alias, told.source, called, asked_ns))
        opened = Opened(
            completion_id=name,
            tenant=who.tenant,
            conversation=who.conversation,
            user=who.user,
            endpoint=endpoint,
            alias=alias,
            assigned=ELSEWHERE,
            release=ELSEWHERE,
            release_seq=0,
            arm=Arm.STABLE,
            propensity=1.0,
            epoch=0,
            body=request,
            headers={},
            accepted_ns=asked_ns,
            source=told.source,
            source_id=answered.source_id,
        )
        return Recorded(opened=opened, closed=_closed(name, answered, response))

    def _receipt(self, who: Who, alias: Alias, source: str, called: str, asked_ns: int) -> str:
        """Sign a receipt that is the same for the same completion, whenever it is told."""
        identities = self._parts.identities
        return identities.issue(
            who,
            alias,
            _PICK,
            minute=asked_ns // _MINUTE_NS,
            nonce=identities.nonce(who.tenant, source, called),
        )


def _asked(told: Told) -> tuple[Endpoint, Asked]:
    """Read the request; say which of OpenAI's it is."""
    body = bytes(told.request)
    try:
        endpoint = _kind.decode(body).endpoint()
        request = asked.read(body, endpoint)
    except UNREADABLE as error:
        raise RequestError(
            "request: expected an object", status=422, param="request", code="invalid_record"
        ) from error
    except RequestError as error:
        param = "request" if error.param is None else f"request.{error.param}"
        raise RequestError(
            f"request: {error.message}", status=422, param=param, code="invalid_record"
        ) from error
    return endpoint, request


def _headers(told: Told, user: str) -> Mapping[str, str]:
    named = {USER_HEADER: told.user or user, CONVERSATION_HEADER: told.conversation or ""}
    return {name: text for name, text in named.items() if text}


def _closed(name: CompletionId, answered: Answered, response: bytes) -> Closed:
    """Say of an answer that was given elsewhere how it ended: nobody tells of another."""
    return Closed(
        completion_id=name,
        release=ELSEWHERE,
        release_seq=0,
        status=200,
        streamed=False,
        body=response,
        first_token_ns=None,
        ended_ns=_nanoseconds(answered.ended_at),
        outcome=Outcome.COMPLETE,
    )


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000
