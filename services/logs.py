"""How a log line looks, and what never stands in one: anything that a person wrote.

The last line of a traceback is the exception's message, and that may quote whatever nobody could
deal with. So what was not raised on purpose leaves as its type and the places that it passed,
whoever tells of it: we, a library, or Python because a thread, an object or the process ends.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import structlog
from structlog.typing import EventDict, WrappedLogger

from feedbackloop.errors import SettingsError, UnavailableError

log = structlog.get_logger()

_STEPS = 6  # of a traceback
_CAUSES = 3
# Their words are the system's, or ours about settings and services.
_QUOTED = (OSError, ImportError, SettingsError, UnavailableError)


def set_up(*, debug: bool = False) -> None:
    """Write log lines to stderr: JSON, or for people if it is a terminal."""
    terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    level = logging.DEBUG if debug else logging.INFO
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            without_words,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(WithoutWords())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    sys.excepthook = _process_crashed
    threading.excepthook = _thread_crashed
    sys.unraisablehook = _failed_unheard


def places(error: BaseException) -> list[str]:
    """Say where an exception came from, innermost last, without what was in its hands."""
    steps = traceback.extract_tb(error.__traceback__)[-_STEPS:]
    return [f"{Path(step.filename).name}:{step.lineno} {step.name}" for step in steps]


def told(error: BaseException) -> Mapping[str, object]:
    """Return the fields that tell of an exception; those that led to it by type and place."""
    said: dict[str, object] = {"error": _named(error), "places": places(error)}
    causes: list[str] = []
    cause = _cause(error)
    while cause is not None and len(causes) < _CAUSES:
        causes.append(brief(cause))
        cause = _cause(cause)
    return said | ({"causes": causes} if causes else {})


def brief(error: BaseException) -> str:
    """Tell of an exception in half a line."""
    return " at ".join([_named(error), *places(error)[-1:]])


def without_words(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Put ``told`` in the place of a traceback; for structlog."""
    del logger, method
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    return {**event, **told(error)} if error is not None else event


class WithoutWords(logging.Formatter):
    """The same for what libraries log."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; with an exception, the first of the message alone.

        The second one of asyncio's shows a task, and with it the exception; a bracket, what a
        callback was given.
        """
        said = f"{record.levelname}:{record.name}:{record.getMessage()}"
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return said
        first, _, _ = said.partition("\n")
        if record.name == "asyncio":
            first, _, _ = first.partition("(")
        return f"{first} {told(error)}"


def _named(error: BaseException) -> str:
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, _QUOTED) else name


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _process_crashed(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        error.__context__ = None  # whatever was about to be dealt with
        sys.__excepthook__(kind, error, trace)
    else:
        log.critical("crashed", **told(error))


def _thread_crashed(crashed: threading.ExceptHookArgs) -> None:
    if crashed.exc_value is not None:
        name = crashed.thread.name if crashed.thread is not None else ""
        log.critical("thread_crashed", thread=name, **told(crashed.exc_value))


def _failed_unheard(failed: "sys.UnraisableHookArgs") -> None:
    # Where nobody could catch it: while an object was freed. The object itself may hold words, too.
    if failed.exc_value is not None:
        log.error("failed_unheard", **told(failed.exc_value))
