"""The archive from the command line: what an operator and an analyst see."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from feedbackloop.events import AnyEvent
from feedbackloop.log.port import Offset
from services import wiring
from services.archiver.archivist import Archivist, Terms
from services.settings import Settings, load
from tests.builders import a_completion, a_thumb
from tests.services.cli.calling import call, told

pytestmark = pytest.mark.usefixtures("home")

P = "sidecar-0"
EARLIER = datetime.now(UTC) - timedelta(hours=3)


def served(*numbers: int) -> list[AnyEvent]:
    """Completions and thumbs, three records each."""
    events: list[AnyEvent] = []
    for n in numbers:
        at = EARLIER + timedelta(seconds=n)
        numbered: dict[str, Any] = {"producer": "p", "at": at}
        events.append(a_completion(f"c{n}", seqs=(3 * n, 3 * n + 1), ended_at=at, **numbered))
        events.append(a_thumb(f"c{n}", seqs=(3 * n + 2,), **numbered))
    return events


def logged(events: Sequence[AnyEvent]) -> None:
    async def append() -> None:
        log = wiring.open_log(load(), partition=P)
        await log.append(events)
        await log.close()

    asyncio.run(append())


def archived(settings: Settings | None = None) -> None:
    """Archive all that the log has, as one more file."""

    async def archive() -> None:
        here = settings or load()
        log = wiring.open_log(here, partition=None)
        archivist = Archivist(
            P,
            event_log=log,
            archive=wiring.open_archive(here, wiring.open_store(here)),
            terms=Terms(file_bytes=2**30, rotate_seconds=60),
            clock=lambda: 0.0,
            now=lambda: datetime.now(UTC),
        )
        while await archivist.step():
            pass
        await archivist.finish()
        await log.close()

    asyncio.run(archive())


def test_the_status_of_a_whole_archive() -> None:
    """Nothing is missing, and everything is counted."""
    logged(served(*range(10)))
    archived()

    found = told("archive", "status")

    (one,) = found["partitions"]
    assert (one["partition"], one["rows"], one["fresh"], one["stopped"]) == (P, 20, 1, None)
    assert one["end"] == one["log_end"]
    assert found["completeness"]["seen"] == found["completeness"]["expected"] == 30
    assert P in call("archive", "status").stdout


def test_a_loss_without_a_word_fails_the_status() -> None:
    """Somebody has to look why: exit 1, for monitoring that only knows commands."""
    logged(served(0, 1, 3))
    archived()

    result = call("archive", "status", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["completeness"]["missing"] == {"p": 3}


def test_an_archive_is_verified_against_itself_and_the_log() -> None:
    """Every file read whole, every row held against the log."""
    logged(served(*range(5)))
    archived()
    logged(served(*range(5, 9)))
    archived()

    found = told("archive", "verify", "--log")

    assert (found["files"], found["rows"], found["damaged"]) == (2, 18, [])
    assert [one["same"] for one in found["compared"]] == [True]


def test_an_archive_made_anew_has_the_same_rows(home: Path, tmp_path: Path) -> None:
    """The log replayed from its start, into other files: the row hash is the same."""
    for start in (0, 5, 9):
        logged(served(*range(start, start + 4)))
        archived()
    call("archive", "compact", "--now")
    again = Settings(home=home, archive={"kind": "folder", "path": tmp_path / "again"})  # type: ignore[arg-type]  # pydantic reads it
    archived(again)

    found = told("archive", "verify", "--against", str(tmp_path / "again"))

    (one,) = found["compared"]
    assert one["same"]
    assert one["here"]["rows"] == one["there"]["rows"] == 24


def test_a_damaged_file_fails_the_verification(home: Path) -> None:
    """And is named."""
    logged(served(*range(50)))
    archived()
    (file,) = (home / "archive").rglob("*.parquet")
    raw = bytearray(file.read_bytes())
    raw[1_000] ^= 1
    file.write_bytes(raw)

    result = call("archive", "verify", "--json")

    assert result.exit_code == 1
    assert file.name in json.loads(result.stdout)["damaged"][0]["file"]


def test_a_file_that_is_gone_fails_status_and_verification(home: Path) -> None:
    """Until the archiver has written it again."""
    for n in range(3):
        logged(served(n))
        archived()
    sorted((home / "archive").rglob("*.parquet"))[1].unlink()

    before = [call("archive", name).exit_code for name in ("status", "verify")]
    archived()
    archived()

    assert before == [1, 1]
    assert [call("archive", name).exit_code for name in ("status", "verify")] == [0, 0]


def test_another_archive_that_has_nothing_in_common_is_no_proof(tmp_path: Path) -> None:
    """A misspelt folder must not look like success."""
    logged(served(1))
    archived()

    assert call("archive", "verify", "--against", str(tmp_path / "nothing")).exit_code == 1


def test_compaction_makes_one_file_of_many(home: Path) -> None:
    """Superseded files stay for the grace period, unless nobody may be reading."""
    for n in range(4):
        logged(served(n))
        archived()

    (first,) = told("archive", "compact")
    (second,) = told("archive", "compact", "--now")

    assert (first["sealed"], first["sealed_files"], first["waiting"]) == (4, 1, 4)
    assert (second["sealed"], second["removed"]) == (0, 4)
    assert len(list((home / "archive").rglob("*.parquet"))) == 1
    assert told("archive", "status")["partitions"][0]["rows"] == 8


def test_a_stopped_partition_goes_on_once_somebody_has_said_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Status names the remedy, the ledger keeps who and why."""
    monkeypatch.setenv("FEEDBACKLOOP_LOG__SEGMENT_BYTES", "4096")
    logged(served(0))
    archived()
    for n in range(1, 20):
        logged(served(n))
    asyncio.run(removed())
    stopped = call("archive", "status")

    resumed = told("archive", "resume", P, "--why", "outage", "--by", "ann")
    archived()

    assert stopped.exit_code == 1
    assert f"archive resume {P}" in stopped.output.replace("\n", " ")
    assert [(one["by"], one["why"]) for one in resumed] == [("ann", "outage")]
    assert told("archive", "ledger") == resumed
    assert call("archive", "verify").exit_code == 0


