"""A feedback call, from its bytes to a vote on disk."""

import asyncio
from datetime import UTC, datetime

import msgspec

from feedbackloop.capture import votes
from feedbackloop.capture.record import Voted
from feedbackloop.capture.votes import WITHDRAWABLE
from feedbackloop.errors import RequestError
from feedbackloop.events import CompletionId
from services import telemetry
from services.apikeys import Caller
from services.sidecar.parts import Parts

MAX_ITEMS = 1_000


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a feedback call.

    Attributes:
        feedback_id: The same for the same call made again under one ``Idempotency-Key``.
        accepted: The signals that were in it.
    """

    feedback_id: str
    completion_id: str
    accepted: list[str]


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    items: list[msgspec.Raw]


_batch = msgspec.json.Decoder(_Batch)


class Feedback:
    """Check votes, and keep them before they are answered."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def give(self, caller: Caller, body: bytes, client_key: str, user: str) -> Accepted:
        """Accept a vote once it is on disk.

        Args:
            caller: Whose tenant must have issued the completion id.
            body: As received.
            client_key: The ``Idempotency-Key`` header, or empty.
            user: Who says so, if the body does not say it.

        Raises:
            RequestError: 400, 403, 404, 410, 422 or 503; see ``votes.parse`` and ``receipt.check``.
        """
        vote = votes.parse(body)
        voted = self._voted(
            caller, CompletionId(vote.completion_id), client_key, vote.user or user, body
        )
        await self._parts.recorder.voted(voted)
        return _accepted(voted, list(vote.signals()))

    async def withdraw(
        self, caller: Caller, completion_id: str, signal: str, client_key: str, user: str
    ) -> Accepted:
        """Take a vote back, once that is on disk.

        Raises:
            RequestError: As ``give``.
        """
        if signal not in WITHDRAWABLE:
            raise RequestError(
                f"signal cannot be withdrawn: expected {', '.join(WITHDRAWABLE)}",
                status=422,
                param="signal",
                code="invalid_feedback",
            )
        voted = self._voted(caller, CompletionId(completion_id), client_key, user, b"", signal)
        await self._parts.recorder.voted(voted)
        return _accepted(voted, [signal])

    async def give_all(self, caller: Caller, body: bytes, user: str) -> list[bytes]:
        """Accept each item of a batch by itself; return each one's result as JSON, in order.

        Raises:
            RequestError: 400 or 422 if the batch as a whole is wrong.
        """
        try:
            items = _batch.decode(body).items
        except msgspec.ValidationError as error:
            raise _wrong_items(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestError(
                f"the body is no valid JSON: {error}", status=400, code="invalid_json"
            ) from error
        if not 1 <= len(items) <= MAX_ITEMS:
            raise _wrong_items(f"items: expected 1 to {MAX_ITEMS}, not {len(items)}")
        return await asyncio.gather(*(self._item(caller, bytes(item), user) for item in items))

    async def _item(self, caller: Caller, body: bytes, user: str) -> bytes:
        try:
            accepted = await self.give(caller, body, "", user)
        except RequestError as error:
            telemetry.FEEDBACK_REFUSED.labels(str(error.status)).inc()
            fault = {"message": error.message, "param": error.param, "code": error.code}
            return msgspec.json.encode({"status": error.status, "error": fault})
        return msgspec.json.encode({"status": 202, **msgspec.to_builtins(accepted)})

    def _voted(  # one call's parts, each named
        self,
        caller: Caller,
        completion_id: CompletionId,
        client_key: str,
        user: str,
        body: bytes,
        withdraw: str | None = None,
    ) -> Voted:
        identities = self._parts.identities
        received_ns = self._parts.clock()
        now = datetime.fromtimestamp(received_ns / 1e9, UTC)
        receipt = identities.check(completion_id, caller.tenant, user or None, now=now)
        named = identities.pseudonym(caller.tenant, user) if user else None
        return Voted(
            completion_id=completion_id,
            tenant=caller.tenant,
            conversation=receipt.conversation,
            user=receipt.user or named,
            body=body,
            withdraw=withdraw,
            client_key=client_key,
            received_ns=received_ns,
        )


def _accepted(voted: Voted, signals: list[str]) -> Accepted:
    for signal in signals:
        telemetry.FEEDBACK.labels(signal if voted.withdraw is None else "withdrawal").inc()
    return Accepted(
        feedback_id=votes.feedback_id(voted),
        completion_id=voted.completion_id,
        accepted=signals,
    )


def _wrong_items(message: str) -> RequestError:
    return RequestError(message, status=422, param="items", code="invalid_feedback")
