"""From the spool to the log's own files: nothing of what names a person gets there."""

import json
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY

from feedbackloop.capture.attribution import Attribution, implied
from feedbackloop.capture.recognisers import Found
from feedbackloop.capture.record import AnyRecord, Recorded
from feedbackloop.capture.redactor import Redactor, built_in
from feedbackloop.events import (
    CaptureGap,
    CommentGiven,
    CompletionServed,
    CorrectionGiven,
    PromptRetried,
)
from feedbackloop.log.memory import MemoryEventLog, MemorySpool
from feedbackloop.log.segments import EVENTS, SegmentEventLog, Topic
from services.sidecar.forwarder import Forwarder
from services.sidecar.letters import DeadLetters
from services.sidecar.redacting import Redacting
from services.sidecar.translator import Translator
from tests.capture.records import (
    KEYS,
    NOON_NS,
    SECOND_NS,
    TENANT,
    a_closing,
    a_delta,
    a_stream,
    a_vote,
    an_opening,
)
from tests.services.sidecar.forwarding import PATIENT_SECONDS, events_of, offered

MAIL, CARD, SSN = "jane.roe@example.org", "4111 1111 1111 1111", "219-09-9999"
KEY, PHONE = "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "+49 30 901820"
PLANTED = [MAIL, CARD, SSN, KEY, PHONE]
SAID = f"I am {MAIL}, card {CARD}, SSN {SSN}, key {KEY}, tel. {PHONE}."


def forward(
    spool: MemorySpool, event_log: Any, letters: DeadLetters, redacting: Redacting | None = None
) -> None:
    translator = Translator({TENANT: KEYS}, Attribution(), letters, redacting=redacting)
    forwarder = Forwarder(spool, event_log, translator, random=Random(1))
    forwarder.start()
    assert forwarder.stop(drain_seconds=PATIENT_SECONDS)


