"""``python -m services.trainer --run R --step S --attempt N``: one step, then exit.

What came of it is in the attempt's folder. The exit code says only whether there are facts.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import structlog

from feedbackloop.errors import FeedbackLoopError, RunError, UnavailableError
from feedbackloop.events import RunId
from feedbackloop.training.port import Attempt
from feedbackloop.training.run import STEPS, Run, RunState
from services import logs, wiring
from services.settings import Settings, load
from services.trainer.steps import perform

log = structlog.get_logger()


class _Stopped(BaseException):
    """SIGTERM came. No Exception, so that no library takes it for an error of its own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the step that the arguments name; return 0 if it left facts, and 1 if a reason."""
    asked = _parse(arguments)
    settings = load()
    step = RunState(asked.step)
    attempt = wiring.open_attempt(settings, RunId(asked.run), step, attempt=asked.attempt)
    signal.signal(signal.SIGTERM, _stop)
    try:
        with attempt.claim():
            run = _find(settings, RunId(asked.run))
            facts = perform(settings, run, step, attempt)
    except _Stopped:
        return _fail(attempt, "it was asked to stop", retryable=True)
    except (UnavailableError, OSError, MemoryError) as error:
        return _fail(attempt, str(error) or type(error).__name__, retryable=True)
    except FeedbackLoopError as error:
        return _fail(attempt, str(error), retryable=False)
    except Exception as error:
        # The outermost frame of a process. A GPU out of memory is one of these.
        log.exception("step_crashed", run=asked.run, step=step)
        # Torch says what the machine lacks; what others say may quote a row.
        said = f"{type(error).__name__}: {error}"
        reason = said if isinstance(error, RuntimeError) else logs.brief(error)
        return _fail(attempt, reason, retryable=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    attempt.finish(facts)
    log.info("step_finished", run=asked.run, step=step, reason=facts.get("reason"))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.trainer", description=__doc__)
    parser.add_argument("--run", required=True, help="the run's id")
    parser.add_argument("--step", required=True, choices=[step.value for step in STEPS[:3]])
    parser.add_argument("--attempt", required=True, type=int, help="from 1")
    return parser.parse_args(arguments)


def _find(settings: Settings, run: RunId) -> Run:
    found = asyncio.run(_get(settings, run))
    if found is None:
        raise RunError(f"there is no run {run}")
    return found


async def _get(settings: Settings, run: RunId) -> Run | None:
    return await wiring.open_runs(settings).get(run)


def _fail(attempt: Attempt, reason: str, *, retryable: bool) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    attempt.fail(reason, retryable=retryable)
    log.error("step_failed", folder=attempt.folder.name, reason=reason, retryable=retryable)
    return 1


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise _Stopped


if __name__ == "__main__":
    logs.set_up()
    sys.exit(main())
