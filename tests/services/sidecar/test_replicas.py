from datetime import timedelta
from pathlib import Path

from feedbackloop.capture.attribution import Attribution
from feedbackloop.dataset.snapshot import Options, Snapshot, build
from feedbackloop.events import AnyEvent, ChainHash, CompletionServed, JsonObject, PromptRetried
from feedbackloop.labels.gather import Gathering
from feedbackloop.log.port import Offset
from feedbackloop.log.segments import EVENTS, SegmentEventLog, Topic
from services.sidecar.translator import Translator
from tests.capture.records import KEYS, NOON_NS, SECOND_NS, TENANT, a_closing, an_opening
from tests.capture.talks import ANN, talk
from tests.services.sidecar.forwarding import NOON, Frames, Shelf

PIZZA = "How do I make a pizza at home?"


class Replica:
    """A sidecar as far as the log sees it: it remembers what it served itself, and nothing else."""

    def __init__(self, folder: Path, name: str, *, release_seq: int) -> None:
        self._frames = Frames(name)
        self._translator = Translator({TENANT: KEYS}, Attribution(), Shelf())
        self._log = SegmentEventLog(
            Topic(folder, EVENTS, partition=name, producer=name, segment_bytes=2**16, now_ns=int)
        )
        self._release_seq = release_seq
        self.events: list[AnyEvent] = []

    async def serve(self, name: str, messages: list[JsonObject], answer: str, *, at: int) -> None:
        """Answer a prompt, and forward what follows from it to this replica's own partition."""
        accepted = NOON_NS + at * SECOND_NS
        message = {"role": "assistant", "content": answer}
        body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        opened = an_opening(
            name,
            body={"model": "assistant", "messages": messages},
            user=ANN,
            accepted_ns=accepted,
            release_seq=self._release_seq,
        )
        closed = a_closing(name, body=body, ended_ns=accepted + SECOND_NS)
        self.events += self._translator.events([self._frames(opened), self._frames(closed)])
        await self._log.append(self.events[-2:] if len(self.events) > 1 else self.events)


async def labelled(folder: Path) -> tuple[Gathering, Snapshot]:
    """Read every partition as the trainer does, and label what is there."""
    log = SegmentEventLog(
        Topic(folder, EVENTS, partition=None, producer="reader", segment_bytes=2**16, now_ns=int)
    )
    gathering = Gathering()
    for partition in await log.partitions():
        async for entry in log.read(after=Offset(partition, -1)):
            assert not isinstance(entry.event, Exception)
            gathering.add(entry.event)
    options = Options(
        alias=next(one.completion.alias for one in gathering.completions() if one.completion),
        until=NOON + timedelta(days=1),
        window_seconds=2 * 86_400,
        watermark_seconds=600,
        min_confidence=0.6,
        max_rows_per_user=20,
        max_ratio=2.0,
        holdout_share=0.0,
    )
    return gathering, build(gathering, options, holdouts={TENANT: b"0123456789abcdef"})


async def test_a_retry_that_another_replica_served_is_found_by_labelling(tmp_path: Path) -> None:
    """The load balancer sends the second try wherever it likes, also across a swap."""
    left = Replica(tmp_path, "left", release_seq=1)
    right = Replica(tmp_path, "right", release_seq=2)
    answer = "Knead the dough and let it rest."
    await left.serve("c1", talk(PIZZA), "Buy one.", at=0)
    await right.serve("c2", talk(PIZZA), answer, at=20)
    await left.serve("c3", talk(PIZZA, answer, "Thanks! And a calzone?"), "Fold it.", at=60)

    _, made = await labelled(tmp_path)

    alone = [event for event in (*left.events, *right.events) if isinstance(event, PromptRetried)]
    assert alone == []
    (pair,) = made.dpo
    assert pair.rejected[-1]["content"] == "Buy one."
    assert pair.chosen[-1]["content"] == answer


async def test_a_retry_that_one_replica_saw_is_not_found_twice(tmp_path: Path) -> None:
    """Sidecar and labelling name a fact by what it is about, and so agree on it."""
    only = Replica(tmp_path, "only", release_seq=1)
    await only.serve("c1", talk(PIZZA), "Buy one.", at=0)
    await only.serve("c2", talk(PIZZA), "Knead the dough.", at=20)

    gathering, _ = await labelled(tmp_path)

    seen = [event for event in only.events if isinstance(event, PromptRetried)]
    known = [
        signal
        for one in gathering.completions()
        for signal in one.signals
        if isinstance(signal, PromptRetried)
    ]
    assert len(seen) == 1
    assert known == seen


async def test_what_a_replica_reacts_to_is_named_by_the_chain(tmp_path: Path) -> None:
    """No id travels with the talk: its own words name the answer, on whichever replica."""
    left = Replica(tmp_path, "left", release_seq=1)
    right = Replica(tmp_path, "right", release_seq=2)
    await left.serve("c1", talk(PIZZA), "Buy one.", at=0)
    await right.serve("c2", talk(PIZZA, "Buy one.", "That's wrong."), "Knead the dough.", at=20)

    first, second = (
        event for event in (*left.events, *right.events) if isinstance(event, CompletionServed)
    )

    assert second.chain[1:2] == first.reply_chains
    assert ChainHash("") not in second.chain
    _, made = await labelled(tmp_path)
    assert made.manifest.labelled == {"desirable": 0, "undesirable": 1}