def chat(*contents: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    turns = [{"role": roles[n % 2], "content": one} for n, one in enumerate(contents)]
    return {"model": "assistant", "messages": turns}


def in_words(text: str) -> bytes:
    """Stream a reply a few characters a chunk, so that no chunk holds a whole value."""
    parts = [text[at : at + 5] for at in range(0, len(text), 5)]
    return a_stream(*(a_delta(part) for part in parts), a_delta("", finish_reason="stop"))


def everything_said() -> list[AnyRecord]:
    """Say the same in every way in which people and apps can say something."""
    logprobs = {"content": [{"token": MAIL, "logprob": -0.1, "top_logprobs": []}]}
    choice = {"index": 0, "message": {"content": SAID}, "logprobs": logprobs}
    call = {
        "id": "c",
        "type": "function",
        "function": {"name": "f", "arguments": f'{{"a":"{SAID}"'},
    }
    answer = {"output": [{"type": "message", "content": [{"type": "output_text", "text": SAID}]}]}
    elsewhere = an_opening("c6", body=chat(SAID), source="tickets", source_id=f"row {MAIL}")
    return [
        an_opening("c1", body=chat(SAID), headers={"idempotency-key": f"from {MAIL}"}),
        a_closing("c1", body={"choices": [choice]}),
        an_opening("c2", body=chat("Hi") | {"stream": True, "metadata": {"who": SAID}}),
        a_closing("c2", body=in_words(SAID), streamed=True),
        an_opening("c3", endpoint="responses", body={"input": SAID, "instructions": SAID}),
        a_closing("c3", body=answer),
        an_opening("c4", endpoint="completions", body={"prompt": SAID, "suffix": SAID}),
        a_closing("c4", body={"choices": [{"text": SAID, "finish_reason": "length"}]}),
        an_opening("c5", body=chat(SAID)),  # nobody closes it: it is closed at the end
        Recorded(opened=elsewhere, closed=a_closing("c6", body={"choices": [choice]})),
        an_opening("c7", body=chat(SAID)),
        a_closing("c7", body={"choices": [{"message": {"tool_calls": [call]}}]}),
        a_vote("c1", body={"comment": SAID, "reasons": [MAIL]}, client_key=f"by {MAIL}"),
        a_vote("c1", body={"correction": SAID, "outcome": f"sent to {MAIL}"}),
        a_vote("c9", body={"comment": SAID}),  # its completion was never seen
    ]


def all_bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


async def test_nothing_of_a_planted_value_reaches_the_logs_files(tmp_path: Path) -> None:
    """The log is copied, archived and trained on; what is in it stays for years."""
    topic = Topic(
        tmp_path,
        EVENTS,
        partition="one",
        producer="p",
        segment_bytes=2**20,
        now_ns=time.time_ns,
    )
    event_log = SegmentEventLog(topic)
    said = everything_said()

    forward(offered(*said), event_log, DeadLetters(tmp_path.parent / "letters"))
    await event_log.close()

    written = all_bytes(tmp_path)
    assert written.count(b"CompletionServed") == 7
    assert b"[EMAIL_1]" in written
    assert [value for value in PLANTED if value.encode() in written] == []
    for spelt in (CARD.replace(" ", ""), MAIL.split("@", maxsplit=1)[0], SSN.replace("-", "")):
        assert spelt.encode() not in written


async def test_a_correction_speaks_of_the_same_people_as_its_prompt(tmp_path: Path) -> None:
    """They become one pair of a data set."""
    event_log = MemoryEventLog()
    vote = a_vote("c1", body={"correction": f"Write to {MAIL}"})
    prompt = chat(f"Is it bob@example.org or {MAIL}?")

    forward(
        offered(an_opening("c1", body=prompt), a_closing("c1"), vote),
        event_log,
        DeadLetters(tmp_path / "letters"),
    )

    *_, correction = [e for e in await events_of(event_log) if isinstance(e, CorrectionGiven)]
    assert correction.correction == "Write to [EMAIL_2]"


def asked_twice(first: str, second: str) -> list[AnyRecord]:
    later = {"accepted_ns": NOON_NS + 20 * SECOND_NS}
    end = {"ended_ns": NOON_NS + 22 * SECOND_NS}
    return [
        an_opening("c1", body=chat(first)),
        a_closing("c1"),
        an_opening("c2", body=chat(second), **later),
        a_closing("c2", **end),
    ]


async def retries(tmp_path: Path, *records: AnyRecord) -> list[PromptRetried]:
    """Forward; the sidecar and labelling have to find the same."""
    event_log = MemoryEventLog()
    forward(offered(*records), event_log, DeadLetters(tmp_path / "letters"))
    events = await events_of(event_log)
    found = [event for event in events if isinstance(event, PromptRetried)]
    recomputed = implied(event for event in events if isinstance(event, CompletionServed))
    assert [event.event_id for event in found] == [event.event_id for event in recomputed]
    return found


async def test_the_same_prompt_again_is_a_retry_with_an_address_in_it(tmp_path: Path) -> None:
    """The hashes are of what was said, and labelling finds the same in what is left of it."""
    asked = f"Where is the parcel for {MAIL}?"

    (found,) = await retries(tmp_path, *asked_twice(asked, asked))

    assert found.kind == "regenerate"


async def test_the_same_words_about_another_person_are_no_retry(tmp_path: Path) -> None:
    """Both prompts read alike once the addresses are gone; the answer was not the trouble."""
    asked = "Where is the parcel for {}, please?"

    found = await retries(
        tmp_path, *asked_twice(asked.format(MAIL), asked.format("bob@example.org"))
    )

    assert found == []


async def test_a_turn_in_other_words_is_still_a_rephrasing(tmp_path: Path) -> None:
    """What stands for an address counts as the same word in both turns."""
    first = f"Please write a short letter to {MAIL} about the delivery"
    again = f"Write a short letter to {MAIL} about the late delivery, please"

    talk: list[AnyRecord] = [
        an_opening("c1", body=chat(first)),
        a_closing("c1"),
        an_opening("c2", body=chat(first, "4", again), accepted_ns=NOON_NS + 20 * SECOND_NS),
        a_closing("c2", ended_ns=NOON_NS + 22 * SECOND_NS),
    ]

    (found,) = await retries(tmp_path, *talk)
    assert found.kind == "rephrase"


class Gossips:
    """A recogniser that fails and tells the world what it was reading."""

    kinds = frozenset({"PERSON"})

    def find(self, text: str) -> Iterator[Found]:
        raise KeyError(text)


async def test_a_failing_recogniser_withholds_and_does_not_tell(tmp_path: Path) -> None:
    """An event without its words still counts for the canary and for completeness."""
    event_log = MemoryEventLog()
    redacting = Redacting(Redactor((*built_in(), Gossips())))

    with structlog.testing.capture_logs() as lines:
        forward(
            offered(an_opening(body=chat(SAID)), a_closing(), a_vote(body={"comment": SAID})),
            event_log,
            DeadLetters(tmp_path / "letters"),
            redacting,
        )

    completion, _, comment = await events_of(event_log)
    assert completion.messages[0]["content"] == "[WITHHELD_1]"
    assert isinstance(comment, CommentGiven)
    assert comment.comment == "[WITHHELD_1]"
    assert {line["event"] for line in lines} == {"text_withheld"}
    assert not any(value in json.dumps(lines) for value in PLANTED)


async def test_a_record_that_cannot_be_read_is_set_aside_in_the_pod_alone(tmp_path: Path) -> None:
    """Its bytes are raw: they go to the owner's file, and to no line of any log."""
    event_log, file = MemoryEventLog(), tmp_path / "letters"
    deep = '{"messages": [], "x": ' + "[" * 600 + f'"{MAIL}"' + "]" * 600 + "}"
    records: list[AnyRecord | bytes] = [
        an_opening("c1", body=b"\xff" + SAID.encode()),
        a_closing("c1"),
        an_opening("c2", body=deep.encode()),
        a_closing("c2"),
        b"no record " + SAID.encode(),
    ]

    with structlog.testing.capture_logs() as lines:
        forward(offered(*records), event_log, DeadLetters(file))

    events = await events_of(event_log)
    assert {type(event) for event in events} == {CaptureGap}
    assert len(events) == 5
    kept = [json.loads(line)["payload"] for line in file.read_bytes().splitlines()]
    assert MAIL.encode() in b"".join(map(b64decode, kept))
    assert not any(value in json.dumps(lines) for value in PLANTED)


class Stumbles(Attribution):
    """Breaks, with what it was reading in its message."""

    def add(self, completion: CompletionServed) -> None:
        raise LookupError(f"{completion.completion_id}: {SAID}")


def test_an_unforeseen_error_says_where_and_not_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A traceback's last line is its message, and a message may be anything."""
    translator = Translator({TENANT: KEYS}, Stumbles(), DeadLetters(tmp_path / "letters"))
    spool, event_log = offered(an_opening(), a_closing()), MemoryEventLog()
    forwarder = Forwarder(spool, event_log, translator, random=Random(1))

    with structlog.testing.capture_logs() as lines:
        forwarder.start()
        assert forwarder.stop(drain_seconds=PATIENT_SECONDS)

    (line,) = [line for line in lines if line["event"] == "record_not_translated"]
    assert line["error"] == "LookupError"
    assert any("translator.py" in place for place in line["places"])
    assert not any(value in json.dumps(lines) for value in PLANTED)
    assert MAIL not in capsys.readouterr().err


def test_what_is_removed_is_counted() -> None:
    """An operator sees that it works, by kind and never by value."""

    def counted() -> float:
        return REGISTRY.get_sample_value("feedbackloop_redacted_total", {"kind": "EMAIL"}) or 0.0

    before = counted()
    translator = Translator({TENANT: KEYS}, Attribution(), lambda *_: None)
    spool = offered(an_opening(body=chat(f"{MAIL} and bob@example.org")), a_closing())
    forwarder = Forwarder(spool, MemoryEventLog(), translator, random=Random(1))
    forwarder.start()

    assert forwarder.stop(drain_seconds=PATIENT_SECONDS)
    assert counted() == before + 2
