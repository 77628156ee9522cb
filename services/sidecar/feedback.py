"""A feedback call, from its bytes to a vote on disk."""

import asyncio
from datetime import datetime, timedelta

import msgspec

from feedbackloop.capture import votes
from feedbackloop.capture.exchange import moment
from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.capture.receipt import Receipt
from feedbackloop.capture.record import Voted
from feedbackloop.capture.votes import SIGNALS, Vote
from feedbackloop.errors import RequestError
from feedbackloop.events import CompletionId, TenantId
from services import telemetry
from services.sidecar.entrance import READER, Admitted
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
        admitted: Whose tenant must have issued the completion id.
        client_key: The ``Idempotency-Key`` header, or empty.
        user: Who says so, where the body does not say it.
    """

    admitted: Admitted
    client_key: str = ""
    user: str = ""

    @property
    def has_key(self) -> bool:
        """Whether the caller is known by more than the completion id."""
        return self.admitted.caller is not READER


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
        voted, receipt = self._voted(asking, vote.completion_id, vote.user, now_ns)
        _check_choice(vote, receipt)
        given_at = votes.given_at(
            vote.at,
            served_at=moment(receipt.minute * _MINUTE_NS),
            received_at=moment(now_ns),
            skew=timedelta(seconds=self._parts.identities.skew_seconds),
        )
        given_ns = None if vote.at is None else _nanoseconds(given_at)
        voted = msgspec.structs.replace(voted, body=body, given_ns=given_ns)
        return await self._keep(voted, vote.signals())

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
        voted, _ = self._voted(asking, completion_id, None, now_ns)
        return await self._keep(msgspec.structs.replace(voted, withdraw=signal), [signal])

    async def give_all(self, asking: Asking, body: bytes) -> list[bytes]:
        """Accept each item of a batch by itself; return each one's result as JSON, in order.

        An ``Idempotency-Key`` of the call counts for each item by its place.

        Raises:
            RequestError: 400 or 422 if the batch as a whole is wrong.
        """
        items = batch(body)
        self._parts.entrance.charge_items(asking.admitted, "feedback", len(items) - 1)
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

    def _voted(
        self, asking: Asking, name: str, user: str | None, now_ns: int
    ) -> tuple[Voted, Receipt]:
        """Check whether somebody may say something about a completion, and how often they did."""
        completion_id, named = CompletionId(name), user or asking.user or None
        tenant, receipt = self._check(asking, completion_id, named, moment(now_ns))
        identities = self._parts.identities
        person = receipt.user or (identities.pseudonym(tenant, named) if named else None)
        self._parts.entrance.charge_feedback(asking.admitted, tenant, person, completion_id)
        voted = Voted(
            completion_id=completion_id,
            tenant=tenant,
            conversation=receipt.conversation,
            user=person,
            body=b"",
            client_key=asking.client_key,
            received_ns=now_ns,
        )
        return voted, receipt

    def _check(
        self, asking: Asking, completion_id: CompletionId, user: str | None, now: datetime
    ) -> tuple[TenantId, Receipt]:
        identities = self._parts.identities
        if not asking.has_key:
            return identities.check_anyones(completion_id, user, now=now)
        tenant = asking.admitted.caller.tenant
        return tenant, identities.check(completion_id, tenant, user, now=now)

    async def _keep(self, voted: Voted, signals: list[str]) -> Accepted:
        """Say that a vote was accepted, once it is on disk."""
        result = "not_stored"
        try:
            await self._parts.recorder.voted(voted)
            result = "accepted" if voted.withdraw is None else "withdrawn"
        finally:
            for signal in signals:
                telemetry.FEEDBACK.labels(signal, result).inc()
        return Accepted(
            feedback_id=votes.feedback_id(voted),
            completion_id=voted.completion_id,
            accepted=signals,
        )


_NOTHING = msgspec.Raw(b"null")


class _Any(msgspec.Struct):
    items: msgspec.Raw = _NOTHING


_any = msgspec.json.Decoder(_Any)


def is_batch(body: bytes) -> bool:
    """Say whether a body holds a list of items, right or wrong."""
    try:
        return _any.decode(body).items is not _NOTHING
    except UNREADABLE:
        return False


def batch(body: bytes) -> list[msgspec.Raw]:
    """Read the items of a batch, each as its own bytes.

    Raises:
        RequestError: 400 or 422 if the batch as a whole is wrong.
    """
    try:
        items = _batch.decode(body).items
    except msgspec.ValidationError as error:
        raise _wrong_items(str(error)) from error
    except UNREADABLE as error:
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


def _wrong_items(message: str) -> RequestError:
    return RequestError(message, status=422, param="items", code="invalid_feedback")


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000
