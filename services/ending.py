"""How a process ends: its exit status, and the line that says why."""

from collections.abc import Callable

import structlog

from feedbackloop.errors import FeedbackLoopError, SettingsError

log = structlog.get_logger()


def exit_status(run: Callable[[], None]) -> int:
    """Run a process to its end; 0 if it ended in good order, 2 for wrong settings, else 1."""
    try:
        run()
    except SettingsError as error:
        log.error("settings", problem=str(error))  # noqa: TRY400  # a message, not a trace
        return 2
    except FeedbackLoopError as error:
        log.error("stopped", problem=str(error))  # noqa: TRY400  # a message, not a trace
        return 1
    return 0
