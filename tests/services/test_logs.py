"""What a log line tells of a failure that nobody has thought of."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.errors import LogUnavailable
from services import logs

WORDS = "I told my doctor"
_ENDING = f"""
import asyncio, logging, threading
import structlog
from services import logs

def fails():
    raise ValueError("{WORDS}")

def takes(words):
    fails()

def freed():
    try:
        yield
    finally:
        fails()

async def forgotten():
    loop = asyncio.get_running_loop()
    task = loop.create_task(asyncio.to_thread(fails))
    loop.call_soon(takes, "{WORDS}")
    await asyncio.wait([task])
    del task

logs.set_up()
try:
    fails()
except ValueError:
    structlog.get_logger().exception("ours")
    logging.getLogger("uvicorn").exception("a library's")
thread = threading.Thread(target=fails, name="worker")
thread.start()
thread.join()
asyncio.run(forgotten())
waiting = freed()
next(waiting)
del waiting
fails()
"""
_INTERRUPTED = f"""
from services import logs

logs.set_up()
try:
    raise ValueError("{WORDS}")
except ValueError:
    raise KeyboardInterrupt
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # our own
        [sys.executable, "-c", script], capture_output=True, check=False, text=True
    )


def caught(failing: Callable[[], object]) -> Exception:
    try:
        failing()
    except Exception as error:  # noqa: BLE001  # whatever it is
        return error
    raise AssertionError("it did not fail")


def raised(error: Exception, because: Exception | None = None) -> Exception:
    def failing() -> None:
        raise error from because

    return caught(failing)


def test_no_process_of_ours_says_what_an_exception_quotes() -> None:
    """Logs are read by more people, and kept longer, than anything that we redact."""
    ended = run(_ENDING)

    said = ended.stderr
    events = [json.loads(line)["event"] for line in said.splitlines() if line[0] == "{"]
    assert ended.returncode == 1
    assert WORDS not in said
    assert events == ["ours", "thread_crashed", "failed_unheard", "crashed"]
    assert "ERROR:asyncio:Exception in callback takes {'error': 'ValueError'" in said
    assert "ERROR:uvicorn:a library's {'error': 'ValueError'" in said
    assert "ERROR:asyncio:Task exception was never retrieved {'error': 'ValueError'" in said
    assert said.count("<string>:7 fails") == 7


def test_who_is_interrupted_does_not_say_what_they_dealt_with() -> None:
    """Python shows the exception in whose place the interruption came, and what it quotes."""
    ended = run(_INTERRUPTED)

    assert "KeyboardInterrupt" in ended.stderr
    assert WORDS not in ended.stderr


@given(st.text(min_size=4), st.text(min_size=4))
def test_what_an_exception_says_is_not_told(said: str, because: str) -> None:
    """Its type and the places that it passed are enough to find it."""
    error = raised(ValueError(f"<{said}>"), KeyError(f"<{because}>"))

    told = str(logs.told(error))

    assert f"<{said}>" not in told
    assert f"<{because}>" not in told


def test_where_it_came_from_and_what_led_to_it_is_told() -> None:
    """An operator has to find the line."""
    error = raised(ValueError("a"), caught(lambda: dict[str, int]()["b"]))

    told = logs.told(error)

    assert isinstance(told["places"], list)
    assert (told["error"], told["places"][-1].split()[1]) == ("ValueError", "failing")
    assert str(told["causes"]).startswith("['KeyError at test_logs.py:")


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), LogUnavailable("it is away")]
)
def test_what_the_system_says_or_we_say_of_a_service_is_told(error: Exception) -> None:
    """It is what an operator can mend, and holds nobody's words."""
    assert str(error) in str(logs.told(raised(error))["error"])


def test_a_line_without_an_exception_is_left_as_it_is() -> None:
    """Whoever passes on what is not there still gets their line."""
    event = {"event": "said", "exc_info": False, "n": 1}

    assert logs.without_words(None, "error", event) == {"event": "said", "n": 1}
    record = logging.LogRecord("a", logging.ERROR, "", 0, "said\n%s", ("more",), None)
    assert logs.WithoutWords().format(record) == "ERROR:a:said\nmore"
