"""One daemon thread that runs blocking calls in order, awaited from any event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Worker:
    """A client that is not thread-safe lives on one of these.

    A daemon, unlike the threads of an executor: a process that ends does not wait for a broker.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    async def call(self, function: Callable[_P, _R], /, *args: _P.args, **options: _P.kwargs) -> _R:
        """Run ``function`` after all that was asked before; return or raise what it does."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_R] = loop.create_future()

        def run() -> None:
            result: Any = None
            error: BaseException | None = None
            try:
                result = function(*args, **options)
            except Exception as problem:  # noqa: BLE001  # raised again where it is awaited
                error = problem
            # A loop that has closed has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, answer, result, error)

        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name=self._name, daemon=True)
                self._thread.start()
        self._queue.put(run)
        return await answer

    def close(self) -> None:
        """End the thread after what it was asked. Safe to call twice; a later call starts anew."""
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _main(self) -> None:
        while (run := self._queue.get()) is not None:
            run()


def _settle(answer: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if answer.cancelled():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