async def removed() -> None:
    """Let retention take all but the last segment."""
    log = wiring.open_log(load(), partition=None)
    await log.truncate(before=await log.end(P))
    assert (await log.beginning(P)) > Offset(P, 1_000)
    await log.close()


def test_a_partition_that_is_not_stopped_is_not_resumed() -> None:
    """Nobody may write a decision into the ledger that decides nothing."""
    logged(served(0))
    archived()

    assert call("archive", "resume", P, "--why", "x").exit_code == 1
    assert call("archive", "resume", P, "--why", " ").exit_code == 2


def test_files_are_named_for_other_readers(home: Path) -> None:
    """Spark and Trino read the same Parquet."""
    logged(served(0))
    archived()

    (path,) = told("archive", "files")

    assert Path(path).is_relative_to(home)
    assert Path(path).exists()


def test_an_analyst_asks_in_sql() -> None:
    """The share of liked answers by release, in one line."""
    logged(served(*range(4)))
    archived()

    found = told("sql", "SELECT release, avg(desirable::INT) AS liked FROM labels GROUP BY ALL")

    assert found == [{"release": "base", "liked": 1.0}]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("csv", "completion_id,messages\nc0,"),
        ("jsonl", '{"completion_id":"c0","messages":[{"role":"user","content":"2 + 2?"}]}\n'),
        ("table", "c0"),
    ],
)
def test_answers_come_in_the_form_that_is_asked_for(form: str, expected: str) -> None:
    """For people, for spreadsheets, for programs."""
    logged(served(0))
    archived()

    result = call("sql", "SELECT completion_id, messages FROM completions", "--format", form)

    assert result.exit_code == 0
    assert expected in result.stdout


def test_a_table_holds_what_people_wrote() -> None:
    """Of whatever length, and though it looks like markup: a terminal alone has a width."""
    said = "[/INST] " + "four " * 40 + "[red]end"
    logged([a_completion("c1", text=said)])
    archived()

    result = call("sql", 'SELECT completion_id, reply AS "[b]reply" FROM completions')

    assert result.exit_code == 0
    assert said in result.stdout
    assert "[b]reply" in result.stdout


def test_a_table_stops_where_nobody_reads_on() -> None:
    """And says that there is more."""
    logged(served(*range(5)))
    archived()

    result = call("sql", "SELECT completion_id FROM completions ORDER BY 1", "--limit", "3")

    assert "c2" in result.stdout
    assert "c3" not in result.stdout
    assert "first 3 rows" in result.output


def test_old_files_are_left_out_on_request() -> None:
    """A question about today needs no look at last year."""
    logged(served(0))
    archived()

    assert told("sql", "SELECT count(*) AS n FROM completions", "--since", "2000-01-01") == [
        {"n": 1}
    ]
    assert told("sql", "SELECT count(*) AS n FROM completions", "--since", "2999-01-01") == [
        {"n": 0}
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("SELEC 1",), 1),
        (("SELECT 1", "--format", "xml"), 2),
        (("SELECT 1", "--since", "yesterday"), 2),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(arguments: tuple[str, ...], code: int) -> None:
    """In one line, with a code that scripts understand."""
    result = call("sql", *arguments)

    assert (result.exit_code, result.output.startswith("error: ")) == (code, True)
