"""How a benchmark ends when it is told to: with everything that it has started."""

import signal
import sys


def end_on_sigterm() -> None:
    """Let SIGTERM unwind this process as an error does, so that its children are ended."""

    def end(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # once: what unwinds takes its time
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
