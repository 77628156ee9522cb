"""What it costs to say what a prompt implies about the answers before it.

    python -m benchmarks.retries [--conversations 60] [--words 60]

CPU microseconds a completion: for first turns, and for later turns of conversations that go on,
in the words of this project's own pages. Hashing and sketching are included, parsing is not.
"""

import argparse
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import msgspec

from benchmarks.forward.events import KEYS, many
from feedbackloop.capture.attribution import Attribution
from feedbackloop.capture.chain import chain, extend
from feedbackloop.events import CompletionServed, ConversationId, JsonObject, Reply, UserId

_DOCS = Path(__file__).parent.parent / "docs"
_TURNS = 8
_START = datetime(2026, 3, 4, tzinfo=UTC)
_PAUSE = timedelta(seconds=20)


def conversations(count: int, *, turns: int, words: int) -> list[CompletionServed]:
    """Make so many conversations of people who read for twenty seconds and go on."""
    random = Random(1)
    text = " ".join(page.read_text("utf-8") for page in sorted(_DOCS.glob("*.md"))).split()
    (template,) = [one for one in many(1) if isinstance(one, CompletionServed)]

    def said() -> str:
        start = random.randrange(len(text) - words)
        return " ".join(text[start : start + words])

    made: list[CompletionServed] = []
    for number in range(count):
        messages: list[JsonObject] = []
        for turn in range(turns):
            messages.append({"role": "user", "content": said()})
            answer = said()
            at = _START + number * timedelta(hours=1) + turn * _PAUSE
            made.append(_served(template, messages, answer, (number, turn), at))
            messages.append({"role": "assistant", "content": answer})
    return made


def add_us(completions: list[CompletionServed]) -> float:
    """Return the CPU microseconds a completion, best of five."""
    taken = []
    for _ in range(5):
        attribution = Attribution()
        began = time.process_time()
        for completion in completions:
            attribution.add(completion)
        taken.append(time.process_time() - began)
    return min(taken) / len(completions) * 1e6


def _served(
    template: CompletionServed,
    messages: list[JsonObject],
    answer: str,
    place: tuple[int, int],
    at: datetime,
) -> CompletionServed:
    hashes = chain(messages, key=KEYS.chain)
    reply: JsonObject = {"role": "assistant", "content": answer}
    number, turn = place
    return msgspec.structs.replace(
        template,
        completion_id=f"chatcmpl-{number}-{turn}",
        conversation=ConversationId(f"{number:016x}"),
        user=UserId(f"{number:032x}"),
        messages=tuple(messages),
        chain=hashes,
        reply_chains=(extend(hashes[-1], reply, key=KEYS.chain),),
        replies=(Reply(text=answer, finish_reason="stop"),),
        accepted_at=at,
        ended_at=at + timedelta(seconds=1),
    )


def main() -> None:
    """Print the cost of first and later turns."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retries",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--conversations", type=int, default=60)
    parser.add_argument("--words", type=int, default=60)
    given = parser.parse_args()
    count, words = given.conversations, given.words
    first = add_us(conversations(count * _TURNS, turns=1, words=words))
    both = add_us(conversations(count, turns=_TURNS, words=words))
    later = (both * _TURNS - first) / (_TURNS - 1)
    print(f"turns of {words} words, CPU us each: {first:.0f} for a first, {later:.0f} for a later")


if __name__ == "__main__":
    main()
