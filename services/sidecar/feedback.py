"""A feedback call, from its bytes to a vote on disk."""

import asyncio
from datetime import datetime, timedelta

import msgspec

from feedbackloop.capture import votes
from feedbackloop.capture.exchange import moment
from feedbackloop.capture.receipt import Receipt
from feedbackloop.capture.record import Voted
from feedbackloop.capture.votes import SIGNALS, Vote
from feedbackloop.errors import RequestError
from feedbackloop.events import CompletionId
from services import telemetry
from services.apikeys import Caller
from services.sidecar.parts import Parts

MAX_ITEMS = 1_000
_MINUTE_NS = 60 * 10**9


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


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """Who gives feedback.

    Attributes:
        caller: Whose tenant must have issued the completion id.
        client_key: The ``Idempotency-Key`` header, or empty.
        user: Who says so, where the body does not say it.
    """

    caller: Caller
    client_key: str = ""
    user: str = ""


class Feedback:
    """Check votes, and keep them before they are answered."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def give(self, asking: Asking, body: bytes) -> Accepted:
        """Accept a vote once it is on disk.

        Raises:
            RequestError: 400, 403, 404, 410, 422 or 503; see ``votes.parse`` and ``receipt.check``.
        """
        vote = votes.parse(body)
        now_ns = self._parts.clock()
        receipt = self._receipt(asking, CompletionId(vote.completion_id), vote.user, now_ns)
        _check_choice(vote, receipt)
        given_at = votes.given_at(
            vote.at,
            served_at=moment(receipt.minute * _MINUTE_NS),
            received_at=moment(now_ns),
            skew=timedelta(seconds=self._parts.identities.skew_seconds),
        )
        voted = msgspec.structs.replace(
            self._voted(asking, CompletionId(vote.completion_id), receipt, vote.user, now_ns),
            body=body,
            given_ns=None if vote.at is None else _nanoseconds(given_at),
        )
        await self._parts.recorder.voted(voted)
        return _accepted(voted, vote.signals())

    async def withdraw(self, asking: Asking, completion_id: str, signal: str) -> Accepted:
        """Take what was said back, once that is on disk.

        Raises:
            RequestError: As ``give``.
        """
        if signal not in SIGNALS:
            raise RequestError(
                f"signal: expected one of {', '.join(SIGNALS)}",
                status=422,
                param="signal",
                code="invalid_feedback",
            )
        now_ns = self._parts.clock()
        receipt = self._receipt(asking, CompletionId(completion_id), None, now_ns)
        voted = msgspec.structs.replace(
            self._voted(asking, CompletionId(completion_id), receipt, None, now_ns),
            withdraw=signal,
        )
        await self._parts.recorder.voted(voted)
        return _accepted(voted, [signal])

    async def give_all(self, asking: Asking, body: bytes) -> list[bytes]:
        """Accept each item of a batch by itself; return each one's result as JSON, in order.

        An ``Idempotency-Key`` of the call counts for each item by its place.

        Raises:
            RequestError: 400 or 422 if the batch as a whole is wrong.
        """
        items = batch(body)
        keys = [asking.client_key and f"{asking.client_key}/{place}" for place in range(len(items))]
        return await asyncio.gather(
            *(
                self._item(msgspec.structs.replace(asking, client_key=key), bytes(item))
                for key, item in zip(keys, items, strict=True)
            )
        )

    async def _item(self, asking: Asking, body: bytes) -> bytes:
        try:
            accepted = await self.give(asking, body)
        except RequestError as error:
            telemetry.FEEDBACK_REFUSED.labels(str(error.status)).inc()
            return refused_item(error)
        return msgspec.json.encode({"status": 202, **msgspec.to_builtins(accepted)})

    def _receipt(
        self, asking: Asking, completion_id: CompletionId, user: str | None, now_ns: int
    ) -> Receipt:
        named = user or asking.user or None
        return self._parts.identities.check(
            completion_id, asking.caller.tenant, named, now=moment(now_ns)
        )

    def _voted(
        self,
        asking: Asking,
        completion_id: CompletionId,
        receipt: Receipt,
        user: str | None,
        now_ns: int,
    ) -> Voted:
        tenant, named = asking.caller.tenant, user or asking.user
        pseudonym = self._parts.identities.pseudonym(tenant, named) if named else None
        return Voted(
            completion_id=completion_id,
            tenant=tenant,
            conversation=receipt.conversation,
            user=receipt.user or pseudonym,
            body=b"",
            client_key=asking.client_key,
            received_ns=now_ns,
        )


def batch(body: bytes) -> list[msgspec.Raw]:
    """Read the items of a batch, each as its own bytes.

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
    return items


def refused_item(error: RequestError) -> bytes:
    """Write why one item of a batch was refused."""
    fault = {"message": error.message, "param": error.param, "code": error.code}
    return msgspec.json.encode({"status": error.status, "error": fault})


def _check_choice(vote: Vote, receipt: Receipt) -> None:
    """Refuse the pick of a choice that the completion does not have.

    Raises:
        RequestError: 422 if it is known to have none of that number.
    """
    if vote.choice is not None and 0 < receipt.choices <= vote.choice:
        raise RequestError(
            f"choice: expected 0 to {receipt.choices - 1}, the completion's choices",
            status=422,
            param="choice",
            code="invalid_feedback",
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


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000
