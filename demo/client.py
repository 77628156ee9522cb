"""The official ``openai`` client, as any application would use it, with exact bookkeeping.

Its own retries are switched off: what was sent, what arrived and what was tried again is counted
here, by completion id. A reply counts as delivered when its last byte has been read.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
from openai import APIError, APIStatusError, AsyncOpenAI

RELEASE_HEADER = "x-feedbackloop-release"
MAX_TOKENS = 64
_NO_ANSWER = "no_answer"
_TRY_AGAIN = frozenset({_NO_ANSWER, "429", "502", "503", "504"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request for a completion."""

    prompt: str
    user: str
    streamed: bool
    temperature: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A completion that arrived whole.

    Attributes:
        completion_id: What feedback on it names.
        text: What it says.
        release: Which release answered, as its header says; empty if it has none.
    """

    completion_id: str
    text: str
    release: str


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What was sent and what came of it, so that a log can be held against it.

    Attributes:
        requests: Requests for completions, each attempt counted.
        delivered: Ids of completions that arrived whole.
        failed: Attempts that ended otherwise, by what happened.
        votes: Votes sent, each once however often it had to be tried: (id, signal).
        accepted: Those that were answered 202.
        refused: Votes that were answered with another final status, by status.
        retries: (rejected id, id of the answer to the same question asked again).
        meaningless: Those retries whose person had been happy: noise, known here alone.
    """

    requests: int = 0
    delivered: list[str] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    votes: list[tuple[str, str]] = field(default_factory=list)
    accepted: list[tuple[str, str]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    retries: list[tuple[str, str]] = field(default_factory=list)
    meaningless: int = 0

    def count_failure(self, kind: str) -> None:
        """Count one attempt that did not deliver."""
        self.failed[kind] = self.failed.get(kind, 0) + 1

    def summary(self) -> dict[str, object]:
        """Return the counts, without the ids."""
        return {
            "requests": self.requests,
            "delivered": len(self.delivered),
            "failed": dict(self.failed),
            "votes": {
                "sent": len(self.votes),
                "accepted": len(self.accepted),
                "refused": dict(self.refused),
            },
            "retries": {"sent": len(self.retries), "meaningless": self.meaningless},
        }

    def ids(self) -> dict[str, object]:
        """Return everything by id, for a comparison with a log."""
        return {
            "completions": self.delivered,
            "votes_sent": self.votes,
            "votes": self.accepted,
            "retries": self.retries,
        }


class People:
    """Everybody's one connection pool: people share an application, and the application this."""

    def __init__(
        self, client: AsyncOpenAI, *, model: str, in_flight: int, pause_seconds: float
    ) -> None:
        """Speak through ``client``.

        Args:
            client: With its own retries off.
            model: The alias to ask.
            in_flight: Most requests for completions at a time.
            pause_seconds: Between two attempts.
        """
        self._client = client
        self._model = model
        self._gate = asyncio.Semaphore(in_flight)
        self._pause_seconds = pause_seconds
        self.patience_seconds = 60.0
        """For how long an attempt that failed is made again."""
        self.ledger = Ledger()

    async def ask(self, ask: Ask) -> Reply | None:
        """Ask until a reply arrives whole; None if patience ended first."""
        # One key for all attempts: who repeats a request that broke has not been answered yet.
        key = uuid.uuid4().hex
        deadline = asyncio.get_running_loop().time() + self.patience_seconds
        while True:
            async with self._gate:
                reply = await self._attempt(ask, key)
            if reply is not None:
                self.ledger.delivered.append(reply.completion_id)
                return reply
            if asyncio.get_running_loop().time() > deadline:
                return None
            await asyncio.sleep(self._pause_seconds)

    async def vote(self, completion_id: str, *, signal: str, value: str) -> bool:
        """Post one signal until it is accepted or refused for good; say whether it was accepted."""
        key = uuid.uuid4().hex
        self.ledger.votes.append((completion_id, signal))
        deadline = asyncio.get_running_loop().time() + self.patience_seconds
        while True:
            status = await self._vote_once(completion_id, {signal: value}, key)
            if status == "202":
                self.ledger.accepted.append((completion_id, signal))
                return True
            if status not in _TRY_AGAIN or asyncio.get_running_loop().time() > deadline:
                self.ledger.refused[status] = self.ledger.refused.get(status, 0) + 1
                return False
            await asyncio.sleep(self._pause_seconds)

    async def _vote_once(self, completion_id: str, signal: dict[str, str], key: str) -> str:
        """Post a signal; return the status, or ``no_answer``."""
        try:
            await self._client.post(
                "/feedback",
                cast_to=httpx2.Response,
                body={"completion_id": completion_id, **signal},
                options={"headers": {"Idempotency-Key": key}},
            )
        except APIStatusError as error:
            return str(error.status_code)
        except (APIError, httpx2.HTTPError):
            return _NO_ANSWER
        return "202"

    async def _attempt(self, ask: Ask, key: str) -> Reply | None:
        self.ledger.requests += 1
        try:
            return await (self._stream(ask, key) if ask.streamed else self._whole(ask, key))
        except APIStatusError as error:
            self.ledger.count_failure(str(error.status_code))
        except (APIError, httpx2.HTTPError) as error:
            self.ledger.count_failure(type(error).__name__)
        return None

    async def _whole(self, ask: Ask, key: str) -> Reply:
        raw = await self._client.chat.completions.with_raw_response.create(
            model=self._model,
            messages=[{"role": "user", "content": ask.prompt}],
            user=ask.user,
            temperature=ask.temperature,
            max_tokens=MAX_TOKENS,
            extra_headers={"Idempotency-Key": key},
        )
        completion = raw.parse()
        return Reply(
            completion_id=completion.id,
            text=completion.choices[0].message.content or "",
            release=raw.headers.get(RELEASE_HEADER, ""),
        )

    async def _stream(self, ask: Ask, key: str) -> Reply | None:
        raw = await self._client.chat.completions.with_raw_response.create(
            model=self._model,
            messages=[{"role": "user", "content": ask.prompt}],
            user=ask.user,
            temperature=ask.temperature,
            max_tokens=MAX_TOKENS,
            extra_headers={"Idempotency-Key": key},
            stream=True,
        )
        completion_id, finished, text = "", False, []
        async for chunk in raw.parse():
            completion_id = chunk.id
            for choice in chunk.choices:
                text.append(choice.delta.content or "")
                finished = finished or choice.finish_reason is not None
        if not finished:
            self.ledger.count_failure("unfinished")
            return None
        return Reply(
            completion_id=completion_id,
            text="".join(text),
            release=raw.headers.get(RELEASE_HEADER, ""),
        )


@asynccontextmanager
async def people(
    base_url: str, *, model: str, in_flight: int, pause_seconds: float = 0.5
) -> AsyncIterator[People]:
    """Open the one client that everybody shares; see ``People`` for the arguments."""
    limits = httpx2.Limits(max_connections=2 * in_flight + 16, max_keepalive_connections=None)
    timeout = httpx2.Timeout(60.0, connect=30.0, pool=None)
    # trust_env off: a proxy of the environment has no business between us and the loopback.
    async with (
        httpx2.AsyncClient(limits=limits, timeout=timeout, trust_env=False) as http,
        AsyncOpenAI(base_url=base_url, api_key="demo", max_retries=0, http_client=http) as client,
    ):
        yield People(client, model=model, in_flight=in_flight, pause_seconds=pause_seconds)
