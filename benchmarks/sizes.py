"""How many bytes an event takes: as it is written, on a broker, and in a file of the archive.

    python -m benchmarks.sizes [--characters 760] [--turns 1]

Completions whose prompts and answers together have so many characters of English prose, namely the
docstrings of Python's standard library, each once: real text, on every machine, and compressed as
such. They are encoded as for the log, put into full batches as the Kafka client makes them, and
archived into one file. With more turns, an event carries the turns of its talk before it, too.
"""

import argparse
import ast
import sys
import sysconfig
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from kafka.record import MemoryRecordsBuilder

from benchmarks.forward.events import many
from feedbackloop.events import AnyEvent, CompletionServed, Reply
from feedbackloop.log import codec
from feedbackloop.log.archive import Level, Place
from feedbackloop.log.key import key
from feedbackloop.log.ledger import Lineage
from feedbackloop.log.parquet import ParquetDraft
from feedbackloop.log.port import Entry, Offset
from feedbackloop.log.window import Window

_BATCH_BYTES = 128 * 2**10
_ZSTD = 4
_EVENTS = 4_000
_ASKED_SHARE = 0.4


def prose() -> str:
    """Return the docstrings of the standard library that are longer than a line or two."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted([*folder.glob("*.py"), *folder.glob("[a-z]*/*.py")])
    own = [file for file in files if file.parts[-2] not in {"site-packages", "test"}]
    return "\n".join(text for file in own for text in _docstrings(file) if len(text) > 200)


def _docstrings(file: Path) -> Iterator[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, documented) and (text := ast.get_docstring(node)) is not None:
            yield text


def completions(text: str, characters: int, turns: int) -> list[AnyEvent]:
    """Cut a text into talks of so many turns, an event each."""
    asked = round(characters * _ASKED_SHARE)
    count = min(_EVENTS, len(text) // characters)
    found: list[AnyEvent] = []
    talk: list[dict[str, str]] = []
    for number, event in enumerate(many(count)):
        assert isinstance(event, CompletionServed)  # noqa: S101  # as all of these are
        part = text[number * characters : (number + 1) * characters]
        talk = [] if number % turns == 0 else talk
        talk.append({"role": "user", "content": part[:asked]})
        reply = Reply(text=part[asked:], finish_reason="stop")
        found.append(msgspec.structs.replace(event, messages=tuple(talk), replies=(reply,)))
        talk.append({"role": "assistant", "content": part[asked:]})
    return found


def on_broker(events: list[AnyEvent]) -> int:
    """Return the bytes of full batches."""
    total = 0
    builder = _builder()
    for event in events:
        raw = codec.encode(event)
        if builder.append(None, key(event), raw) is None:
            total += _closed(builder)
            builder = _builder()
            builder.append(None, key(event), raw)
    return total + _closed(builder)


def _builder() -> MemoryRecordsBuilder:
    return MemoryRecordsBuilder(magic=2, compression_type=_ZSTD, batch_size=_BATCH_BYTES)


def _closed(builder: MemoryRecordsBuilder) -> int:
    builder.close()
    size: int = builder.size_in_bytes()
    return size


def in_file(events: list[AnyEvent]) -> int:
    """Return the bytes of one file of the archive."""
    place = Place(level=Level.FRESH, lineage=Lineage(log="sizes", partition="p"), start=0)
    draft = ParquetDraft(place, topic="sizes", window=Window(0))
    draft.add(
        [
            Entry(offset=Offset("p", number), event=event, raw=codec.encode(event))
            for number, event in enumerate(events)
        ]
    )
    return len(draft.finish(written_at=datetime.now(UTC)))


def main() -> int:
    """Print the sizes as options of ``benchmarks.capacity``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sizes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--characters", type=int, default=760, help="of a prompt and its answer")
    parser.add_argument("--turns", type=int, default=1, help="of a talk")
    given = parser.parse_args()
    events = completions(prose(), given.characters, given.turns)
    written = sum(len(codec.encode(one)) for one in events)
    print(f"{len(events)} events")
    print(f"--event-bytes {written / len(events):.0f}")
    print(f"--kafka-share {on_broker(events) / written:.2f}")
    print(f"--parquet-bytes {in_file(events) / len(events):.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
